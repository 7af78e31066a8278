//! The SPIFFE Workload API on the agent's socket, beside SDS (SPIFFE Workload API and Workload Endpoint; ca.md
//! section 4, rows 49 to 64).
//!
//! The socket's mode is the authentication, as for SDS: whoever may open it is the workload. A stream gets all
//! there is at once, and all of it again whenever some of it changes.
//!
//! | state of the agent | answer |
//! |---|---|
//! | a certificate is held | the workload's identity and bundles |
//! | none yet | Unavailable: try again soon |
//! | none, for the CA refuses this workload | PermissionDenied |

mod security_header;
mod x509;

use std::sync::Arc;

use eastwest_proto::spiffe::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::interceptor::InterceptedService};

use crate::certificate::{
    rotation::{Held, WallClock},
    svid::Svid,
};

/// The service of the Workload API.
pub(crate) struct WorkloadApi {
    held: Held,
    clock: WallClock,
    stop: CancellationToken,
}

/// The service as it is put on a server, its security header demanded.
pub(crate) type Guarded =
    InterceptedService<SpiffeWorkloadApiServer<WorkloadApi>, fn(Request<()>) -> Result<Request<()>, Status>>;

type Answers<T> = ReceiverStream<Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

impl WorkloadApi {
    /// Serves what is `held`; streams end with `stop`.
    pub(crate) fn new(held: Held, clock: WallClock, stop: CancellationToken) -> Self {
        Self { held, clock, stop }
    }

    /// The service for a server.
    pub(crate) fn guarded(self) -> Guarded {
        SpiffeWorkloadApiServer::with_interceptor(self, security_header::demand)
    }

    /// A stream of what `make` gives: at once, and again whenever it has changed.
    fn follow<T, F>(&self, make: F) -> Answer<Answers<T>>
    where
        T: Clone + PartialEq + Send + 'static,
        F: Fn(&Svid) -> Result<T, Status> + Send + 'static,
    {
        let mut held = self.held.clone();
        let mut sent = make(&*current(&mut held, &self.clock)?)?;
        let (sender, receiver) = mpsc::channel(1);
        let (clock, stop) = (self.clock.clone(), self.stop.clone());
        let following = async move {
            let mut next = Some(sent.clone());
            loop {
                if let Some(next) = next.take()
                    && sender.send(Ok(next)).await.is_err()
                {
                    return;
                }
                tokio::select! {
                    changed = held.svid.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
                // What was sent stays good until there is something newer.
                let made = current(&mut held, &clock).and_then(|svid| make(&svid));
                next = made.ok().filter(|made| *made != sent);
                sent = next.clone().unwrap_or(sent);
            }
        };
        tokio::spawn(async move { stop.run_until_cancelled(following).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// The certificate held.
///
/// # Errors
/// Unavailable or PermissionDenied when there is none, or none that is still valid.
fn current(held: &mut Held, clock: &WallClock) -> Result<Arc<Svid>, Status> {
    let svid = held.svid.borrow_and_update().clone();
    let why = match svid {
        Some(svid) if !svid.expired(clock()) => return Ok(svid),
        Some(_) => "the certificate held has expired",
        None => "there is no certificate yet",
    };
    let trouble = held.trouble.borrow();
    let detail = trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
    match &*trouble {
        Some(trouble) if trouble.denied => Err(Status::permission_denied(format!("{why}{detail}"))),
        _ => Err(Status::unavailable(format!("{why}{detail}"))),
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;

    async fn fetch_x509svid(&self, _: Request<X509svidRequest>) -> Answer<Self::FetchX509SVIDStream> {
        self.follow(x509::identities)
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Answer<Self::FetchX509BundlesStream> {
        self.follow(x509::bundles)
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Answer<JwtsvidResponse> {
        if request.get_ref().audience.iter().all(String::is_empty) {
            return Err(Status::invalid_argument("audience: name who shall accept the token"));
        }
        Err(no_jwt())
    }

    async fn fetch_jwt_bundles(&self, _: Request<JwtBundlesRequest>) -> Answer<Self::FetchJWTBundlesStream> {
        Err(no_jwt())
    }

    async fn validate_jwtsvid(&self, _: Request<ValidateJwtsvidRequest>) -> Answer<ValidateJwtsvidResponse> {
        Err(no_jwt())
    }
}

fn no_jwt() -> Status {
    Status::unimplemented("this agent serves no JWT-SVIDs; use the X.509-SVID of FetchX509SVID")
}
