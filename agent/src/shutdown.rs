//! How the agent is asked to end: first gracefully, then at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two requests to end; the second outranks the first.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Drain, let the command end, then end.
    pub requested: CancellationToken,
    /// Kill the command and end at once.
    pub forced: CancellationToken,
}

impl Shutdown {
    /// Nobody asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asked by the first SIGTERM or SIGINT, forced by the second. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the process may not handle these signals.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let tokens = [shutdown.requested.clone(), shutdown.forced.clone()];
        tokio::spawn(async move {
            for token in tokens {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(shutdown)
    }
}
