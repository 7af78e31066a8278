//! The two gRPC services, as tower services.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use eastwest_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DiscoveryRequest, aggregated_discovery_service_server,
};
use eastwest_proto::envoy::service::secret::v3::secret_discovery_service_server;
use eastwest_xds::TypeUrl;
use http::{HeaderValue, Request, Response, header};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;

use crate::authorizer::StreamAuthorizer;
use crate::body::SessionBody;
use crate::client_status::{ClientStatus, ClientStatusServer};
use crate::connections::Connections;
use crate::message::DiscoveryMessage;
use crate::session::{self, Host};
use crate::status;

/// Serves xDS streams; cheap to clone.
#[derive(Clone)]
pub struct XdsServer {
    authorizer: Arc<dyn StreamAuthorizer>,
    connections: Arc<Connections>,
    shutdown: CancellationToken,
    identifier: Arc<str>,
}

impl XdsServer {
    /// A server whose streams are authorized by `authorizer`, and end with `UNAVAILABLE` when `shutdown` is cancelled.
    pub fn new(authorizer: Arc<dyn StreamAuthorizer>, shutdown: CancellationToken) -> Self {
        Self { authorizer, connections: Arc::default(), shutdown, identifier: Arc::from("") }
    }

    /// Lists its streams in `connections`, together with those of another server, e.g. of another port.
    #[must_use]
    pub fn sharing(mut self, connections: &Arc<Connections>) -> Self {
        self.connections = Arc::clone(connections);
        self
    }

    /// Answers debug types in the name of `identifier`, the `control_plane.identifier` of responses.
    #[must_use]
    pub fn identified_by(mut self, identifier: &str) -> Self {
        self.identifier = identifier.into();
        self
    }

    /// The open streams.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// `AggregatedDiscoveryService`: all types on one stream, both variants (XDS.md X1).
    pub fn aggregated(&self) -> AggregatedDiscovery {
        AggregatedDiscovery(self.clone())
    }

    /// `SecretDiscoveryService`: secrets only, both variants. The unary method is not served.
    pub fn secrets(&self) -> SecretDiscovery {
        SecretDiscovery(self.clone())
    }

    /// `ClientStatusDiscoveryService`: what each client has, for those who may see it (XDS.md X67).
    pub fn client_status(&self) -> ClientStatusServer {
        ClientStatusServer::new(ClientStatus::new(
            Arc::clone(&self.authorizer),
            Arc::clone(&self.connections),
        ))
    }

    fn open<M: DiscoveryMessage>(&self, request: Request<Body>, only: Option<TypeUrl>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let encoding = head.headers.get("grpc-encoding");
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return status::compressed().into_http();
        }
        let headers = MetadataMap::from_headers(head.headers);
        let call = tonic::Request::from_parts(headers, head.extensions, ());
        let host = Host {
            authorizer: Arc::clone(&self.authorizer),
            connections: Arc::clone(&self.connections),
            shutdown: self.shutdown.clone(),
            only,
            identifier: Arc::clone(&self.identifier),
        };
        let (outbox, inbox) = mpsc::channel(1);
        let session = Box::pin(session::serve::<M>(host, call, body, outbox));
        let mut response = Response::new(Body::new(SessionBody::new(session, inbox)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`.
#[derive(Clone)]
pub struct AggregatedDiscovery(XdsServer);

/// `envoy.service.secret.v3.SecretDiscoveryService`.
#[derive(Clone)]
pub struct SecretDiscovery(XdsServer);

impl NamedService for AggregatedDiscovery {
    const NAME: &'static str = aggregated_discovery_service_server::SERVICE_NAME;
}

impl NamedService for SecretDiscovery {
    const NAME: &'static str = secret_discovery_service_server::SERVICE_NAME;
}

impl Service<Request<Body>> for AggregatedDiscovery {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(match method(&request) {
            "StreamAggregatedResources" => self.0.open::<DiscoveryRequest>(request, None),
            "DeltaAggregatedResources" => self.0.open::<DeltaDiscoveryRequest>(request, None),
            _ => status::no_such_method(request.uri().path()).into_http(),
        }))
    }
}

impl Service<Request<Body>> for SecretDiscovery {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let only = Some(TypeUrl::SECRET);
        ready(Ok(match method(&request) {
            "StreamSecrets" => self.0.open::<DiscoveryRequest>(request, only),
            "DeltaSecrets" => self.0.open::<DeltaDiscoveryRequest>(request, only),
            _ => status::no_such_method(request.uri().path()).into_http(),
        }))
    }
}

/// The last part of `/package.Service/Method`; the router has checked the rest.
fn method(request: &Request<Body>) -> &str {
    request.uri().path().rsplit('/').next().unwrap_or_default()
}
