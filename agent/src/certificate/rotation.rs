//! The loop that keeps a certificate: first issuance, renewal, retries.

use std::{
    fmt::{self, Display},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::{sync::watch, time::sleep};

use super::{schedule, svid::Svid};

/// The time of day; simulated in tests.
pub(crate) type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Longest sleep before the time of day is read again, because it may jump (suspend, NTP).
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// Requests certificates.
pub(crate) trait Issue {
    /// Why a request failed.
    type Error: Display + Send;

    /// Whether `error` means that the CA refuses this workload an identity.
    fn is_denial(error: &Self::Error) -> bool;

    /// Requests a certificate. `current` is the last one; `attempt` counts the attempts since then, from zero.
    fn issue(
        &self,
        current: Option<&Svid>,
        attempt: u32,
    ) -> impl Future<Output = Result<Svid, Self::Error>> + Send;
}

/// The result of the loop, for the rest of the agent.
#[derive(Clone)]
pub(crate) struct HeldCertificate {
    /// The newest certificate; an expired one stays until there is a newer one.
    pub(crate) svid: watch::Receiver<Option<Arc<Svid>>>,
    /// Why the last attempt failed; `None` after a success.
    pub(crate) failure: watch::Receiver<Option<IssueFailure>>,
    /// Counters since the start.
    pub(crate) counters: Arc<Counters>,
}

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub(crate) struct IssueFailure {
    /// For logs and messages.
    reason: String,
    /// The CA refused this workload an identity.
    pub(crate) denied: bool,
}

impl Display for IssueFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Counters {
    /// Certificates obtained, the first one included.
    pub(crate) issued: AtomicU64,
    /// Attempts that failed.
    pub(crate) failed: AtomicU64,
}

/// The loop; see [`Rotation::run`].
pub(crate) struct Rotation<I> {
    issuer: I,
    clock: WallClock,
    svid: watch::Sender<Option<Arc<Svid>>>,
    failure: watch::Sender<Option<IssueFailure>>,
    counters: Arc<Counters>,
}

impl<I: Issue> Rotation<I> {
    /// A loop that has not started, and its result.
    pub(crate) fn new(issuer: I, clock: WallClock) -> (Self, HeldCertificate) {
        let (svid, svid_seen) = watch::channel(None);
        let (failure, failure_seen) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let held = HeldCertificate { svid: svid_seen, failure: failure_seen, counters: counters.clone() };
        (Self { issuer, clock, svid, failure, counters }, held)
    }

    /// Requests certificates for ever: renews at half of the lifetime and retries after a failure. The last certificate
    /// stays published meanwhile. Drop the future to end it.
    pub(crate) async fn run(self) {
        let mut attempt = 0;
        loop {
            let current = self.svid.borrow().clone();
            match self.issuer.issue(current.as_deref(), attempt).await {
                Ok(svid) => {
                    attempt = 0;
                    let renewal = schedule::renew_at((self.clock)(), svid.not_after, random());
                    let begins = svid.not_before;
                    self.publish(svid);
                    self.sleep_until(renewal, begins).await;
                }
                Err(error) => {
                    attempt = attempt.saturating_add(1);
                    let left = current.map(|svid| svid.not_after.duration_since((self.clock)()));
                    let left = left.map(Result::unwrap_or_default);
                    let pause = schedule::retry_after(attempt, left, random());
                    self.report(&error, attempt, left, pause);
                    sleep(pause).await;
                }
            }
        }
    }

    fn publish(&self, svid: Svid) {
        tracing::info!(identity = %svid.identity, serial = svid.serial, "certificate obtained");
        self.counters.issued.fetch_add(1, Ordering::Relaxed);
        self.failure.send_replace(None);
        self.svid.send_replace(Some(Arc::new(svid)));
    }

    fn report(&self, error: &I::Error, attempt: u32, left: Option<Duration>, pause: Duration) {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        let state = match left {
            None => "there is no certificate yet".to_owned(),
            Some(Duration::ZERO) => "the certificate held has expired".to_owned(),
            Some(left) => format!("the certificate held is valid for {}s more", left.as_secs()),
        };
        tracing::warn!(attempt, "no new certificate: {error} ({state}; next attempt in {pause:.1?})");
        let failure = IssueFailure { reason: error.to_string(), denied: I::is_denial(error) };
        self.failure.send_replace(Some(failure));
    }

    /// Sleeps until `wake`, or until the clock was set back to before `begins`, when nobody takes the certificate.
    async fn sleep_until(&self, wake: SystemTime, begins: SystemTime) {
        loop {
            let now = (self.clock)();
            match wake.duration_since(now) {
                Ok(left) if !left.is_zero() && now >= begins => sleep(left.min(LONGEST_SLEEP)).await,
                _ => return,
            }
        }
    }
}

/// A random value in `0..1`; 0.5 if the system has no random numbers.
pub(crate) fn random() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(ring::error::Unspecified) => 0.5,
    }
}

#[cfg(test)]
mod tests;
