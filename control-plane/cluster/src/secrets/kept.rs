//! What is known of one Secret: what the API said last, and what of that was good.

use eastwest_kubernetes::Delta;

use super::data::Snapshot;

/// What the API said last of a Secret.
#[derive(Debug, Clone, Default)]
pub(super) enum Observed {
    /// Nothing yet.
    #[default]
    Unknown,
    /// There is no such Secret.
    Absent,
    /// Its content.
    Present(Snapshot),
}

/// A Secret.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) observed: Observed,
    /// The last content that was good. It is in force, whatever the API says.
    pub(super) accepted: Option<Snapshot>,
    /// The version of our last write.
    written: Option<u64>,
}

impl Kept {
    /// Takes up an update of the watch. One from before our own last write is left out.
    pub(super) fn observe(&mut self, delta: Delta<Snapshot>) {
        self.observed = match delta {
            Delta::Resync(all) => {
                all.into_iter().next().map_or(Observed::Absent, |(_, one)| Observed::Present(one))
            }
            Delta::Upsert(_, one) if number(&one.version) < self.written => return,
            Delta::Upsert(_, one) => Observed::Present(one),
            Delta::Delete(_) => Observed::Absent,
        };
    }

    /// Takes up the answer to a read.
    pub(super) fn read(&mut self, snapshot: Option<Snapshot>) {
        self.observed = snapshot.map_or(Observed::Absent, Observed::Present);
    }

    /// Takes up the answer to a write of ours.
    pub(super) fn wrote(&mut self, snapshot: Snapshot) {
        self.written = number(&snapshot.version);
        self.accepted = Some(snapshot.clone());
        self.observed = Observed::Present(snapshot);
    }

    /// What is in force; `None` if nothing is known.
    pub(super) fn in_force(&self) -> Option<Option<&Snapshot>> {
        match (&self.accepted, &self.observed) {
            (Some(accepted), _) => Some(Some(accepted)),
            (None, Observed::Present(snapshot)) => Some(Some(snapshot)),
            (None, Observed::Absent) => Some(None),
            (None, Observed::Unknown) => None,
        }
    }
}

/// A resource version as a number. `None`, which is less than all numbers, if it is none.
fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    use eastwest_kubernetes::Key;

    use super::*;

    fn one(version: &str) -> (Key, Snapshot) {
        let key = Key { namespace: "a".into(), name: "b".into() };
        (key, Snapshot { version: version.to_owned(), data: Default::default() })
    }

    fn version(kept: &Kept) -> Option<&str> {
        match &kept.observed {
            Observed::Present(snapshot) => Some(&snapshot.version),
            _ => None,
        }
    }

    #[test]
    fn an_echo_from_before_our_own_write_is_left_out_and_a_fresh_list_is_not() {
        let mut kept = Kept::default();
        assert!(kept.in_force().is_none(), "nothing is known yet");
        kept.observe(Delta::Resync(vec![]));
        assert!(kept.in_force() == Some(None));
        kept.wrote(one("20").1);
        let upsert = |version| {
            let (key, snapshot) = one(version);
            Delta::Upsert(key, snapshot)
        };
        kept.observe(upsert("19"));
        assert_eq!(version(&kept), Some("20"));
        kept.observe(upsert("21"));
        assert_eq!(version(&kept), Some("21"));
        assert_eq!(kept.in_force().unwrap().unwrap().version, "20", "until it was judged");
        kept.observe(Delta::Resync(vec![one("5")]));
        assert_eq!(version(&kept), Some("5"), "a history that went back");
        kept.observe(Delta::Delete(one("5").0));
        assert!(version(&kept).is_none() && kept.in_force().unwrap().is_some());
    }
}
