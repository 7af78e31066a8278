//! Closing one connection on request. A client certificate is fixed with the handshake, so a client that holds a better
//! one must connect again.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

/// Time from the request to the end. Statuses of streams are still sent, and a client that received one closes the
/// connection itself.
const GRACE: Duration = Duration::from_secs(5);

/// Closes one connection. Clones close the same one.
#[derive(Debug, Clone, Default)]
pub struct ConnectionCloser(Arc<Notify>);

impl ConnectionCloser {
    /// Closes the connection five seconds after the first call.
    pub fn close_soon(&self) {
        self.0.notify_one();
    }

    /// The connection's side. At most one per connection.
    pub(crate) fn closing(&self) -> Closing {
        let requested = Arc::clone(&self.0);
        Closing::when(async move {
            requested.notified().await;
            sleep(GRACE).await;
        })
    }
}

/// Whether a connection is closed from this side.
pub(crate) struct Closing(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Closing {
    /// Closed when `event` completes.
    pub(crate) fn when(event: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Some(Box::pin(event)))
    }

    /// Ready once the connection is closed, and from then on.
    pub(crate) fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(waiting) = &mut self.0 {
            std::task::ready!(waiting.as_mut().poll(context));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Closing(closed: {})", self.0.is_none())
    }
}
