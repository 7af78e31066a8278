//! What the agents of workloads ask beyond certificates: `eastwest.v1.WorkloadIdentity`.

use std::{sync::Arc, time::Duration};

use eastwest_ca::{Caller, jwt::SvidKey};
use eastwest_proto::eastwest::v1::{
    CreateJwtSvidRequest, CreateJwtSvidResponse, FollowTrustBundlesRequest, TrustBundles,
    workload_identity_server::{WorkloadIdentity, WorkloadIdentityServer},
};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Published;
use crate::{
    authn::{Authenticator, Credentials},
    status,
};

/// Life of a JWT-SVID: it cannot be taken back.
const SVID_LIFE: Duration = Duration::from_secs(300);
/// Most audiences of a token, and the longest one in bytes.
const MAX_AUDIENCES: usize = 16;
const MAX_AUDIENCE_BYTES: usize = 255;

/// The service, for ports with TLS alone.
pub struct IdentityService {
    authenticator: Arc<dyn Authenticator>,
    bundles: watch::Receiver<Arc<Published>>,
    svid_key: Arc<SvidKey>,
    stop: CancellationToken,
}

impl IdentityService {
    /// Serves `bundles`, and tokens signed with `svid_key`, to whom `authenticator` knows; streams end with `stop`.
    pub fn new(
        authenticator: Arc<dyn Authenticator>,
        bundles: watch::Receiver<Arc<Published>>,
        svid_key: Arc<SvidKey>,
        stop: CancellationToken,
    ) -> Self {
        Self { authenticator, bundles, svid_key, stop }
    }

    /// Who asks.
    async fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let credentials = Credentials { metadata: request.metadata(), extensions: request.extensions() };
        let caller = self.authenticator.authenticate(&credentials, OffsetDateTime::now_utc()).await;
        caller.map_err(|error| {
            tracing::info!(%error, "trust bundles or JWT-SVID refused");
            status::unauthenticated()
        })
    }

    /// The service for a server.
    pub fn server(self) -> WorkloadIdentityServer<Self> {
        WorkloadIdentityServer::new(self)
    }
}

#[tonic::async_trait]
impl WorkloadIdentity for IdentityService {
    type FollowTrustBundlesStream = ReceiverStream<Result<TrustBundles, Status>>;

    async fn follow_trust_bundles(
        &self,
        request: Request<FollowTrustBundlesRequest>,
    ) -> Result<Response<Self::FollowTrustBundlesStream>, Status> {
        self.caller(&request).await?;
        let (sender, receiver) = mpsc::channel(1);
        let (mut bundles, stop) = (self.bundles.clone(), self.stop.clone());
        let following = async move {
            loop {
                let message = message(&bundles.borrow_and_update());
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = bundles.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        };
        tokio::spawn(async move { stop.run_until_cancelled(following).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn create_jwt_svid(
        &self,
        request: Request<CreateJwtSvidRequest>,
    ) -> Result<Response<CreateJwtSvidResponse>, Status> {
        let caller = self.caller(&request).await?;
        let audience = request.into_inner().audience;
        check_audience(&audience)?;
        let now = OffsetDateTime::now_utc();
        // A token outlives neither what proved the identity nor the longest life of its certificates.
        let left =
            caller.proof.expires().map_or(SVID_LIFE, |end| Duration::try_from(end - now).unwrap_or_default());
        let life = left.min(SVID_LIFE).min(caller.max_life.unwrap_or(SVID_LIFE));
        let svid = self.svid_key.sign(&caller.identity, &audience, life, now);
        let svid = svid.map_err(|error| {
            tracing::error!(%error, "JWT-SVID not signed");
            Status::internal("the CA could not sign")
        })?;
        let proof = caller.proof.kind();
        tracing::info!(identity = %caller.identity, ?audience, seconds = life.as_secs(), proof, "JWT-SVID issued");
        Ok(Response::new(CreateJwtSvidResponse { svid }))
    }
}

/// Whether a token can be made for `audience`.
fn check_audience(audience: &[String]) -> Result<(), Status> {
    let fits = |name: &String| !name.is_empty() && name.len() <= MAX_AUDIENCE_BYTES;
    if audience.is_empty() || audience.len() > MAX_AUDIENCES || !audience.iter().all(fits) {
        return Err(Status::invalid_argument(format!(
            "audience: name 1 to {MAX_AUDIENCES} who shall accept the token, none empty or longer than \
             {MAX_AUDIENCE_BYTES} bytes"
        )));
    }
    Ok(())
}

fn message(bundles: &Published) -> TrustBundles {
    let document = |(domain, bundle): (&eastwest_model::TrustDomain, &eastwest_ca::SpiffeBundle)| {
        (domain.to_string(), bundle.to_json())
    };
    TrustBundles { bundles: bundles.iter().map(document).collect() }
}
