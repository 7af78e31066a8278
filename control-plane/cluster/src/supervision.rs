//! Tasks that must not end unnoticed, and work that is done only while this process leads.

use std::time::Duration;

use tokio::{sync::watch, task::JoinSet, time::sleep};
use tracing::error;

/// The pause before a task that panicked is started again.
const RESTART: Duration = Duration::from_secs(1);

/// Runs `start` to its end. If it panics, it is started again. It is aborted when the future is dropped.
pub(crate) async fn supervise<F>(task: &'static str, start: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let mut running = JoinSet::new();
        running.spawn(start());
        match running.join_next().await {
            Some(Err(ended)) if ended.is_panic() => {
                error!(task, "a task panicked and is started again");
                sleep(RESTART).await;
            }
            _ => return,
        }
    }
}

/// Runs `work` while this process leads, from the beginning each time that it becomes the leader; `rests` is called
/// whenever it does not lead. Returns when `work` does, or when nobody elects leaders any more.
pub(crate) async fn while_leading<F>(mut leads: watch::Receiver<bool>, rests: impl Fn(), work: impl Fn() -> F)
where
    F: Future<Output = ()>,
{
    loop {
        rests();
        if leads.wait_for(|leads| *leads).await.is_err() {
            return;
        }
        tokio::select! {
            biased;
            lost = leads.wait_for(|leads| !*leads) => if lost.is_err() { return },
            () = work() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again() {
        let runs = Arc::new(AtomicUsize::new(0));
        supervise("test", || {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            async move { assert!(run >= 2, "a panic that the test wants") }
        })
        .await;
        assert_eq!(runs.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn work_ends_with_the_lead_and_begins_anew() {
        let (lead, leads) = watch::channel(false);
        let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        struct Ends(Arc<AtomicUsize>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (theirs, drops) = (begun.clone(), ended.clone());
        let task = tokio::spawn(async move {
            let work = || {
                theirs.fetch_add(1, Ordering::Relaxed);
                let ends = Ends(drops.clone());
                async move {
                    let _ends = ends;
                    std::future::pending::<()>().await;
                }
            };
            while_leading(leads, || (), work).await;
        });
        let settle = || sleep(Duration::from_millis(1));
        settle().await;
        assert_eq!(begun.load(Ordering::Relaxed), 0, "it does not lead");
        for round in 1..=2 {
            lead.send_replace(true);
            settle().await;
            assert_eq!(begun.load(Ordering::Relaxed), round);
            lead.send_replace(false);
            settle().await;
            assert_eq!(ended.load(Ordering::Relaxed), round);
        }
        drop(lead);
        task.await.unwrap();
    }
}
