//! The Lease that elects the one replica that writes. Every replica serves and signs.
//!
//! The rules are those of client-go's leader election, so that the Lease means to others what they know. `elector` decides
//! (without clock and network), `lease` is the object, and this module runs both.

mod bystander;
mod elector;
mod lease;

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use eastwest_kubernetes::Api;
use futures_util::FutureExt as _;
use time::OffsetDateTime;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, sleep_until, timeout},
};

pub use self::bystander::watch_for_leader;
use self::{
    elector::{Act, Answer, Elector, Times},
    lease::Lease,
};
use crate::{
    collection::{Collection, Failure},
    micro_time::micro_time,
};

/// The name of the Lease.
pub const LEASE: &str = "eastwest-leader";

/// The longest time that one request may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The time between two warnings that are equal.
const REPEAT: Duration = Duration::from_secs(60);
/// The pause before a task that ended is started again.
const RESTART: Duration = Duration::from_secs(1);

/// Takes part in the election for as long as it lives. Without [`Self::release`], another replica leads only when the
/// Lease has run out.
pub struct Election {
    release: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    decided: watch::Receiver<bool>,
}

impl Election {
    /// Takes part in the election of `namespace` as `identity`, which no other replica may have: see [`identity`]. `leads`
    /// is told whether this replica leads.
    ///
    /// The API does not have to be available yet. Must be called within a tokio runtime.
    pub fn start(api: &Api, namespace: &str, identity: String, leads: watch::Sender<bool>) -> Self {
        let times = Times::default();
        let (release, released) = oneshot::channel();
        let leases = Collection::leases(api.client(), namespace, ANSWER.min(times.deadline));
        let (decides, decided) = watch::channel(false);
        let candidate = Candidate { leases, namespace: namespace.to_owned(), identity, times, decides };
        let task = tokio::spawn(supervise(candidate, Leads(leads), released));
        Self { release: Some(release), task, decided }
    }

    /// Waits until it is known which replica leads. If it is this one, `leads` says so.
    pub async fn decided(&self) {
        // Fails only if the task has ended; then nobody leads here.
        let _ = self.decided.clone().wait_for(|decided| *decided).await;
    }

