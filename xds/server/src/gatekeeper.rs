//! The port through which a host says who may see what.

use std::fmt;
use std::future;
use std::pin::Pin;
use std::sync::Arc;

use eastwest_xds::{Request, View};
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::node::Node;

/// Decides on every new stream: whether its client is let in, and what it gets to see.
#[tonic::async_trait]
pub trait Gatekeeper: Send + Sync + 'static {
    /// Called once per stream, on its first request. The node's words are claims: what a client is entitled to
    /// follows from who it is proven to be (XDS.md X53).
    ///
    /// # Errors
    /// Any status ends the stream with it; `UNAVAILABLE` if there is no configuration yet (XDS.md X49).
    async fn admit(&self, peer: &Peer, node: &Node) -> Result<Admission, Status>;

    /// Called with every request of a stream that was let in, before it is answered; whoever makes resources when they
    /// are asked for learns their names here.
    fn asked(&self, _request: &Request) {}
}

/// What is known of the other side before it says a word.
#[derive(Debug, Default)]
pub struct Peer {
    /// The request's headers, e.g. `authorization`.
    pub metadata: MetadataMap,
    /// What the transport attached to the request, e.g. the client certificate.
    pub extensions: http::Extensions,
}

/// Waits until a client may not stay, and says what it is told.
pub type Over = Pin<Box<dyn Future<Output = Status> + Send>>;

/// A client that was let in.
pub struct Admission {
    /// Who it is, for display; `None` on a plaintext port.
    pub identity: Option<String>,
    /// What it gets to see, now and later; only the latest value counts. If the sender is dropped, the stream ends
    /// with `UNAVAILABLE`.
    pub view: watch::Receiver<Arc<View>>,
    /// Ends the stream, for instance because what the client proved is over.
    pub over: Over,
}

impl Admission {
    /// An admission without end, for as long as there is a view.
    pub fn new(identity: Option<String>, view: watch::Receiver<Arc<View>>) -> Self {
        Self { identity, view, over: Box::pin(future::pending()) }
    }

    /// The same admission, until `over`.
    #[must_use]
    pub fn until(self, over: impl Future<Output = Status> + Send + 'static) -> Self {
        Self { over: Box::pin(over), ..self }
    }
}

/// Without the view, which may hold keys and is long in any case.
impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("identity", &self.identity).finish_non_exhaustive()
    }
}
