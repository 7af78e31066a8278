//! Ends a connection whose client has nothing more to prove by it: the certificate shown is fixed with the handshake,
//! so a client that has a better one must connect again.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};

/// From the order to the end: statuses of streams still go out, and a client that heard one leaves by itself.
const GRACE: Duration = Duration::from_secs(5);

/// The order to end one connection, from whoever knows why.
#[derive(Debug, Clone, Default)]
pub struct HangUp(Arc<Notify>);

impl HangUp {
    /// The connection ends five seconds after the first call.
    pub fn soon(&self) {
        self.0.notify_one();
    }

    /// The end of the connection that takes this order.
    pub(crate) fn line(&self) -> Line {
        let ordered = Arc::clone(&self.0);
        Line(Some(Box::pin(async move {
            ordered.notified().await;
            sleep(GRACE).await;
        })))
    }
}

/// Whether the connection is still to be read.
pub(crate) struct Line(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Line {
    /// Ready once the connection has ended, and from then on.
    pub(crate) fn poll_dead(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(waiting) = &mut self.0 {
            std::task::ready!(waiting.as_mut().poll(context));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line(dead: {})", self.0.is_none())
    }
}
