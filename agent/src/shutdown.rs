//! Shutdown of the agent: graceful first, then immediate.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two requests to shut down; the second one overrides the first.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Drain, let the command end, then exit.
    pub requested: CancellationToken,
    /// Kill the command and exit at once.
    pub forced: CancellationToken,
}

impl Shutdown {
    /// Neither is requested.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requested by the first SIGTERM or SIGINT, forced by the second. Needs a tokio runtime. SIGHUP, SIGUSR1 and SIGUSR2
    /// end nothing: the command gets them, while there is one.
    ///
    /// # Errors
    /// The process may not handle these signals.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        for kind in [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()] {
            let mut ignored = signal(kind)?;
            tokio::spawn(async move { while ignored.recv().await.is_some() {} });
        }
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
