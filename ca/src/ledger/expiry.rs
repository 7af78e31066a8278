//! The certificates of each workload: when they expire, and which are overdue for renewal.

use std::collections::BTreeMap;

use eastwest_identity::{SpiffeId, WorkloadKey};
use time::{Duration, OffsetDateTime};

use crate::{authn::service_account::ServiceAccount, ledger::Issued};

/// The newest certificate of each holder, for as long as it is valid.
#[derive(Debug)]
pub struct Expiries {
    max_holders: usize,
    newest: BTreeMap<Holder, Certificate>,
    /// Number of certificates whose holders were beyond the limit.
    untracked: u64,
}

/// The holder of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The identity in the certificate.
    pub identity: SpiffeId,
    /// The pod that asked for it; `None` if its proof was bound to none that is known.
    pub pod: Option<WorkloadKey>,
}

/// The life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When it was issued.
    pub from: OffsetDateTime,
    /// When it expires.
    pub until: OffsetDateTime,
}

#[derive(Debug)]
struct Certificate {
    serial: String,
    life: Life,
}

impl Life {
    /// Whether two thirds are over: workloads renew at half, so this one is late, or gone.
    pub fn is_overdue(&self, now: OffsetDateTime) -> bool {
        now - self.from > (self.until - self.from) * 2 / 3
    }
}

impl Expiries {
    /// Keeps at most `max_holders`.
    pub fn new(max_holders: usize) -> Self {
        Self { max_holders, newest: BTreeMap::new(), untracked: 0 }
    }

    /// Notes a certificate, unless another one of the same holder expires later.
    ///
    /// If the pod does not exist (`exists`), the identity alone is the holder.
    pub fn note(&mut self, issued: &Issued, exists: impl Fn(&WorkloadKey) -> bool) {
        let life = Duration::seconds(i64::try_from(issued.ttl).unwrap_or(i64::MAX));
        let from = issued.not_after.saturating_sub(life);
        let certificate =
            Certificate { serial: issued.serial.clone(), life: Life { from, until: issued.not_after } };
        let holder = self.holder(issued, exists);
        if let Some(newest) = self.newest.get_mut(&holder) {
            if newest.life.until < certificate.life.until {
                *newest = certificate;
            }
        } else if self.newest.len() < self.max_holders {
            self.newest.insert(holder, certificate);
        } else {
            self.untracked += 1;
        }
    }

    /// A renewed certificate belongs to the holder of the certificate that it renews.
    fn holder(&self, issued: &Issued, exists: impl Fn(&WorkloadKey) -> bool) -> Holder {
        let requester = &issued.requester;
        if let Some(renewed) = &requester.proof_serial {
            let first = Holder { identity: issued.identity.clone(), pod: None };
            let of_identity =
                self.newest.range(first..).take_while(|(one, _)| one.identity == issued.identity);
            let mut of_identity = of_identity.filter(|(_, certificate)| certificate.serial == *renewed);
            if let Some((holder, _)) = of_identity.next() {
                return holder.clone();
            }
        }
        let account = requester.caller.as_ref().and_then(ServiceAccount::of);
        let pod = account
            .zip(requester.pod.as_deref())
            .map(|(account, pod)| WorkloadKey { namespace: account.namespace().into(), name: pod.into() });
        Holder { identity: issued.identity.clone(), pod: pod.filter(exists) }
    }

    /// Removes expired certificates and deleted pods, and lists the others.
    pub fn at(
        &mut self,
        now: OffsetDateTime,
        exists: impl Fn(&WorkloadKey) -> bool,
    ) -> impl Iterator<Item = (&Holder, Life)> {
        self.newest.retain(|holder, certificate| {
            now <= certificate.life.until && holder.pod.as_ref().is_none_or(&exists)
        });
        self.newest.iter().map(|(holder, certificate)| (holder, certificate.life))
    }

