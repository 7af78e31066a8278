//! Authorization of streams by the host: which client may open one, and its view.

use std::fmt;
use std::future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use eastwest_xds::{Request, TypeUrl, View};
use tokio::sync::watch;
use tonic::Status;

use crate::node::Node;
use crate::status;

/// Decides whether a client may open a stream.
#[tonic::async_trait]
pub trait StreamAuthorizer: Send + Sync + 'static {
    /// Authenticates the client of a new stream, before anything of its requests is read. `call` has the headers of the
    /// gRPC call (e.g. `authorization`) and what the transport attached to it (e.g. the client certificate).
    ///
    /// # Errors
    /// Any status ends the stream with it.
    async fn authenticate(&self, call: &tonic::Request<()>) -> Result<Box<dyn AuthenticatedClient>, Status>;
}

/// The client of a new stream.
#[tonic::async_trait]
pub trait AuthenticatedClient: Send {
    /// Its address, for limits by address.
    fn address(&self) -> Option<IpAddr> {
        None
    }

    /// Whether the client may see the state of all clients (XDS.md X66). A host that has nothing to say allows nobody.
    ///
    /// # Errors
    /// Any status ends the call with it.
    fn may_inspect(&self) -> Result<(), Status> {
        Err(status::no_inspector())
    }

    /// Decides which view the client gets, on the first request of the stream. The content of `node` is a claim: what a
    /// client is entitled to follows from its authenticated identity (XDS.md X53).
    ///
    /// # Errors
    /// Any status ends the stream with it; `UNAVAILABLE` if there is no configuration yet (XDS.md X49).
    async fn authorize(self: Box<Self>, node: &Node) -> Result<AuthorizedStream, Status>;
}

#[tonic::async_trait]
impl<F: FnOnce(&Node) -> Result<AuthorizedStream, Status> + Send> AuthenticatedClient for F {
    async fn authorize(self: Box<Self>, node: &Node) -> Result<AuthorizedStream, Status> {
        self(node)
    }
}

/// Completes when a stream must end, with the status that the client gets.
pub type StreamEnd = Pin<Box<dyn Future<Output = Status> + Send>>;

/// Follows one stream for its host. It is dropped when the stream ends.
pub trait StreamObserver: Send {
    /// Called with every request, before it is answered. A host that makes resources on demand learns their names here.
    fn requested(&mut self, _request: &Request) {}

    /// Called before the first request of a type is answered. A host that makes a type on demand learns of it here.
    fn requested_first(&mut self, _type_url: &TypeUrl) {}
}

/// A stream whose client was authorized.
pub struct AuthorizedStream {
    /// The authenticated identity, for display; `None` on a plaintext port.
    pub identity: Option<String>,
    /// What the client sees, now and later; only the latest value counts. If the sender is dropped, the stream ends
    /// with `UNAVAILABLE`.
    pub view: watch::Receiver<Arc<View>>,
    /// Ends the stream, for instance because the client's certificate expired.
    pub end: StreamEnd,
    /// Follows the stream.
    pub observer: Option<Box<dyn StreamObserver>>,
}

impl AuthorizedStream {
    /// A stream without an end of its own: it lasts as long as there is a view.
    pub fn new(identity: Option<String>, view: watch::Receiver<Arc<View>>) -> Self {
        Self { identity, view, end: Box::pin(future::pending()), observer: None }
    }

    /// The same stream, followed by `observer`.
    #[must_use]
    pub fn observed_by(self, observer: impl StreamObserver + 'static) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    /// The same stream, which lasts until `end` completes.
    #[must_use]
    pub fn until(self, end: impl Future<Output = Status> + Send + 'static) -> Self {
        Self { end: Box::pin(end), ..self }
    }
}

/// Without the view, which may hold keys and is long in any case.
impl fmt::Debug for AuthorizedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizedStream").field("identity", &self.identity).finish_non_exhaustive()
    }
}
