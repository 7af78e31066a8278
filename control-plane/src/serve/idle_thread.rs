//! Work that may take long and is not urgent.

use std::{io, thread};

use tokio::sync::oneshot;

/// The lowest priority of a thread.
const LOWEST: i32 = 19;

/// Runs `work` on a thread of its own that yields to all others: what proxies wait for is done on those.
///
/// # Errors
/// The system gives no thread, or `work` panicked.
pub(super) async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (reply, answer) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Of this thread alone. Without it the work is done all the same.
        let _ = rustix::process::nice(LOWEST);
        let _ = reply.send(work());
    })?;
    answer.await.map_err(|_| io::Error::other("the thread ended before its work was done"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_thread_of_the_work_has_a_low_priority() {
        let of_work = run("work", || rustix::process::getpriority_process(None)).await.unwrap().unwrap();
        let ours = rustix::process::getpriority_process(None).unwrap();
        assert!(of_work == LOWEST && ours < LOWEST, "{of_work} {ours}");
        let failed: io::Result<()> = run("work", || panic!("on purpose")).await;
        assert!(failed.is_err());
    }
}
