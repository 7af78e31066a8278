//! Panics, each of which is a defect: what one costs, and when the process must end for it.
//!
//! A panic in the work for one request costs that request ([`caught`]). A part of the process that everything depends on,
//! such as the thread that writes the ledger, may have been left half done; it is not started again, but the process ends
//! ([`vital`], [`fatal`]), and whoever runs it starts it anew. All panics are counted.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use thiserror::Error;
use tokio::sync::watch;

/// Exit status of a process that ends because of a defect (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_STATUS: u8 = 70;

static COUNT: AtomicU64 = AtomicU64::new(0);
/// The part whose panic ends the process.
static FATAL: LazyLock<watch::Sender<Option<&'static str>>> = LazyLock::new(|| watch::Sender::new(None));

/// A part of the process that must not end has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "{0} ended unexpectedly; this is a defect of eastwest, and the process ends so that it can be started anew"
)]
pub struct Defect(pub &'static str);

/// Counts all panics of this process from now on, and logs each.
pub fn report_panics() {
    panic::set_hook(Box::new(|panic| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        tracing::error!("{panic}; this is a defect of eastwest");
    }));
}

/// How many panics there were since [`report_panics`].
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Does one piece of work of `part`. If it panics, that is logged, and the caller goes on.
pub fn caught<T>(part: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    if done.is_err() {
        tracing::error!(part, "one piece of work is lost");
    }
    done.ok()
}

/// Does the work of a part that everything depends on. If it panics, the process ends, see [`fatal`].
pub fn vital<T>(part: &'static str, work: impl FnOnce() -> T) -> Option<T> {
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    if done.is_err() {
        end(part);
    }
    done.ok()
}

/// Notes that `part` has ended and that the process must end, too.
pub fn end(part: &'static str) {
    tracing::error!(
        part,
        "a panic of a part that must not end: the process ends; this is a defect of eastwest"
    );
    FATAL.send_if_modified(|known| {
        let first = known.is_none();
        known.get_or_insert(part);
        first
    });
}

/// The part whose panic ends the process, if there is one.
pub fn is_fatal() -> Option<Defect> {
    FATAL.borrow().map(Defect)
}

/// Waits until a part that must not end has panicked.
pub async fn fatal() -> Defect {
    let mut parts = FATAL.subscribe();
    // The sender is never dropped.
    let part = parts.wait_for(Option::is_some).await.ok().and_then(|part| *part);
    Defect(part.unwrap_or("a part of the process"))
}

/// Panics once where the variable `EASTWEST_TEST_PANIC` names `part`: a fault for tests. It is not in release builds.
#[cfg(debug_assertions)]
pub fn fault(part: &str) {
    static ARMED: LazyLock<std::sync::Mutex<Option<String>>> =
        LazyLock::new(|| std::sync::Mutex::new(std::env::var("EASTWEST_TEST_PANIC").ok()));
    let armed = {
        let mut armed = ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        armed.take_if(|armed| armed == part).is_some()
    };
    assert!(!armed, "a fault that a test asked for: {part}");
}

/// Nothing: faults are not in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn fault(_: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_of_work_is_lost_and_counted() {
        report_panics();
        let before = count();
        assert_eq!(caught("test", || panic!("on purpose")), None::<()>);
        assert_eq!(caught("test", || 7), Some(7));
        assert!(count() > before);
    }

    #[tokio::test]
    async fn a_vital_part_ends_the_process() {
        assert_eq!(vital("test", || 7), Some(7));
        let waiting = tokio::spawn(fatal());
        assert_eq!(vital("the test", || panic!("on purpose")), None::<()>);
        assert_eq!(waiting.await.unwrap(), Defect("the test"));
        assert_eq!(is_fatal(), Some(Defect("the test")));
    }
}