    /// Number of certificates whose holders were beyond the limit.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Requester;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    /// A certificate for `name`, from `from` for `ttl` seconds.
    fn issued(name: &str, serial: &str, from: i64, ttl: u32) -> Issued {
        let identity = SpiffeId::parse(&format!("spiffe://td/ns/shop/sa/{name}")).unwrap();
        Issued {
            identity: identity.clone(),
            names: Vec::new(),
            serial: serial.to_owned(),
            key: String::new(),
            key_sha256: String::new(),
            not_after: at(from + i64::from(ttl)),
            ttl: u64::from(ttl),
            requester: Requester { caller: Some(identity), ..Requester::default() },
        }
    }

    fn in_pod(pod: &str, mut issued: Issued) -> Issued {
        issued.requester.pod = Some(pod.to_owned());
        issued
    }

    fn renewed(before: &str, mut issued: Issued) -> Issued {
        issued.requester.proof_serial = Some(before.to_owned());
        issued
    }

    /// Pod or identity, whether it is overdue, and when it runs out.
    fn told(expiries: &mut Expiries, now: i64, exists: fn(&WorkloadKey) -> bool) -> Vec<(String, bool, i64)> {
        let told = expiries.at(at(now), exists).map(|(holder, life)| {
            let name = holder.pod.as_ref().map_or(holder.identity.to_string(), ToString::to_string);
            (name, life.is_overdue(at(now)), (life.until - at(0)).whole_seconds())
        });
        told.collect()
    }

    #[test]
    fn a_life_of_any_length_is_noted() {
        let mut expiries = Expiries::new(1);
        let endless = Issued { ttl: u64::MAX, ..issued("a", "1", 0, 90) };
        expiries.note(&endless, |_| true);
        assert_eq!(told(&mut expiries, 20, |_| true).len(), 1);
    }

    #[test]
    fn the_newest_counts_until_it_runs_out() {
        let mut expiries = Expiries::new(2);
        for one in [
            issued("a", "1", 0, 90),
            issued("a", "2", 10, 30),
            issued("b", "3", 0, 30),
            issued("c", "4", 0, 30),
        ] {
            expiries.note(&one, |_| true);
        }
        assert_eq!(expiries.untracked(), 1, "there is room for two");
        let (a, b) = ("spiffe://td/ns/shop/sa/a".to_owned(), "spiffe://td/ns/shop/sa/b".to_owned());
        let mut told = |now| told(&mut expiries, now, |_| true);
        assert_eq!(told(20), [(a.clone(), false, 90), (b.clone(), false, 30)]);
        assert_eq!(told(21), [(a.clone(), false, 90), (b, true, 30)]);
        assert_eq!(told(61), [(a, true, 90)], "b has run out and is forgotten");
        expiries.note(&issued("a", "5", 61, 90), |_| true);
        assert!(expiries.at(at(62), |_| true).all(|(_, life)| !life.is_overdue(at(62))), "renewed");
    }

    #[test]
    fn pods_of_one_identity_are_distinguished_until_they_are_gone() {
        let mut expiries = Expiries::new(9);
        expiries.note(&in_pod("late", issued("a", "1", 0, 90)), |_| true);
        expiries.note(&in_pod("on-time", issued("a", "2", 0, 90)), |_| true);
        expiries.note(&in_pod("elsewhere", issued("a", "3", 0, 90)), |pod| &*pod.name != "elsewhere");
        expiries.note(&renewed("2", issued("a", "4", 50, 90)), |_| true);
        let identity = "spiffe://td/ns/shop/sa/a".to_owned();
        let (late, on_time) = ("shop/late".to_owned(), "shop/on-time".to_owned());
        assert_eq!(
            told(&mut expiries, 70, |_| true),
            [(identity.clone(), true, 90), (late, true, 90), (on_time.clone(), false, 140)],
            "renewed by its certificate, under the name of the pod that the first token was of"
        );
        let left = told(&mut expiries, 70, |pod| &*pod.name != "late");
        assert_eq!(
            left,
            [(identity, true, 90), (on_time, false, 140)],
            "nobody renews for a pod that is gone"
        );
    }
}
