//! `istio.v1.auth.IstioCertificateService` (ca.md section 1).

use std::{sync::Arc, thread, time::Duration};

use eastwest_ca::{Caller, IssuedCertificate, Issuer as _, VerifiedCsr, chain};
use eastwest_proto::istio::v1::auth::{
    IstioCertificateRequest, IstioCertificateResponse,
    istio_certificate_service_server::IstioCertificateService,
};
use prost_types::{Struct, value::Kind};
use time::OffsetDateTime;
use tokio::{sync::Semaphore, task, time::timeout};
use tonic::{Request, Response, Status};

use crate::{
    authn::{Authenticator, Credentials},
    metrics::{Metrics, count},
    snapshot::{Current, Snapshot},
    status::RequestError,
};

/// Longest that a request waits for its answer: clients of istio's agent set no deadline of their own.
const DEADLINE: Duration = Duration::from_secs(10);
/// Metadata key by which a node's proxy asks for the identity of one of its pods.
const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";

/// The service that signs workload certificates.
pub struct CertificateService {
    current: Current,
    authenticator: Arc<dyn Authenticator>,
    metrics: Arc<Metrics>,
    /// Signing runs beside the threads that serve streams, on as many as there are cores.
    signers: Arc<Semaphore>,
}

impl CertificateService {
    /// Answers whom `authenticator` recognises with what `current` has at that moment; counts in `metrics`.
    pub(crate) fn new(
        current: Current,
        authenticator: Arc<dyn Authenticator>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { current, authenticator, metrics, signers: Arc::new(Semaphore::new(cores)) }
    }

    async fn create(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<IstioCertificateResponse, RequestError> {
        let (metadata, extensions, message) = request.into_parts();
        let credentials = Credentials { metadata: &metadata, extensions: &extensions };
        let now = OffsetDateTime::now_utc();
        let caller = self.authenticator.authenticate(&credentials, now).await?;
        if asks_for_another(message.metadata.as_ref()) {
            return Err(RequestError::Impersonation);
        }
        let permit = Arc::clone(&self.signers).acquire_owned().await.map_err(|_| RequestError::Worker)?;
        let snapshot = self.current.load();
        let worker = task::spawn_blocking(move || {
            let answer = issue(&snapshot, &caller, &message, now);
            drop(permit);
            answer
        });
        let cert_chain = worker.await.map_err(|_| RequestError::Worker)??;
        Ok(IstioCertificateResponse { cert_chain })
    }

    fn note(&self, error: &RequestError) {
        match error {
            RequestError::Unauthenticated(_) | RequestError::Impersonation => {
                count(&self.metrics.authentication_failures);
                tracing::info!(%error, "certificate refused");
            }
            RequestError::Csr(_) | RequestError::Refused(_) => {
                count(&self.metrics.signing_failures);
                tracing::info!(%error, "certificate refused");
            }
            RequestError::Issue(_) | RequestError::Busy | RequestError::Worker => {
                count(&self.metrics.signing_failures);
                tracing::error!(%error, "certificate not issued");
            }
        }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        count(&self.metrics.requests);
        let answer = timeout(DEADLINE, self.create(request)).await;
        answer
            .unwrap_or(Err(RequestError::Busy))
            .map(Response::new)
            .map_err(|error| {
                self.note(&error);
                Status::from(&error)
            })
            .inspect(|_| count(&self.metrics.issued))
    }
}

/// The pipeline from an authenticated caller to the answer.
fn issue(
    snapshot: &Snapshot,
    caller: &Caller,
    message: &IstioCertificateRequest,
    now: OffsetDateTime,
) -> Result<Vec<String>, RequestError> {
    let grant = snapshot.authorizer.authorize(caller, message.validity_duration)?;
    let csr = VerifiedCsr::from_pem(&message.csr)?;
    let leaf = snapshot.issuer.issue(&grant, &csr, now)?;
    log_issued(caller, &csr, &leaf);
    Ok(chain::elements(&leaf, snapshot.issuer.as_ref(), &snapshot.roots))
}

fn log_issued(caller: &Caller, csr: &VerifiedCsr, leaf: &IssuedCertificate) {
    tracing::info!(
        identity = %caller.identity,
        serial = leaf.serial,
        not_after = %leaf.not_after,
        proof = caller.proof.kind(),
        key = %csr.key().kind(),
        key_sha256 = csr.key().fingerprint(),
        "certificate issued"
    );
}

/// Whether the request names an identity of its own; a missing or empty one is none.
fn asks_for_another(metadata: Option<&Struct>) -> bool {
    let value = metadata.and_then(|metadata| metadata.fields.get(IMPERSONATED_IDENTITY));
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => false,
        Some(Kind::StringValue(identity)) => !identity.is_empty(),
        Some(_) => true,
    }
}
