//! The SPIFFE Workload API on the agent's socket, beside SDS (SPIFFE Workload API and Workload Endpoint; CA.md S49
//! to S64).
//!
//! As for SDS, the mode of the socket lets only the workload open it. A stream receives the whole state at once, and
//! the whole state again whenever a part of it changes.
//!
//! | state of the agent | answer |
//! |---|---|
//! | a certificate is held | the workload's identity and bundles |
//! | none yet | Unavailable: try again soon |
//! | none, because the CA refuses this workload | PermissionDenied |

mod jwt;
mod security_header;
mod state;
mod x509;

use eastwest_proto::spiffe::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
    spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::interceptor::InterceptedService};

pub(crate) use self::state::Sources;
use self::state::WorkloadState;
use crate::certificate::client::CaClient;

/// The service of the Workload API.
pub(crate) struct WorkloadApi {
    sources: Sources,
    client: CaClient,
    stop: CancellationToken,
}

/// The service for a server; it requires the security header.
pub(crate) type WorkloadApiService =
    InterceptedService<SpiffeWorkloadApiServer<WorkloadApi>, fn(Request<()>) -> Result<Request<()>, Status>>;

type Answers<T> = ReceiverStream<Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

impl WorkloadApi {
    /// Serves what `sources` contain, and tokens that `client` requests from the control plane; streams end with
    /// `stop`.
    pub(crate) fn new(sources: Sources, client: CaClient, stop: CancellationToken) -> Self {
        Self { sources, client, stop }
    }

    /// The service for a server.
    pub(crate) fn into_service(self) -> WorkloadApiService {
        SpiffeWorkloadApiServer::with_interceptor(self, security_header::require)
    }

    /// A stream of what `make` returns: at once, and again whenever it has changed.
    fn follow<T, F>(&self, make: F) -> Answer<Answers<T>>
    where
        T: Clone + PartialEq + Send + 'static,
        F: Fn(&WorkloadState) -> Result<T, Status> + Send + 'static,
    {
        let mut sources = self.sources.clone();
        let mut sent = make(&sources.now()?)?;
        let (sender, receiver) = mpsc::channel(1);
        let stop = self.stop.clone();
        let following = async move {
            let mut next = Some(sent.clone());
            loop {
                if let Some(next) = next.take()
                    && sender.send(Ok(next)).await.is_err()
                {
                    return;
                }
                tokio::select! {
                    goes_on = sources.changed() => if !goes_on { return },
                    () = sender.closed() => return,
                }
                // After an error, what was sent stays in force.
                let made = sources.now().and_then(|known| make(&known));
                next = made.ok().filter(|made| *made != sent);
                sent = next.clone().unwrap_or(sent);
            }
        };
        tokio::spawn(async move { stop.run_until_cancelled(following).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
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
        let known = self.sources.clone().now()?;
        jwt::identities(&self.client, &known, request.into_inner()).await.map(Response::new)
    }

    async fn fetch_jwt_bundles(&self, _: Request<JwtBundlesRequest>) -> Answer<Self::FetchJWTBundlesStream> {
        self.follow(jwt::bundles)
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Answer<ValidateJwtsvidResponse> {
        let known = self.sources.clone().now()?;
        let now = (self.sources.clock)().into();
        jwt::validate(&known, request.get_ref(), now).map(Response::new)
    }
}
