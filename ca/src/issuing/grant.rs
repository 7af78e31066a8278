//! Authorization: which identity a caller gets, and for how long.

use std::time::Duration;

use eastwest_identity::{SpiffeId, TrustDomain};
use thiserror::Error;

use crate::authn::caller::Caller;

/// How long workload certificates live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    default: Duration,
    min: Duration,
    max: Duration,
}

/// Lifetimes that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "lives of certificates: minimum {min:?} ≤ default {default:?} ≤ maximum {max:?} does not hold, or the minimum is \
     under a second; change --min-cert-ttl, --cert-ttl or --max-cert-ttl"
)]
pub struct LifetimesError {
    default: Duration,
    min: Duration,
    max: Duration,
}

impl Lifetimes {
    /// The life when none is asked for, and the bounds of what may be asked for.
    ///
    /// # Errors
    /// Unless 1 s ≤ `min` ≤ `default` ≤ `max`.
    pub fn new(default: Duration, min: Duration, max: Duration) -> Result<Self, LifetimesError> {
        if Duration::from_secs(1) <= min && min <= default && default <= max {
            Ok(Self { default, min, max })
        } else {
            Err(LifetimesError { default, min, max })
        }
    }

    /// The longest life.
    pub fn maximum(&self) -> Duration {
        self.max
    }

    /// These bounds for a caller whose proof allows at most `most`.
    fn within(self, most: Option<Duration>) -> Self {
        let Some(most) = most else { return self };
        Self { default: self.default.min(most), min: self.min.min(most), max: self.max.min(most) }
    }

    /// The life granted for `seconds` asked for (CA.md A24): none or a negative one is the default.
    fn granted(&self, seconds: i64) -> Result<Duration, Refusal> {
        let asked = match u64::try_from(seconds) {
            Ok(0) | Err(_) => return Ok(self.default),
            Ok(seconds) => Duration::from_secs(seconds),
        };
        if asked > self.max {
            Err(Refusal::TooLong { asked: asked.as_secs(), max: self.max.as_secs() })
        } else if asked < self.min {
            Err(Refusal::TooShort { asked: asked.as_secs(), min: self.min.as_secs() })
        } else {
            Ok(asked)
        }
    }
}

impl Default for Lifetimes {
    /// 24 hours, 10 seconds to 90 days.
    fn default() -> Self {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        Self { default: hours(24), min: Duration::from_secs(10), max: hours(90 * 24) }
    }
}

/// Why a caller is refused a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A longer life than allowed.
    #[error("validity_duration: {asked} s are more than the maximum of {max} s; ask for less")]
    TooLong {
        /// Seconds asked for.
        asked: u64,
        /// Most seconds allowed.
        max: u64,
    },
    /// A shorter life than allowed.
    #[error("validity_duration: {asked} s are less than the minimum of {min} s; ask for more")]
    TooShort {
        /// Seconds asked for.
        asked: u64,
        /// Fewest seconds allowed.
        min: u64,
    },
    /// The caller's identity is not one that we issue.
    #[error("{0} is not an identity of a workload in the trust domain {1}")]
    Identity(SpiffeId, TrustDomain),
}

/// Authorizes callers.
#[derive(Debug, Clone)]
pub struct Authorizer {
    trust_domain: TrustDomain,
    lifetimes: Lifetimes,
}

impl Authorizer {
    /// An authorizer for the identities of one trust domain.
    pub fn new(trust_domain: TrustDomain, lifetimes: Lifetimes) -> Self {
        Self { trust_domain, lifetimes }
    }

    /// Grants a caller its identity (or that of the workload it represents) for `seconds`, or for the default life if
    /// that is not positive. A bound of the caller's own is kept like the others: what is longer is refused, and the
    /// default life is cut.
    ///
    /// # Errors
    /// A life beyond the bounds, or an identity without a path (X509-SVID §2) or of another trust domain.
    pub fn authorize(&self, caller: &Caller, seconds: i64) -> Result<Grant, Refusal> {
        let identity = caller.subject();
        if identity.path().is_empty() || identity.trust_domain() != self.trust_domain {
            return Err(Refusal::Identity(identity.clone(), self.trust_domain.clone()));
        }
        Ok(Grant {
            identity: identity.clone(),
            lifetime: self.lifetimes.within(caller.max_life).granted(seconds)?,
        })
    }
}

/// Permission to certify one identity for some time. Only an [`Authorizer`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    identity: SpiffeId,
    lifetime: Duration,
}

impl Grant {
    /// The identity that the certificate will name.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// How long from now; the issuer cuts it at its own end.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::caller::Proof;

    fn caller(id: &str) -> Caller {
        Caller::new(SpiffeId::parse(id).unwrap(), Proof::Operator)
    }

    fn authorizer() -> Authorizer {
        Authorizer::new(TrustDomain::parse("td").unwrap(), Lifetimes::default())
    }

    /// CA.md A24.
    #[test]
    fn lifetimes() {
        let day = 24 * 3600;
        for (asked, granted) in [
            (0, Some(day)),
            (-1, Some(day)),
            (i64::MIN, Some(day)),
            (9, None),
            (10, Some(10)),
            (60, Some(60)),
            (90 * day as i64, Some(90 * day)),
            (90 * day as i64 + 1, None),
            (i64::MAX, None),
        ] {
            let grant = authorizer().authorize(&caller("spiffe://td/ns/a/sa/b"), asked);
            assert_eq!(grant.as_ref().ok().map(|g| g.lifetime().as_secs()), granted, "{asked}: {grant:?}");
        }
        let refusal = authorizer().authorize(&caller("spiffe://td/a"), i64::MAX).unwrap_err().to_string();
        assert!(refusal.contains("maximum of 7776000 s"), "{refusal}");
    }

    #[test]
    fn a_proof_may_bound_the_life_further() {
        let caller = caller("spiffe://td/ns/ci/sa/job").living_at_most(Duration::from_secs(60));
        for (asked, granted) in [(0, Some(60)), (10, Some(10)), (60, Some(60)), (61, None), (9, None)] {
            let grant = authorizer().authorize(&caller, asked);
            assert_eq!(grant.as_ref().ok().map(|g| g.lifetime().as_secs()), granted, "{asked}: {grant:?}");
        }
        let longer = caller.living_at_most(Duration::MAX);
        assert!(authorizer().authorize(&longer, i64::MAX).is_err(), "a bound of its own widens nothing");
    }

    #[test]
    fn only_workloads_of_our_trust_domain() {
        for bad in ["spiffe://td", "spiffe://other/ns/a/sa/b"] {
            assert!(matches!(authorizer().authorize(&caller(bad), 0), Err(Refusal::Identity(..))), "{bad}");
        }
    }

    #[test]
    fn contradictory_bounds() {
        let s = Duration::from_secs;
        assert!(Lifetimes::new(s(60), s(10), s(100)).is_ok());
        for (default, min, max) in [(5, 10, 100), (200, 10, 100), (0, 0, 100)] {
            assert!(Lifetimes::new(s(default), s(min), s(max)).is_err());
        }
    }
}
