//! SPIFFE identities (SPIFFE-ID §2): valid by construction, compared byte for byte.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::names::{is_dns_label, is_dns_subdomain};

/// Longest trust domain name in bytes (SPIFFE-ID §2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// The longest SPIFFE ID in bytes that implementations must accept (SPIFFE-ID §2.3). We never issue a longer one.
const MAX_ID: usize = 2048;

/// Why a text is not a trust domain or a SPIFFE ID; one variant per rule (CA.md S1 to S19).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The scheme is not `spiffe`.
    #[error("a SPIFFE ID begins with \"spiffe://\"")]
    Scheme,
    /// There is no trust domain.
    #[error("the trust domain is empty")]
    EmptyTrustDomain,
    /// A character that the trust domain may not have (user info, port, percent sign, upper case, …).
    #[error("{0:?} is not allowed in a trust domain: use a-z, 0-9, '.', '-' and '_'")]
    TrustDomainCharacter(char),
    /// More than 255 bytes.
    #[error("the trust domain is longer than {MAX_TRUST_DOMAIN} bytes")]
    TrustDomainTooLong,
    /// A character that a path segment may not have (percent sign, query, fragment, non-ASCII, …).
    #[error("{0:?} is not allowed in a path: use a-z, A-Z, 0-9, '.', '-' and '_'")]
    PathCharacter(char),
    /// `//`, or a slash at the end.
    #[error("a path segment is empty")]
    EmptySegment,
    /// `.` or `..`.
    #[error("a path segment is \".\" or \"..\"")]
    RelativeSegment,
    /// More than 2048 bytes.
    #[error("the SPIFFE ID is longer than {MAX_ID} bytes")]
    TooLong,
    /// A namespace that is not a DNS label of at most 63 bytes.
    #[error("{0:?} is not a namespace: a DNS label of at most 63 bytes is needed")]
    Namespace(String),
    /// A service account that is not a DNS subdomain of at most 253 bytes.
    #[error("{0:?} is not a service account: a DNS subdomain of at most 253 bytes is needed")]
    ServiceAccount(String),
    /// Not of the form `spiffe://TD/ns/NS/sa/SA`.
    #[error("the path is not of the form /ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
    NotAWorkload,
}

/// The name of a trust domain, e.g. `cluster.local`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a trust domain name.
    ///
    /// # Errors
    /// Whatever SPIFFE-ID §2.1 forbids.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        if text.is_empty() {
            return Err(IdentityError::EmptyTrustDomain);
        }
        if text.len() > MAX_TRUST_DOMAIN {
            return Err(IdentityError::TrustDomainTooLong);
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        match text.chars().find(|&c| !allowed(c)) {
            Some(c) => Err(IdentityError::TrustDomainCharacter(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TrustDomain {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = IdentityError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> Self {
        domain.0.as_ref().to_owned()
    }
}

/// A SPIFFE ID, e.g. `spiffe://cluster.local/ns/shop/sa/reviews`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    text: Arc<str>,
    /// Length of the trust domain inside `text`, which begins after `spiffe://`.
    domain: usize,
}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// Parses a SPIFFE ID; a trust domain without a path is one too.
    ///
    /// # Errors
    /// One variant per rule of SPIFFE-ID §2.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        if text.len() > MAX_ID {
            return Err(IdentityError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdentityError::Scheme)?;
        let (domain, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        TrustDomain::parse(domain)?;
        path.split('/').skip(1).try_for_each(check_segment)?;
        Ok(Self { text: text.into(), domain: domain.len() })
    }

    /// The identity of a Kubernetes service account: `spiffe://TD/ns/NS/sa/SA`.
    ///
    /// # Errors
    /// A namespace that is no DNS label or a service account that is no DNS subdomain.
    pub fn workload(
        domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, IdentityError> {
        if !is_dns_label(namespace) {
            return Err(IdentityError::Namespace(namespace.to_owned()));
        }
        if !is_dns_subdomain(service_account) {
            return Err(IdentityError::ServiceAccount(service_account.to_owned()));
        }
        Self::parse(&format!("{SCHEME}{domain}/ns/{namespace}/sa/{service_account}"))
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.text[SCHEME.len()..SCHEME.len() + self.domain].into())
    }

    /// The path with its leading slash, empty for the trust domain itself.
    pub fn path(&self) -> &str {
        &self.text[SCHEME.len() + self.domain..]
    }

    /// Namespace and service account, if the path is `/ns/NS/sa/SA`.
    ///
    /// # Errors
    /// [`IdentityError::NotAWorkload`] for any other path.
    pub fn as_workload(&self) -> Result<(&str, &str), IdentityError> {
        let parts: Vec<&str> = self.path().split('/').collect();
        match parts[..] {
            ["", "ns", namespace, "sa", account] => Ok((namespace, account)),
            _ => Err(IdentityError::NotAWorkload),
        }
    }

    /// The ID as a URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn check_segment(segment: &str) -> Result<(), IdentityError> {
    match segment {
        "" => Err(IdentityError::EmptySegment),
        "." | ".." => Err(IdentityError::RelativeSegment),
        _ => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            segment.chars().find(|&c| !allowed(c)).map_or(Ok(()), |c| Err(IdentityError::PathCharacter(c)))
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = IdentityError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.text.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CA.md S1 to S19.
    #[test]
    fn spiffe_checklist() {
        for bad in [
            "http://td/a",
            "spiffe:///a",
            "spiffe://td/a?q",
            "spiffe://td/a#f",
            "spiffe://u@td/a",
            "spiffe://td:80/a",
            "spiffe://TD/a",
            "spiffe://t%64/a",
            "spiffe://t!d/a",
            "spiffe://td/a%41",
            "spiffe://td/a//b",
            "spiffe://td/a/../b",
            "spiffe://td/a/.",
            "spiffe://td/a/",
            "spiffe://td/",
            "spiffe://td/ns/ü",
            "SPIFFE://td/a",
            "spiffe:/td/a",
            "",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad} must be refused");
        }
        for good in ["spiffe://my_td-1.x/a", "spiffe://10.0.0.1/a", "spiffe://td", "spiffe://td/NS/a"] {
            assert_eq!(SpiffeId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        assert!(TrustDomain::parse(&"a".repeat(255)).is_ok());
        assert_eq!(TrustDomain::parse(&"a".repeat(256)), Err(IdentityError::TrustDomainTooLong));
        let longest = format!("spiffe://td/{}", "a".repeat(2048 - 12));
        assert!(SpiffeId::parse(&longest).is_ok());
        assert_eq!(SpiffeId::parse(&format!("{longest}a")), Err(IdentityError::TooLong));
        assert_ne!(SpiffeId::parse("spiffe://td/NS/a"), SpiffeId::parse("spiffe://td/ns/a"));
    }

    #[test]
    fn workload_identity() {
        let td = TrustDomain::parse("cluster.local").unwrap();
        let id = SpiffeId::workload(&td, "shop", "reviews.v1").unwrap();
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/shop/sa/reviews.v1");
        assert_eq!(id.as_workload(), Ok(("shop", "reviews.v1")));
        assert_eq!(id.trust_domain(), td);
        for (ns, sa) in
            [("a/b", "x"), ("", "x"), ("shop", ""), ("a.b", "x"), ("-a", "x"), ("a", "x/ns/y"), ("A", "x")]
        {
            assert!(SpiffeId::workload(&td, ns, sa).is_err(), "{ns}/{sa} must be refused");
        }
        let longer = SpiffeId::parse("spiffe://td/ns/a/sa/b/c").unwrap();
        assert_eq!(longer.as_workload(), Err(IdentityError::NotAWorkload));
    }
}