    /// Stops to lead at once, and gives the Lease up so that another replica leads soon. Takes at most 5 s.
    pub async fn release(mut self) {
        if let Some(release) = self.release.take() {
            let _ = release.send(()); // fails only if the task has ended
        }
        if timeout(ANSWER, &mut self.task).await.is_err() {
            tracing::warn!("the Lease {LEASE} could not be given up in time; it runs out by itself");
        }
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An identity that nobody else has: the name of the pod or host, and something random.
pub fn identity(name: &str) -> String {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    format!("{name}_{:016x}", RandomState::new().build_hasher().finish())
}

/// What tells others whether we lead; says that we do not when it is dropped.
struct Leads(watch::Sender<bool>);

impl Leads {
    fn tell(&self, leads: bool) -> bool {
        self.0.send_if_modified(|now| std::mem::replace(now, leads) != leads)
    }
}

impl Drop for Leads {
    fn drop(&mut self) {
        self.tell(false);
    }
}

/// Runs the candidate until it is released; if it panics, it begins anew.
async fn supervise(candidate: Candidate, leads: Leads, mut released: oneshot::Receiver<()>) {
    loop {
        let run = AssertUnwindSafe(candidate.run(&leads, &mut released)).catch_unwind().await;
        leads.tell(false);
        if run.is_ok() {
            return;
        }
        tracing::error!("the task of the leader election panicked and is started again");
        sleep(RESTART).await;
    }
}

struct Candidate {
    leases: Collection,
    namespace: String,
    identity: String,
    times: Times,
    /// Whether it was known once who leads.
    decides: watch::Sender<bool>,
}

impl Candidate {
    /// Ends when `released` says so, or its sender is gone.
    async fn run(&self, leads: &Leads, released: &mut oneshot::Receiver<()>) {
        let mut elector = Elector::new(self.identity.clone(), self.times, Instant::now());
        let mut complaints = Complaints::default();
        loop {
            let now = Instant::now();
            let until = elector.leads_until(now);
            self.tell(leads, until.is_some(), &elector);
            let other = |holder: String| !holder.is_empty() && holder != self.identity;
            if until.is_some() || elector.holder().is_some_and(other) {
                self.decides.send_replace(true);
            }
            let act = elector.next(now, &micro_time(OffsetDateTime::now_utc()));
            let deposed = async {
                match until {
                    Some(until) => sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = &mut *released => return self.release(leads, &mut elector).await,
                () = deposed => {
                    if !matches!(act, Act::Wait(_)) {
                        // The request is given up, and what became of it is read.
                        elector.answered(&act, Answer::Conflict, now, Instant::now());
                    }
                }
                answer = self.perform(&act) => {
                    if let Some(answer) = answer {
                        let answer = complaints.hear(answer);
                        elector.answered(&act, answer, now, Instant::now());
                    }
                }
            }
        }
    }

    /// Waits or asks; `None` if it waited.
    async fn perform(&self, act: &Act) -> Option<Result<Answer, Failure>> {
        let answer = match act {
            Act::Wait(until) => {
                sleep_until((*until).into()).await;
                return None;
            }
            Act::Read => self.leases.get(LEASE).await,
            Act::Create(record) => self.leases.create(Lease::named(LEASE).with(record)).await,
            Act::Write(lease, record) => self.leases.update(LEASE, lease.with(record)).await,
        };
        Some(match answer {
            Ok(text) => Lease::parse(&text).map(Answer::Lease).map_err(Failure::Other),
            Err(Failure::NotFound) => Ok(Answer::Absent),
            Err(Failure::Conflict) => Ok(Answer::Conflict),
            Err(failure) => Err(failure),
        })
    }

    fn tell(&self, leads: &Leads, leading: bool, elector: &Elector) {
        if leads.tell(leading) {
            let (namespace, identity) = (&self.namespace, &self.identity);
            if leading {
                tracing::info!(namespace, identity, "leads: this replica writes");
            } else {
                let holder = elector.holder();
                tracing::warn!(namespace, identity, holder, "leads no longer: another replica writes");
            }
        }
    }

    async fn release(&self, leads: &Leads, elector: &mut Elector) {
        let wall = micro_time(OffsetDateTime::now_utc());
        let freed = elector.release(&wall);
        leads.tell(false);
        let Some((lease, record)) = freed else { return };
        match self.leases.update(LEASE, lease.with(&record)).await {
            Ok(_) => tracing::info!(namespace = self.namespace, "the Lease {LEASE} is given up"),
            Err(failure) => {
                tracing::warn!(namespace = self.namespace, "the Lease {LEASE} is not given up: {failure}");
            }
        }
    }
}

/// Failures, of which each is logged once a minute.
#[derive(Default)]
struct Complaints {
    last: Option<(String, Instant)>,
}

impl Complaints {
    fn hear(&mut self, answer: Result<Answer, Failure>) -> Answer {
        match answer {
            Ok(answer) => {
                if self.last.take().is_some() {
                    tracing::info!("the Lease {LEASE} can be used again");
                }
                answer
            }
            Err(failure) => {
                let said = failure.to_string();
                let due = self.last.as_ref().is_none_or(|(last, at)| *last != said || at.elapsed() >= REPEAT);
                if due {
                    tracing::warn!("the Lease {LEASE} cannot be used: {said}");
                    self.last = Some((said, Instant::now()));
                }
                Answer::Failed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_whose_election_is_gone_does_not_lead() {
        let (leads, receiver) = watch::channel(false);
        let leads = Leads(leads);
        assert!(leads.tell(true) && !leads.tell(true), "told once");
        assert!(*receiver.borrow());
        drop(leads);
        assert!(!*receiver.borrow());
        assert_ne!(identity("a"), identity("a"));
    }
}
