//! `istio.v1.auth.IstioCertificateService` (CA.md C1).
//!
//! ```text
//! limits of the peer → authenticate → limits of the caller → a signer's turn:
//!     authorize → verify the CSR → profile, sign, self-check → ledger → answer
//! ```

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use eastwest_ca::{
    Caller, Issuer as _, VerifiedCsr, chain,
    ledger::{Issued, Refused, Requester},
};
use eastwest_io::PeerConnection;
use eastwest_proto::istio::v1::auth::{
    IstioCertificateRequest, IstioCertificateResponse,
    istio_certificate_service_server::IstioCertificateService,
};
use time::OffsetDateTime;
use tokio::{
    sync::{broadcast, oneshot},
    time::timeout,
};
use tonic::{Extensions, Request, Response, Status, metadata::MetadataMap};

use crate::{
    authn::{AuthnError, Credentials, impersonation::Impersonation, peer_authenticator::PeerAuthenticator},
    issuing::{
        limits::{Guard, Owner},
        signers::Signers,
        status::RequestError,
    },
    ledger::Writer,
    metrics::Metrics,
    trust::ca_state::{CaState, Current},
};

/// Longest time until a request is answered: Istio's agent sets no deadline.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The context that all requests of a CA share.
pub(crate) struct RequestContext {
    pub(crate) current: Current,
    pub(crate) guard: Guard,
    pub(crate) signers: Signers,
    pub(crate) ledger: Arc<Writer>,
    pub(crate) metrics: Metrics,
    pub(crate) refusals: broadcast::Sender<RefusedRequest>,
}

/// A request of a pod that was refused although the pod's identity was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRequest {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// What is wrong with the request.
    pub reason: String,
}

impl RefusedRequest {
    /// `None` if the request is not known to come from a pod.
    fn of(requester: &Requester, reason: String) -> Option<Self> {
        let (namespace, _) = requester.caller.as_ref()?.as_workload().ok()?;
        let (pod, uid) = (requester.pod.clone()?, requester.pod_uid.clone()?);
        Some(Self { namespace: namespace.to_owned(), pod, uid, reason })
    }
}

impl RequestContext {
    /// Applies the limits of the peer and authenticates it. Fills in `requester` as far as is known, also on failure.
    pub(crate) async fn recognise(
        &self,
        peers: &PeerAuthenticator,
        (metadata, extensions): (&MetadataMap, &Extensions),
        requester: &mut Requester,
        now: OffsetDateTime,
    ) -> Result<Caller, RequestError> {
        let peer = address(extensions);
        *requester = Requester::stranger(peer);
        let turn = self.guard.turn(peer, Instant::now()).await;
        let caller =
            peers.authenticate(&Credentials { metadata, extensions }, now).await.map_err(|error| {
                if matches!(error, AuthnError::Unavailable(_)) {
                    return error.into();
                }
                self.guard.failed(peer, Instant::now());
                turn.answer(error.into())
            })?;
        *requester = Requester::caller(&caller, peer);
        Ok(caller)
    }
}

/// The service that signs workload certificates.
pub struct CertificateService {
    context: Arc<RequestContext>,
    peers: PeerAuthenticator,
    impersonation: Arc<Impersonation>,
}

/// A certificate that is in the ledger, and the answer with it.
struct Answer {
    issued: Issued,
    cert_chain: Vec<String>,
}

impl CertificateService {
    /// Issues certificates to callers that `peers` authenticates, and to the workloads that `impersonation` allows.
    pub(crate) fn new(
        context: Arc<RequestContext>,
        peers: PeerAuthenticator,
        impersonation: Arc<Impersonation>,
    ) -> Self {
        Self { context, peers, impersonation }
    }

    /// Issues a certificate. Fills in `requester` as far as is known, also on failure.
    async fn create(
        &self,
        request: Request<IstioCertificateRequest>,
        requester: &mut Requester,
    ) -> Result<Answer, RequestError> {
        let (metadata, extensions, message) = request.into_parts();
        let now = OffsetDateTime::now_utc();
        let caller = self.context.recognise(&self.peers, (&metadata, &extensions), requester, now).await?;
        let owner = Owner::of(&caller);
        self.context.guard.request(&owner, Instant::now())?;
        let caller = self.impersonation.speak(caller, message.metadata.as_ref())?;
        *requester = Requester::caller(&caller, requester.peer);

        let (reply, answer) = oneshot::channel();
        let (current, ledger) = (self.context.current.clone(), Arc::clone(&self.context.ledger));
        let task = Task { current, ledger, caller, requester: requester.clone(), message, now };
        self.context.signers.submit(owner, move || task.run(reply)).map_err(|_| RequestError::QueueFull)?;
        answer.await.map_err(|_| RequestError::Worker)?
    }

