//! The serving certificate, issued by our own CA.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use eastwest_ca::{
    IssueError, Issuer as _, LocalIssuer, NeedsError, PrivateKey, ServingName, ServingNames,
    key::PrivateKeyError,
};
use rustls::{crypto::ring, sign::CertifiedKey};
use rustls_pki_types::PrivateKeyDer;
use thiserror::Error;
use time::OffsetDateTime;

/// Services under which istiod, and so we, are reached in the root namespace (CA.md C9).
const SERVICES: [&str; 4] = ["istiod", "istiod-remote", "istio-pilot", "eastwest"];

/// Why there is no serving certificate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServingError {
    /// No key could be made.
    #[error("serving certificate: {0}")]
    Key(#[from] PrivateKeyError),
    /// The CA could not sign it.
    #[error("serving certificate: {0}")]
    Issue(#[from] IssueError),
    /// The CA does not allow its names.
    #[error(transparent)]
    Names(#[from] NeedsError),
    /// TLS cannot use it.
    #[error("serving certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// A serving certificate with its key.
#[derive(Debug, Clone)]
pub(crate) struct ServingCertificate {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    /// When half of its life is over.
    pub(crate) renew_at: OffsetDateTime,
}

impl ServingCertificate {
    /// Makes a key and certifies it for `names`, without those that the CA does not allow.
    pub(crate) fn make(
        issuer: &LocalIssuer,
        names: &ServingNames,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Self, ServingError> {
        let key = PrivateKey::generate()?;
        let (names, left_out) = names.allowed(issuer)?;
        if let Some(first) = left_out.first() {
            tracing::warn!(
                left_out = left_out.len(),
                "the serving certificate lacks names that the CA does not allow: {first}"
            );
        }
        let certificate = issuer.issue_serving(&names, &key.public()?, lifetime, now)?;
        let renew_at = now + (certificate.not_after - now) / 2;
        let chain = std::iter::once(certificate.der).chain(issuer.intermediates().iter().cloned()).collect();
        // Borrowed, so that no copy of the key is left behind in memory.
        let signer = ring::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key.pkcs8().into()))?;
        let key = Arc::new(CertifiedKey::new(chain, signer));
        let (not_before, not_after) = (certificate.not_before, certificate.not_after);
        Ok(Self { key, not_before, not_after, renew_at })
    }

    /// Whether clients take it at `now`.
    pub(crate) fn is_valid(&self, now: OffsetDateTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Whether it should be replaced at `now`. A clock that was set back makes it one of the future.
    pub(crate) fn is_due(&self, now: OffsetDateTime) -> bool {
        now >= self.renew_at || now < self.not_before
    }
}

/// The names to serve under unless others are asked for: istiod's services in the root namespace and in
/// `istio-system`, localhost, and the addresses bound; for a wildcard address, those of all interfaces.
pub fn default_serving_names(root_namespace: &str, bound: &[IpAddr]) -> Vec<ServingName> {
    let mut names = Vec::new();
    for namespace in [root_namespace, "istio-system"] {
        for service in SERVICES {
            names.push(ServingName::Dns(format!("{service}.{namespace}.svc")));
            names.push(ServingName::Dns(format!("{service}.{namespace}.svc.cluster.local")));
        }
    }
    names.push(ServingName::Dns("localhost".to_owned()));
    names.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(ServingName::Ip));
    if bound.iter().any(IpAddr::is_unspecified) {
        names.extend(interface_addresses().into_iter().map(ServingName::Ip));
    }
    names.extend(bound.iter().filter(|ip| !ip.is_unspecified()).copied().map(ServingName::Ip));
    names.sort();
    names.dedup();
    names
}

/// The addresses of this machine; none if the system does not tell.
fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let ip = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    interfaces.filter_map(ip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_name_istiod_localhost_and_what_is_bound() {
        let bound = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
        let names = default_serving_names("mesh", &[bound]);
        for name in
            ["istiod.mesh.svc", "istiod.istio-system.svc", "localhost", "127.0.0.1", "::1", "10.1.2.3"]
        {
            assert!(names.contains(&name.parse().unwrap()), "{name} is missing in {names:?}");
        }
        let wildcard = default_serving_names("mesh", &[IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
        assert!(!wildcard.contains(&ServingName::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED))));
        assert!(wildcard.iter().is_sorted_by(|a, b| a < b), "sorted, none twice");
    }
}
