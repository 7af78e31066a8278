//! Type URLs and what the protocol says about each type.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use eastwest_proto::type_url;

/// The URL that names a resource type, e.g. `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
///
/// Cheap to clone. The order is the order in which types are pushed (XDS.md X40): clusters, endpoints,
/// listeners, routes, secrets, then all others by URL. A sorted map keyed by `TypeUrl` is thus walked in push order.
#[derive(Clone)]
pub struct TypeUrl {
    rank: u8,
    url: Url,
}

#[derive(Clone)]
enum Url {
    Known(&'static str),
    Other(Arc<str>),
}

/// A request on an aggregated stream must say which type it is about (XDS.md X4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("type_url is empty: name the resource type, e.g. {}", TypeUrl::CLUSTER)]
pub struct EmptyTypeUrl;

/// Types without a place of their own in the push order come last.
const OTHERS: u8 = 5;

const KNOWN: [TypeUrl; 7] = [
    TypeUrl::CLUSTER,
    TypeUrl::ENDPOINT,
    TypeUrl::LISTENER,
    TypeUrl::ROUTE,
    TypeUrl::SECRET,
    TypeUrl::EXTENSION_CONFIG,
    TypeUrl::WORKLOAD_TLS,
];

impl TypeUrl {
    /// `Cluster`, served by CDS.
    pub const CLUSTER: Self = Self::known(0, type_url::CLUSTER);
    /// `ClusterLoadAssignment`, served by EDS.
    pub const ENDPOINT: Self = Self::known(1, type_url::ENDPOINT);
    /// `Listener`, served by LDS.
    pub const LISTENER: Self = Self::known(2, type_url::LISTENER);
    /// `RouteConfiguration`, served by RDS.
    pub const ROUTE: Self = Self::known(3, type_url::ROUTE);
    /// `Secret`, served by SDS.
    pub const SECRET: Self = Self::known(4, type_url::SECRET);
    /// `TypedExtensionConfig`, served by ECDS.
    pub const EXTENSION_CONFIG: Self =
        Self::known(OTHERS, "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
    /// `WorkloadTls`, the TLS settings of one workload for our own proxies.
    pub const WORKLOAD_TLS: Self = Self::known(OTHERS, type_url::WORKLOAD_TLS);

    const fn known(rank: u8, url: &'static str) -> Self {
        Self { rank, url: Url::Known(url) }
    }

    /// Reads the `type_url` of a request; any text but the empty one names a type.
    ///
    /// # Errors
    /// [`EmptyTypeUrl`] (XDS.md X4).
    pub fn parse(url: &str) -> Result<Self, EmptyTypeUrl> {
        if url.is_empty() {
            return Err(EmptyTypeUrl);
        }
        let known = KNOWN.into_iter().find(|known| known.as_str() == url);
        Ok(known.unwrap_or_else(|| Self { rank: OTHERS, url: Url::Other(url.into()) }))
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        match &self.url {
            Url::Known(url) => url,
            Url::Other(url) => url,
        }
    }

    /// In state-of-the-world a response holds *all* resources of this type and absence deletes (XDS.md X25).
    pub(crate) fn is_complete(&self) -> bool {
        *self == Self::CLUSTER || *self == Self::LISTENER
    }

    /// A first state-of-the-world request without names asks for everything (XDS.md X16). Clients of the other
    /// types always name what they want; from them an empty list means nothing (ENVOY.md E15).
    pub(crate) fn empty_means_all(&self) -> bool {
        ![Self::ENDPOINT, Self::ROUTE, Self::SECRET, Self::EXTENSION_CONFIG].contains(self)
    }

    /// What leaves this type is taken away only after all other types were sent: make before break (XDS.md X40).
    pub(crate) fn leaves_last(&self) -> bool {
        *self == Self::CLUSTER || *self == Self::ENDPOINT
    }
}

impl PartialEq for TypeUrl {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for TypeUrl {}

impl PartialOrd for TypeUrl {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TypeUrl {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then_with(|| self.as_str().cmp(other.as_str()))
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_push_order_of_x40() {
        let mut types = [
            TypeUrl::parse("a/custom").unwrap(),
            TypeUrl::SECRET,
            TypeUrl::LISTENER,
            TypeUrl::ENDPOINT,
            TypeUrl::ROUTE,
            TypeUrl::CLUSTER,
        ];
        types.sort();
        let names: Vec<_> = types.iter().map(|t| t.as_str().rsplit('.').next().unwrap()).collect();
        assert_eq!(
            names,
            ["Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration", "Secret", "a/custom"]
        );
    }

    #[test]
    fn parsed_and_constant_urls_are_equal() {
        for known in KNOWN {
            assert_eq!(TypeUrl::parse(known.as_str()).unwrap(), known);
        }
    }
}
