//! Names of Envoy resources, the same as istiod's (POLICY.md O1 and I5).

pub(crate) use eastwest_engine::listeners::{BLACK_HOLE_CLUSTER, PASSTHROUGH_CLUSTER, VIRTUAL_OUTBOUND};

/// The inbound listener.
pub(crate) const VIRTUAL_INBOUND: &str = "virtualInbound";
/// Where connections to ports go that no service lists.
pub(crate) const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
/// The internal listener that inspects first bytes behind `virtualInbound`, and the cluster that leads to it.
pub(crate) const INBOUND_INSPECTED: &str = "inbound-inspected";
/// The internal listener for plaintext of undeclared protocol, and the cluster that leads to it.
pub(crate) const INBOUND_PLAINTEXT: &str = "inbound-plaintext";
/// The workload's own certificate, a secret of the agent.
pub(crate) const OWN_CERTIFICATE: &str = "default";
/// The trust bundle, a secret of the agent.
pub(crate) const TRUST_BUNDLE: &str = "ROOTCA";
/// The agent's secret discovery service, a cluster of the bootstrap.
pub(crate) const SDS_CLUSTER: &str = "sds-grpc";

/// The cluster of a port of the workload: `inbound|<port>||`.
pub(crate) fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// The key under which an internal listener is told who the peer of a connection is.
pub(super) const REMOTE_ADDRESS: &str = "envoy.filters.listener.original_dst.remote_ip";
