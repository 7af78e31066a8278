//! The service `eastwest.v1.WorkloadIdentity` for agents of workloads: trust bundles and JWT-SVIDs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use eastwest_ca::{
    Caller,
    jwt::{SignedSvid, SvidKey, TokenKeyError},
    ledger::{JwtSvid, Refused, Requester, Wanted},
};
use eastwest_proto::eastwest::v1::{
    CreateJwtSvidRequest, CreateJwtSvidResponse, FollowTrustBundlesRequest, TrustBundles,
    workload_identity_server::{WorkloadIdentity, WorkloadIdentityServer},
};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Published;
use crate::{
    authn::{Credentials, peer_authenticator::PeerAuthenticator},
    issuing::{
        certificate_authority::CertificateAuthority,
        limits::Owner,
        service::{DEADLINE, RequestContext},
        status::{self, RequestError},
    },
};

/// Lifetime of a JWT-SVID. It is short, because a JWT-SVID cannot be revoked.
const SVID_LIFE: Duration = Duration::from_secs(300);
/// Most audiences of a token, and the longest one in bytes.
const MAX_AUDIENCES: usize = 16;
const MAX_AUDIENCE_BYTES: usize = 255;

/// The service, for ports with TLS alone.
pub struct IdentityService {
    context: Arc<RequestContext>,
    peers: PeerAuthenticator,
    bundles: watch::Receiver<Arc<Published>>,
    svid_key: Arc<SvidKey>,
    stop: CancellationToken,
}

impl IdentityService {
    /// Serves `bundles`, and tokens signed with `svid_key`, to callers that `ca` authenticates. `stop` ends streams.
    pub fn new(
        ca: &CertificateAuthority,
        bundles: watch::Receiver<Arc<Published>>,
        svid_key: Arc<SvidKey>,
        stop: CancellationToken,
    ) -> Self {
        let peers = ca.peer_authenticator();
        Self { context: ca.context(), peers, bundles, svid_key, stop }
    }

    /// Signs a token and records it in the ledger. Fills in `requester` as far as is known, also on failure.
    async fn create(
        &self,
        request: Request<CreateJwtSvidRequest>,
        requester: &mut Requester,
    ) -> Result<(SignedSvid, JwtSvid), RequestError> {
        let (metadata, extensions, message) = request.into_parts();
        let now = OffsetDateTime::now_utc();
        let caller = self.context.recognise(&self.peers, (&metadata, &extensions), requester, now).await?;
        let owner = Owner::of(&caller);
        self.context.guard.token(&owner, Instant::now())?;
        check_audience(&message.audience)?;
        let (reply, answer) = oneshot::channel();
        let (key, ledger, requester) =
            (Arc::clone(&self.svid_key), Arc::clone(&self.context.ledger), requester.clone());
        let task = move || match sign(&key, caller, message.audience, requester, now) {
            Ok((svid, record)) => ledger.jwt_svid(record, |written| {
                let _ = reply.send(written.map(|record| (svid, record)).map_err(RequestError::from));
            }),
            Err(error) => drop(reply.send(Err(error.into()))),
        };
        self.context.signers.submit(owner, task).map_err(|_| RequestError::QueueFull)?;
        answer.await.map_err(|_| RequestError::Worker)?
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
        let credentials = Credentials { metadata: request.metadata(), extensions: request.extensions() };
        let (_, validity) = self.peers.admit(&credentials).await.map_err(|error| {
            tracing::info!(%error, "trust bundles refused");
            status::unauthenticated()
        })?;
        let (sender, receiver) = mpsc::channel(1);
        let (mut bundles, stop) = (self.bundles.clone(), self.stop.clone());
        let following = async move {
            let mut over = std::pin::pin!(validity.over());
            loop {
                let message = message(&bundles.borrow_and_update());
                if sender.send(Ok(message)).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = bundles.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                    status = &mut over => {
                        let _ = sender.send(Err(status)).await; // fails when the agent has left
                        return;
                    }
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
        let (mut requester, metrics) = (Requester::default(), &self.context.metrics);
        let answer = timeout(DEADLINE, self.create(request, &mut requester)).await;
        match answer.unwrap_or(Err(RequestError::Busy)) {
            Ok((svid, record)) => {
                metrics.jwt_svids.inc();
                let JwtSvid { identity, jti, audience, ttl, requester, .. } = record;
                // Without a ledger that is kept, its record is in the log already.
                if self.context.ledger.is_kept() {
                    tracing::info!(%identity, jti, ?audience, seconds = ttl, proof = requester.proof, "JWT-SVID issued");
                }
                Ok(Response::new(CreateJwtSvidResponse { svid: svid.token }))
            }
            Err(error) => {
                metrics.jwt_svids_refused.inc();
                tracing::info!(%error, "JWT-SVID refused");
                let status = Status::from(&error);
                let refused = Refused::new(format!("{:?}", status.code()), error.to_string(), requester);
                self.context.ledger.refused(refused.of(Wanted::JwtSvid));
                Err(status)
            }
        }
    }
}

/// A token for `caller`, and its record. It outlives neither what proved the identity nor the longest life of its
/// certificates.
fn sign(
    key: &SvidKey,
    caller: Caller,
    audience: Vec<String>,
    requester: Requester,
    now: OffsetDateTime,
) -> Result<(SignedSvid, JwtSvid), TokenKeyError> {
    let left =
        caller.proof.expires().map_or(SVID_LIFE, |end| Duration::try_from(end - now).unwrap_or_default());
    let life = left.min(SVID_LIFE).min(caller.max_life.unwrap_or(SVID_LIFE));
    let svid = key.sign(&caller.identity, &audience, life, now)?;
    let record = JwtSvid::new(&svid, caller.identity, audience, life.as_secs(), requester);
    Ok((svid, record))
}

/// Whether a token can be made for `audience`.
fn check_audience(audience: &[String]) -> Result<(), RequestError> {
    let fits = |name: &String| !name.is_empty() && name.len() <= MAX_AUDIENCE_BYTES;
    if audience.is_empty() || audience.len() > MAX_AUDIENCES || !audience.iter().all(fits) {
        return Err(RequestError::Audience(format!(
            "name 1 to {MAX_AUDIENCES} who shall accept the token, none empty or longer than {MAX_AUDIENCE_BYTES} bytes"
        )));
    }
    Ok(())
}

fn message(bundles: &Published) -> TrustBundles {
    let document = |(domain, bundle): (&eastwest_identity::TrustDomain, &eastwest_ca::SpiffeBundle)| {
        (domain.to_string(), bundle.to_json())
    };
    TrustBundles { bundles: bundles.iter().map(document).collect() }
}
