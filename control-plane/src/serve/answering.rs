//! Questions of the debug pages, answered beside what proxies wait for: few at a time, on threads of the lowest priority.

use std::io;

use thiserror::Error;
use tokio::sync::Semaphore;

use super::idle_thread;

/// How many are worked on at a time.
const AT_ONCE: usize = 1;
/// How many may be there, those that wait included.
const WAITING: usize = 32;

/// Why a question is not answered now.
#[derive(Debug, Error)]
pub(super) enum Unanswered {
    /// Others wait already.
    #[error("{WAITING} questions are being answered or wait already: ask again in a moment")]
    Busy,
    /// The thread.
    #[error("the question cannot be answered: {0}")]
    Failed(#[from] io::Error),
}

/// Where questions wait.
pub(super) struct Answering {
    places: Semaphore,
    turns: Semaphore,
}

impl Default for Answering {
    fn default() -> Self {
        Self { places: Semaphore::new(WAITING), turns: Semaphore::new(AT_ONCE) }
    }
}

impl Answering {
    /// Runs `work` when it is its turn. A client that goes while it waits gives up its place.
    ///
    /// # Errors
    /// Too many wait, or the thread fails.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let _place = self.places.try_acquire().map_err(|_| Unanswered::Busy)?;
        let _turn = self.turns.acquire().await.map_err(|_| Unanswered::Busy)?;
        Ok(idle_thread::run("page", work).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    #[tokio::test]
    async fn questions_wait_for_their_turn_and_a_flood_is_turned_away() {
        let answering = Arc::new(Answering::default());
        let (go_on, waits) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let answering = Arc::clone(&answering);
            async move { answering.run(move || waits.recv().is_ok()).await.unwrap() }
        });
        while answering.turns.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (1..WAITING)
            .map(|number| {
                let answering = Arc::clone(&answering);
                tokio::spawn(async move { answering.run(move || number).await.unwrap() })
            })
            .collect();
        while answering.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(answering.run(|| ()).await, Err(Unanswered::Busy)));
        go_on.send(()).unwrap();
        assert!(first.await.unwrap());
        for (number, other) in (1..).zip(others) {
            assert_eq!(other.await.unwrap(), number);
        }
        assert!(answering.run(|| ()).await.is_ok());
    }
}
