//! Which workloads have a certificate, until when, and which are late to renew it.

use std::collections::BTreeMap;

use eastwest_model::SpiffeId;
use time::OffsetDateTime;

/// The newest certificate of each identity, for as long as it is valid.
#[derive(Debug)]
pub struct Expiries {
    max_identities: usize,
    newest: BTreeMap<SpiffeId, Life>,
    /// Identities for which there was no room.
    untracked: u64,
}

/// The life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it was issued.
    pub from: OffsetDateTime,
    /// When it runs out.
    pub until: OffsetDateTime,
}

impl Life {
    /// Whether two thirds are over: workloads renew at half, so this one is late, or gone.
    pub fn is_overdue(&self, now: OffsetDateTime) -> bool {
        now - self.from > (self.until - self.from) * 2 / 3
    }
}

impl Expiries {
    /// Keeps at most `max_identities`.
    pub fn new(max_identities: usize) -> Self {
        Self { max_identities, newest: BTreeMap::new(), untracked: 0 }
    }

    /// Takes in a certificate. One that runs out before another of the same identity does not count.
    pub fn note(&mut self, identity: &SpiffeId, life: Life) {
        if let Some(newest) = self.newest.get_mut(identity) {
            if newest.until < life.until {
                *newest = life;
            }
        } else if self.newest.len() < self.max_identities {
            self.newest.insert(identity.clone(), life);
        } else {
            self.untracked += 1;
        }
    }

    /// Forgets whom no certificate is valid for any more, and lists the others.
    pub fn at(&mut self, now: OffsetDateTime) -> impl Iterator<Item = (&SpiffeId, &Life)> {
        self.newest.retain(|_, life| now <= life.until);
        self.newest.iter()
    }

    /// Certificates of identities for which there was no room.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn id(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://td/ns/shop/sa/{name}")).unwrap()
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    #[test]
    fn the_newest_counts_until_it_runs_out() {
        let mut expiries = Expiries::new(2);
        expiries.note(&id("a"), Life { from: at(0), until: at(90) });
        expiries.note(&id("a"), Life { from: at(10), until: at(40) });
        expiries.note(&id("b"), Life { from: at(0), until: at(30) });
        expiries.note(&id("c"), Life { from: at(0), until: at(30) });
        assert_eq!(expiries.untracked(), 1, "there is room for two");
        let mut overdue = |now: i64| -> Vec<(bool, i64)> {
            expiries
                .at(at(now))
                .map(|(_, life)| (life.is_overdue(at(now)), (life.until - at(0)).whole_seconds()))
                .collect()
        };
        assert_eq!(overdue(20), [(false, 90), (false, 30)]);
        assert_eq!(overdue(21), [(false, 90), (true, 30)]);
        assert_eq!(overdue(61), [(true, 90)], "b has run out and is forgotten");
        expiries.note(&id("a"), Life { from: at(61), until: at(151) });
        assert!(expiries.at(at(62)).all(|(_, life)| !life.is_overdue(at(62))), "renewed");
    }
}
