//! Notices an elected leader beside a process that writes without an election.

use std::time::{Duration, Instant};

use eastwest_kubernetes::{Api, Repeated, send_if_different};
use tokio::{sync::watch, time::sleep};

use super::{
    ANSWER, LEASE,
    lease::{Lease, Record},
};
use crate::collection::{Collection, Failure};

/// How often the Lease is read.
const LOOK: Duration = Duration::from_secs(5);

/// Tells `leader` who holds the Lease of `namespace` and renews it, for a process that writes without an election; that is
/// logged once a minute. Never returns.
pub async fn watch_for_leader(api: Api, namespace: String, leader: watch::Sender<Option<String>>) {
    let leases = Collection::leases(api.client(), &namespace, ANSWER);
    let (mut bystander, log) = (Bystander::default(), Repeated::default());
    loop {
        let record = match leases.get(LEASE).await {
            Ok(text) => Lease::parse(&text).map(|lease| Some(lease.record())),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure.to_string()),
        };
        match record {
            Ok(record) => {
                let found = bystander.sees(record, Instant::now());
                tell(&namespace, &leader, found, &log);
            }
            Err(error) => {
                if log.is_due("error", Instant::now()) {
                    tracing::info!("whether another process leads is not known: {error}");
                }
            }
        }
        sleep(LOOK).await;
    }
}

fn tell(namespace: &str, leader: &watch::Sender<Option<String>>, found: Option<String>, log: &Repeated) {
    match &found {
        Some(holder) if log.is_due("leader", Instant::now()) => tracing::warn!(
            holder,
            namespace,
            "this process writes without an election (--leader-elect=false), but another one is elected by the Lease \
             {LEASE} and writes as well: let all replicas take part in the election, or end the others"
        ),
        None if log.is_over("leader") => tracing::info!(namespace, "no other process is elected any more"),
        _ => {}
    }
    send_if_different(leader, found);
}

/// What was seen of the Lease. Times in it are compared with each other, never with a clock.
#[derive(Default)]
struct Bystander {
    seen: Option<Record>,
    renewed: Option<Instant>,
}

impl Bystander {
    /// Takes in what the Lease says at `now`; returns its holder if it has been renewed within its duration.
    fn sees(&mut self, record: Option<Record>, now: Instant) -> Option<String> {
        let Some(record) = record.filter(|record| !record.holder.is_empty()) else {
            *self = Self::default();
            return None;
        };
        // The first sight tells nothing: its holder may have died long ago.
        if self.seen.as_ref().is_some_and(|seen| *seen != record) {
            self.renewed = Some(now);
        }
        let life = Duration::from_secs(record.seconds);
        let holder = record.holder.clone();
        self.seen = Some(record);
        self.renewed.filter(|renewed| now.saturating_duration_since(*renewed) < life).map(|_| holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_one_that_renews_its_lease() {
        let (mut bystander, start) = (Bystander::default(), Instant::now());
        let record = |renewed: &str| {
            Some(Record {
                holder: "a".to_owned(),
                seconds: 15,
                renewed: renewed.to_owned(),
                ..Record::default()
            })
        };
        let mut sees = |record, seconds| bystander.sees(record, start + Duration::from_secs(seconds));
        assert_eq!(sees(None, 0), None);
        assert_eq!([sees(record("1"), 5), sees(record("1"), 90)], [None, None], "an old Lease");
        assert_eq!(sees(record("2"), 95).as_deref(), Some("a"));
        assert_eq!(sees(record("2"), 105).as_deref(), Some("a"));
        assert_eq!(sees(record("2"), 110), None, "it died");
        assert_eq!(sees(record("3"), 115).as_deref(), Some("a"));
        let given_up = record("4").map(|record| Record { holder: String::new(), ..record });
        assert_eq!(sees(given_up, 120), None);
    }
}