    fn note(&self, error: &RequestError, status: &Status, requester: Requester) {
        let metrics = &self.context.metrics;
        match error {
            RequestError::Unauthenticated(_) | RequestError::Impersonation(_) => {
                metrics.authentication_failures.inc();
                tracing::info!(%error, "certificate refused");
            }
            RequestError::Csr(_) | RequestError::Refused(_) | RequestError::Audience(_) => {
                metrics.signing_failures.inc();
                tracing::info!(%error, "certificate refused");
            }
            RequestError::TooManyFailures { .. } => {
                metrics.throttled_peers.inc();
                tracing::debug!(%error, "certificate refused");
            }
            RequestError::TooManyRequests { .. } | RequestError::QueueFull => {
                metrics.throttled_callers.inc();
                tracing::debug!(%error, "certificate refused");
            }
            RequestError::Issue(_)
            | RequestError::Token(_)
            | RequestError::Busy
            | RequestError::Worker
            | RequestError::Unproven(_)
            | RequestError::Unwritten(_) => {
                metrics.signing_failures.inc();
                tracing::error!(%error, "certificate not issued");
            }
        }
        if matches!(
            error,
            RequestError::Csr(_)
                | RequestError::Refused(_)
                | RequestError::Audience(_)
                | RequestError::Impersonation(_)
        ) && let Some(refused) = RefusedRequest::of(&requester, error.to_string())
        {
            // Fails if nobody follows the refusals.
            let _ = self.context.refusals.send(refused);
        }
        let code = format!("{:?}", status.code());
        self.context.ledger.refused(Refused::new(code, error.to_string(), requester));
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (begin, metrics) = (Instant::now(), &self.context.metrics);
        metrics.requests.inc();
        let mut requester = Requester::default();
        let answer = timeout(DEADLINE, self.create(request, &mut requester)).await;
        match answer.unwrap_or(Err(RequestError::Busy)) {
            Ok(Answer { issued, cert_chain }) => {
                metrics.issued(&issued, begin.elapsed());
                // Without a ledger that is kept, its record is in the log already.
                if self.context.ledger.is_kept() {
                    log_issued(&issued);
                }
                Ok(Response::new(IstioCertificateResponse { cert_chain }))
            }
            Err(error) => {
                let status = Status::from(&error);
                self.note(&error, &status, requester);
                Err(status)
            }
        }
    }
}

/// The work of a signing thread for one request. It does not hold the context, because dropping the context waits for
/// the signing threads.
struct Task {
    current: Current,
    ledger: Arc<Writer>,
    caller: Caller,
    requester: Requester,
    message: IstioCertificateRequest,
    now: OffsetDateTime,
}

impl Task {
    /// Issues, and answers when the record is in the ledger. Does nothing if the requester no longer waits.
    fn run(self, reply: oneshot::Sender<Result<Answer, RequestError>>) {
        if reply.is_closed() {
            return;
        }
        let ledger = Arc::clone(&self.ledger);
        let ca_state = self.current.load();
        match self.issue(&ca_state) {
            // If the requester has gone meanwhile, the certificate is discarded.
            Ok((issued, cert_chain)) => ledger.issued(issued, |issued| {
                let _ = reply.send(issued.map(|issued| Answer { issued, cert_chain }).map_err(Into::into));
            }),
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn issue(self, ca_state: &CaState) -> Result<(Issued, Vec<String>), RequestError> {
        let grant = ca_state.authorizer.authorize(&self.caller, self.message.validity_duration)?;
        let csr = VerifiedCsr::from_pem(&self.message.csr)?;
        let grant = grant.with_names_of(&csr)?;
        let leaf = ca_state.issuer.issue(&grant, &csr, self.now)?;
        let chain = chain::elements(&leaf, ca_state.issuer.as_ref(), &ca_state.roots);
        Ok((Issued::new(&leaf, &grant, &csr, self.requester), chain))
    }
}

fn log_issued(issued: &Issued) {
    let Requester { proof, node, pod, .. } = &issued.requester;
    tracing::info!(
        identity = %issued.identity,
        names = (!issued.names.is_empty()).then(|| issued.names.join(", ")),
        serial = issued.serial,
        not_after = %issued.not_after,
        proof,
        node,
        pod,
        key = issued.key,
        key_sha256 = issued.key_sha256,
        "certificate issued"
    );
}

/// Where a request came from.
fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<PeerConnection>()?.remote.map(|remote| remote.ip())
}
