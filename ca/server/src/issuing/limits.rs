//! Rate limits, applied before anything expensive is done.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use eastwest_ca::{
    Caller,
    rate_limit::{Rate, RateLimiter},
};
use eastwest_io::accept::network;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::issuing::status::RequestError;

/// Most addresses and callers that have an entry of their own; all others share one.
const MAX_PEERS: usize = 16_384;
const MAX_CALLERS: usize = 65_536;

/// The limits of one caller or address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests of one caller, of certificates and of JWT-SVIDs each: of one pod if its token names it, else of one
    /// identity.
    pub requests: Rate,
    /// Failed proofs of one address, after which the proofs from it are checked one at a time.
    pub failures: Rate,
    /// Threads that verify requests and sign.
    pub signers: usize,
}

impl Default for Limits {
    /// 100 requests and 50 failed proofs a second, 1,000 and 500 at once; as many threads as there are cores.
    fn default() -> Self {
        let rate = |per_second: u32, burst: u32| Rate {
            per_second: NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN),
            burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
        };
        let signers = thread::available_parallelism().map_or(1, usize::from);
        Self { requests: rate(100, 1000), failures: rate(50, 500), signers }
    }
}

/// The owner of requests, for limits and fair turns: a pod, else an identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    identity: String,
    pod_uid: String,
}

impl Owner {
    pub(crate) fn of(caller: &Caller) -> Self {
        let pod_uid = caller.proof.pod().map(|pod| pod.uid.clone()).unwrap_or_default();
        Self { identity: caller.identity.to_string(), pod_uid }
    }
}

/// The right to have a proof checked; of a doubted address, with the time until it is not doubted any more.
#[derive(Debug)]
pub(crate) struct Turn<'a>(Option<(Option<SemaphorePermit<'a>>, Duration)>);

impl Turn<'_> {
    /// The answer to a proof that was wrong: who keeps failing is asked to wait.
    pub(crate) fn answer(&self, error: RequestError) -> RequestError {
        match &self.0 {
            Some((_, retry)) => RequestError::TooManyFailures { retry: *retry },
            None => error,
        }
    }
}

/// Applies the limits.
#[derive(Debug)]
pub(crate) struct Guard {
    failures: Mutex<RateLimiter<IpAddr>>,
    /// The one proof that is checked at a time of addresses whose proofs keep failing.
    doubted: Semaphore,
    requests: Mutex<RateLimiter<Owner>>,
    /// Counted apart, so that a caller that requests many tokens can still renew its certificate.
    tokens: Mutex<RateLimiter<Owner>>,
}

impl Guard {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            failures: Mutex::new(RateLimiter::new(limits.failures, MAX_PEERS)),
            doubted: Semaphore::new(1),
            requests: Mutex::new(RateLimiter::new(limits.requests, MAX_CALLERS)),
            tokens: Mutex::new(RateLimiter::new(limits.requests, MAX_CALLERS)),
        }
    }

    /// Waits until a proof from `peer` may be checked. Many clients share an address, so a good proof is never refused
    /// for the failures of others: it waits for its turn among theirs, while other addresses wait for nobody.
    pub(crate) async fn turn(&self, peer: Option<IpAddr>, now: Instant) -> Turn<'_> {
        match self.doubt(peer, now) {
            None => Turn(None),
            Some(retry) => Turn(Some((self.doubted.acquire().await.ok(), retry))),
        }
    }

    /// For how long proofs from `peer` are doubted, because too many have failed.
    fn doubt(&self, peer: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.check(network(peer?), now).err()
    }

    /// Counts a proof from `peer` that failed.
    pub(crate) fn failed(&self, peer: Option<IpAddr>, now: Instant) {
        let Some(peer) = peer else { return };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = failures.admit(network(peer), now); // what is too much already need not be counted
    }

    /// Counts a request of `owner` for a certificate, if it may ask.
    pub(crate) fn request(&self, owner: &Owner, now: Instant) -> Result<(), RequestError> {
        admit(&self.requests, owner, now)
    }

    /// Counts a request of `owner` for a JWT-SVID, if it may ask.
    pub(crate) fn token(&self, owner: &Owner, now: Instant) -> Result<(), RequestError> {
        admit(&self.tokens, owner, now)
    }
}

fn admit(requests: &Mutex<RateLimiter<Owner>>, owner: &Owner, now: Instant) -> Result<(), RequestError> {
    let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
    requests.admit(owner.clone(), now).map_err(|retry| RequestError::TooManyRequests { retry })
}
