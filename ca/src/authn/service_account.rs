//! Service accounts as people name them: `shop/reviews`.

use std::{fmt, str::FromStr};

use eastwest_identity::{Name, SpiffeId, is_dns_label, is_dns_subdomain};
use thiserror::Error;

/// The text is no service account.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not NAMESPACE/SERVICE-ACCOUNT, for example istio-system/ztunnel")]
pub struct ServiceAccountError(String);

/// A service account: a namespace, which is a DNS label, and a name, which is a DNS subdomain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccount {
    namespace: Name,
    name: Name,
}

impl ServiceAccount {
    /// The service account of that name, if it is a possible one.
    pub fn new(namespace: &str, name: &str) -> Option<Self> {
        (is_dns_label(namespace) && is_dns_subdomain(name))
            .then(|| Self { namespace: namespace.into(), name: name.into() })
    }

    /// The service account that has this identity, whatever its trust domain.
    pub fn of(identity: &SpiffeId) -> Option<Self> {
        let (namespace, name) = identity.as_workload().ok()?;
        Self::new(namespace, name)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for ServiceAccount {
    type Err = ServiceAccountError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text.split_once('/').and_then(|(namespace, name)| Self::new(namespace, name));
        named.ok_or_else(|| ServiceAccountError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_service_account() {
        let account: ServiceAccount = "shop/reviews.v1".parse().unwrap();
        assert_eq!((account.namespace(), account.name()), ("shop", "reviews.v1"));
        assert_eq!(account.to_string(), "shop/reviews.v1");
        for bad in ["", "/", "shop", "shop/", "/a", "a.b/c", "shop/a/b", "Shop/a", "shop/a ", "shop/*"] {
            assert!(bad.parse::<ServiceAccount>().is_err(), "{bad:?}");
        }
    }
}
