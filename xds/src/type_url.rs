//! Type URLs and the rules of the protocol for each type.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use eastwest_proto::type_url;

/// The URL that names a resource type, e.g. `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
///
/// Cheap to clone. The order is the order in which types are pushed (XDS.md X40): clusters, endpoints,
/// listeners, routes, secrets, then all others by URL. A sorted map keyed by `TypeUrl` is thus walked in push order.
#[derive(Clone)]
pub struct TypeUrl(Url);

#[derive(Clone)]
enum Url {
    Known(&'static KnownType),
    Other(Arc<str>),
}

/// A request on an aggregated stream must name its type (XDS.md X4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("type_url is empty: name the resource type, e.g. {}", TypeUrl::CLUSTER)]
pub struct EmptyTypeUrl;

/// A type that this crate knows, and how the protocol treats it. The order is the push order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownType {
    /// The place in the push order (XDS.md X40); types of the same place are pushed by URL.
    rank: u8,
    url: &'static str,
    /// The name on the command line, e.g. `cds`; `None` for a type that is not served.
    short_name: Option<&'static str>,
    /// What its resources are called, e.g. `clusters`; empty for a type without a word.
    plural: &'static str,
    /// In state-of-the-world a response holds *all* resources of this type and absence deletes (XDS.md X25).
    complete: bool,
    /// Clients always name what they want. Of other types a first state-of-the-world request without names asks for
    /// everything (XDS.md X16, ENVOY.md E15).
    by_name: bool,
    /// What leaves this type is removed only after all other types were sent: make before break (XDS.md X40).
    leaves_last: bool,
}

/// The rank of types without a place of their own in the push order: they come last.
const LAST: u8 = 5;

/// How the protocol treats a type without a row in the table.
const OTHER: KnownType = KnownType {
    rank: LAST,
    url: "",
    short_name: None,
    plural: "",
    complete: false,
    by_name: false,
    leaves_last: false,
};

macro_rules! known_types {
    ($($(#[$doc:meta])* $name:ident = $known:expr;)*) => {
        impl TypeUrl {
            $($(#[$doc])* pub const $name: Self = Self(Url::Known(&$known));)*
        }

        /// In push order.
        static KNOWN: &[KnownType] = &[$($known),*];
    };
}

// One row a type, in push order.
known_types! {
    /// `Cluster`, served by CDS.
    CLUSTER = KnownType {
        rank: 0,
        url: type_url::CLUSTER,
        short_name: Some("cds"), plural: "clusters",
        complete: true,
        leaves_last: true,
        ..OTHER
    };
    /// `ClusterLoadAssignment`, served by EDS.
    ENDPOINT = KnownType {
        rank: 1,
        url: type_url::ENDPOINT,
        short_name: Some("eds"), plural: "endpoints",
        by_name: true,
        leaves_last: true,
        ..OTHER
    };
    /// `Listener`, served by LDS.
    LISTENER = KnownType {
        rank: 2, url: type_url::LISTENER, short_name: Some("lds"), plural: "listeners", complete: true, ..OTHER
    };
    /// `RouteConfiguration`, served by RDS.
    ROUTE = KnownType { rank: 3, url: type_url::ROUTE, short_name: Some("rds"), plural: "routes", by_name: true, ..OTHER };
    /// `Secret`, served by SDS.
    SECRET = KnownType { rank: 4, url: type_url::SECRET, short_name: Some("sds"), plural: "secrets", by_name: true, ..OTHER };
    /// `WorkloadTls`, the TLS settings of one workload for our own proxies.
    WORKLOAD_TLS = KnownType { url: type_url::WORKLOAD_TLS, short_name: Some("workload"), ..OTHER };
    /// `TypedExtensionConfig`, served by ECDS.
    EXTENSION_CONFIG = KnownType {
        url: "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", by_name: true, ..OTHER
    };
}

impl KnownType {
    /// All of them, in push order.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        KNOWN.iter()
    }

    /// The name on the command line, e.g. `cds`; `None` for a type that is not served.
    pub fn short_name(&self) -> Option<&'static str> {
        self.short_name
    }

    /// What its resources are called, e.g. `clusters`; empty for a type without a word.
    pub fn plural(&self) -> &'static str {
        self.plural
    }
}

impl From<&'static KnownType> for TypeUrl {
    fn from(known: &'static KnownType) -> Self {
        Self(Url::Known(known))
    }
}

impl TypeUrl {
    /// Reads the `type_url` of a request; any text but the empty one names a type.
    ///
    /// # Errors
    /// [`EmptyTypeUrl`] (XDS.md X4).
    pub fn parse(url: &str) -> Result<Self, EmptyTypeUrl> {
        if url.is_empty() {
            return Err(EmptyTypeUrl);
        }
        let known = KNOWN.iter().find(|known| known.url == url);
        Ok(known.map_or_else(|| Self(Url::Other(url.into())), Self::from))
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Url::Known(known) => known.url,
            Url::Other(url) => url,
        }
    }

    /// The name on the command line, e.g. `cds`; `None` for a type that is not served.
    pub fn short_name(&self) -> Option<&'static str> {
        self.traits().short_name
    }

    /// What its resources are called, e.g. `clusters`; empty for a type without a word.
    pub fn plural(&self) -> &'static str {
        self.traits().plural
    }

    /// How the protocol treats the type.
    fn traits(&self) -> &KnownType {
        match &self.0 {
            Url::Known(known) => known,
            Url::Other(_) => &OTHER,
        }
    }

    /// In state-of-the-world a response holds *all* resources of this type and absence deletes (XDS.md X25).
    pub(crate) fn is_complete(&self) -> bool {
        self.traits().complete
    }

    /// A first state-of-the-world request without names asks for everything (XDS.md X16). Clients of the other
    /// types always name what they want; from them an empty list means nothing (ENVOY.md E15).
    pub(crate) fn empty_means_all(&self) -> bool {
        !self.traits().by_name
    }

    /// What leaves this type is removed only after all other types were sent: make before break (XDS.md X40).
    pub(crate) fn leaves_last(&self) -> bool {
        self.traits().leaves_last
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
        self.traits().rank.cmp(&other.traits().rank).then_with(|| self.as_str().cmp(other.as_str()))
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
        for known in KnownType::all() {
            assert_eq!(TypeUrl::parse(known.url).unwrap(), TypeUrl::from(known));
        }
        assert_eq!(TypeUrl::parse(type_url::CLUSTER).unwrap(), TypeUrl::CLUSTER);
    }

    #[test]
    fn rows_stand_in_push_order() {
        assert!(KNOWN.is_sorted(), "{KNOWN:?}");
    }
}
