//! The SPIFFE Workload API on the agent's socket, beside SDS (SPIFFE Workload API and Workload Endpoint; CA.md
//! S49 to S64).
//!
//! The socket's mode is the authentication, as for SDS: whoever may open it is the workload. A stream gets all
//! there is at once, and all of it again whenever some of it changes.
//!
//! | state of the agent | answer |
//! |---|---|
//! | a certificate is held | the workload's identity and bundles |
//! | none yet | Unavailable: try again soon |
//! | none, for the CA refuses this workload | PermissionDenied |

mod jwt;
mod known;
mod security_header;
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

use self::known::Known;
pub(crate) use self::known::Sources;
use crate::certificate::client::CaClient;

/// The service of the Workload API.
pub(crate) struct WorkloadApi {
    sources: Sources,
    client: CaClient,
    stop: CancellationToken,
}

/// The service as it is put on a server, its security header demanded.
pub(crate) type Guarded =
    InterceptedService<SpiffeWorkloadApiServer<WorkloadApi>, fn(Request<()>) -> Result<Request<()>, Status>>;

type Answers<T> = ReceiverStream<Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

impl WorkloadApi {
    /// Serves what `sources` hold, and tokens that `client` gets from the control plane; streams end with `stop`.
    pub(crate) fn new(sources: Sources, client: CaClient, stop: CancellationToken) -> Self {
        Self { sources, client, stop }
    }

    /// The service for a server.
    pub(crate) fn guarded(self) -> Guarded {
        SpiffeWorkloadApiServer::with_interceptor(self, security_header::demand)
    }

    /// A stream of what `make` gives: at once, and again whenever it has changed.
    fn follow<T, F>(&self, make: F) -> Answer<Answers<T>>
    where
        T: Clone + PartialEq + Send + 'static,
        F: Fn(&Known) -> Result<T, Status> + Send + 'static,
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
                // What was sent stays good until there is something newer.
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
