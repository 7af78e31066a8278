//! The traffic policy of a cluster besides TLS: the blocks that a rule sets (TRAFFIC.md B1 to B4).

use std::{sync::Arc, time::Duration};

use eastwest_model::{
    ObjectRef,
    mesh::TrafficDefaults,
    policy::{
        ConnectionPool, HashKey, LoadBalancer, OutlierDetection, ProxyProtocol, RetryBudget, RetryPolicy,
        Tunnel,
    },
};
use serde::Serialize;

/// What a DestinationRule says of a cluster besides TLS. The levels are merged: a block that is not set has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficSettings {
    /// The rule that holds for the cluster; of several that are merged the oldest.
    pub rule: Option<ObjectRef>,
    /// How requests are shared out.
    pub load_balancer: Option<Sourced<Arc<LoadBalancer>>>,
    /// Limits of connections and requests.
    pub connection_pool: Option<Sourced<Arc<ConnectionPool>>>,
    /// When an endpoint is ejected.
    pub outlier_detection: Option<Sourced<Arc<OutlierDetection>>>,
    /// A tunnel through the cluster.
    pub tunnel: Option<Sourced<Arc<Tunnel>>>,
    /// PROXY protocol towards the endpoints.
    pub proxy_protocol: Option<Sourced<ProxyProtocol>>,
    /// How many retries may be under way.
    pub retry_budget: Option<Sourced<Arc<RetryBudget>>>,
    /// What is hashed of requests that no VirtualService routes here; `None` = nothing.
    pub hash: Option<Sourced<HashKey>>,
    /// How bytes are handed on.
    pub relay: Relay,
    /// The settings of the mesh.
    pub mesh: Arc<TrafficDefaults>,
}

/// How a proxy hands bytes on to a cluster (TRAFFIC.md B9).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Relay {
    /// How long nothing may be sent; `None` or 0 = any time.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may live.
    pub max_connection_duration: Option<Duration>,
    /// Connections of one source address go to one endpoint, if the cluster chooses by hash.
    pub hashes_source: bool,
}

/// How the requests of a route are sent (TRAFFIC.md B7, R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sending<'a> {
    /// What is hashed for clusters that choose by hash.
    pub hash: Option<&'a HashKey>,
    /// What is tried again.
    pub retries: &'a RetryPolicy,
}

/// A value with the DestinationRule that it comes from. Of merged rules that is the one that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// The rule.
    pub rule: ObjectRef,
    /// Where in the rule it stands.
    pub level: Level,
}

/// A level of a rule's traffic policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// `trafficPolicy`.
    General,
    /// Its entry for a port.
    Port,
    /// The policy of a subset.
    Subset,
    /// Its entry for a port.
    #[serde(rename = "port of the subset")]
    SubsetPort,
}

impl TrafficSettings {
    /// B5: that of the rule, else of the mesh.
    pub(crate) fn pool(&self) -> Option<&Arc<ConnectionPool>> {
        let own = self.connection_pool.as_ref().map(|block| &block.value);
        own.or(self.mesh.connection_pool.as_ref())
    }

    /// B5: that of the rule, else of the mesh.
    pub(crate) fn outliers(&self) -> Option<&Arc<OutlierDetection>> {
        let own = self.outlier_detection.as_ref().map(|block| &block.value);
        own.or(self.mesh.outlier_detection.as_ref())
    }
}
