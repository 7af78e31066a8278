//! Shutdown of a server: the first signal drains, the second one ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long streams and requests may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// Cancelled by the first SIGTERM or SIGINT.
#[derive(Clone)]
pub(super) struct Shutdown(CancellationToken);

impl Shutdown {
    /// Listens for the signals. SIGHUP, SIGUSR1 and SIGUSR2 end nothing: there is nothing to read again, for files are
    /// followed.
    pub(super) fn on_signals() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self(CancellationToken::new());
        for kind in [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()] {
            let mut ignored = signal(kind)?;
            tokio::spawn(async move {
                while ignored.recv().await.is_some() {
                    tracing::info!("a signal is ignored: files are followed, and SIGTERM drains");
                }
            });
        }
        let token = shutdown.0.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if token.is_cancelled() {
                    std::process::exit(1);
                }
                token.cancel();
                tracing::info!("draining; a second signal ends at once");
            }
        });
        Ok(shutdown)
    }

    /// Cancelled when the shutdown begins; streams end with it.
    pub(super) fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// Whether the shutdown has begun.
    pub(super) fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the shutdown begins.
    pub(super) fn requested(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }

    /// Waits for `work`. After the shutdown has begun it waits for a limited time; connections that are still open then
    /// are closed.
    pub(super) async fn bound(&self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let deadline = async {
            self.0.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            ended = work => ended,
            () = deadline => {
                tracing::warn!("some connections did not end within {DRAIN:?} and are cut");
                Ok(())
            }
        }
    }
}
