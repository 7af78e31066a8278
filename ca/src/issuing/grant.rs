//! Authorization: which identity a caller gets, and for how long.

use std::time::Duration;

use eastwest_identity::{SpiffeId, TrustDomain};
use thiserror::Error;

use crate::{
    authn::caller::Caller,
    names::{AllowedNames, ServingName, ServingNameError},
    x509::csr::{CsrError, VerifiedCsr},
};

/// Most names beside the identity in a certificate.
const MAX_NAMES: usize = 100;

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
    #[error(
        "validity_duration: {} is more than the maximum of {}; ask for less, or raise --max-cert-ttl",
        duration(*asked), duration(*max)
    )]
    TooLong {
        /// Seconds asked for.
        asked: u64,
        /// Most seconds allowed.
        max: u64,
    },
    /// A shorter life than allowed.
    #[error(
        "validity_duration: {} is less than the minimum of {}; ask for more, or lower --min-cert-ttl",
        duration(*asked), duration(*min)
    )]
    TooShort {
        /// Seconds asked for.
        asked: u64,
        /// Fewest seconds allowed.
        min: u64,
    },
    /// The caller's identity is not one that we issue.
    #[error("{0} is not an identity of a workload in the trust domain {1}")]
    Identity(SpiffeId, TrustDomain),
    /// A name that the caller may not have.
    #[error(
        "csr: the name {name} is not allowed to this caller; allowed are: {allowed}; leave it away, or allow it with \
         --allow-dns or --allow-ip, for a CI job with dnsNames or ipAddresses of its rule"
    )]
    Name {
        /// The name.
        name: String,
        /// What the caller may have.
        allowed: String,
    },
    /// Too many names.
    #[error("csr: {0} names are more than the {MAX_NAMES} allowed")]
    TooManyNames(usize),
    /// The names cannot be read.
    #[error(transparent)]
    Csr(#[from] CsrError),
}

/// Seconds as people write them.
fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    match units.into_iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// Authorizes callers.
#[derive(Debug, Clone)]
pub struct Authorizer {
    trust_domain: TrustDomain,
    lifetimes: Lifetimes,
    names: AllowedNames,
}

impl Authorizer {
    /// An authorizer for the identities of one trust domain.
    pub fn new(trust_domain: TrustDomain, lifetimes: Lifetimes) -> Self {
        Self { trust_domain, lifetimes, names: AllowedNames::default() }
    }

    /// The same, where callers may have these names beside their identity, unless their proof says which.
    #[must_use]
    pub fn allowing(self, names: AllowedNames) -> Self {
        Self { names, ..self }
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
        // A name of the pod that a node's proxy speaks for is not known to be its own.
        let names = match caller.represented() {
            Some(_) => AllowedNames::default(),
            None => caller.allowed_names.clone().unwrap_or_else(|| self.names.clone()),
        };
        Ok(Grant {
            identity: identity.clone(),
            lifetime: self.lifetimes.within(caller.max_life).granted(seconds)?,
            allowed: names,
            names: Vec::new(),
        })
    }
}

/// Permission to certify one identity for some time. Only an [`Authorizer`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    identity: SpiffeId,
    lifetime: Duration,
    allowed: AllowedNames,
    names: Vec<ServingName>,
}

impl Grant {
    /// The identity that the certificate will name.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The names that the certificate will have beside the identity.
    pub fn names(&self) -> &[ServingName] {
        &self.names
    }

    /// The same grant with the DNS names and addresses that the request asks for. Where the caller may have none, the
    /// request's names are not looked at.
    ///
    /// # Errors
    /// A name that the caller may not have, or names that cannot be read.
    pub fn with_names_of(self, csr: &VerifiedCsr) -> Result<Self, Refusal> {
        if self.allowed.is_empty() {
            return Ok(self);
        }
        let requested = csr.requested_names()?;
        let names: Result<Vec<_>, _> = requested.iter().filter_map(ServingName::of).collect();
        let unreadable = |name: ServingNameError| self.refusal(&name.to_string());
        let names = names.map_err(unreadable)?;
        self.with_names(names)
    }

    /// The same grant with these names, each once.
    ///
    /// # Errors
    /// A name that the caller may not have.
    pub fn with_names(self, mut names: Vec<ServingName>) -> Result<Self, Refusal> {
        names.sort();
        names.dedup();
        if names.len() > MAX_NAMES {
            return Err(Refusal::TooManyNames(names.len()));
        }
        match names.iter().find(|name| !self.allowed.allows(name)) {
            Some(name) => Err(self.refusal(&name.to_string())),
            None => Ok(Self { names, ..self }),
        }
    }

    fn refusal(&self, name: &str) -> Refusal {
        Refusal::Name { name: name.to_owned(), allowed: self.allowed.to_string() }
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
        assert!(refusal.contains("maximum of 90d; ask for less, or raise --max-cert-ttl"), "{refusal}");
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
