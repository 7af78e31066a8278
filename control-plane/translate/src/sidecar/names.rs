//! Names of Envoy resources, the same as istiod's (POLICY.md O1 and I5).

/// The inbound listener.
pub const VIRTUAL_INBOUND: &str = "virtualInbound";
/// The outbound listener.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// Where connections to unknown hosts go.
pub const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// Where connections go that must not go anywhere.
pub const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// Where connections to ports go that no service lists.
pub const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
/// The internal listener that inspects first bytes behind `virtualInbound`, and the cluster that leads to it.
pub const INBOUND_INSPECTED: &str = "inbound-inspected";
/// The internal listener for plaintext of undeclared protocol, and the cluster that leads to it.
pub const INBOUND_PLAINTEXT: &str = "inbound-plaintext";
/// The workload's own certificate, a secret of the agent.
pub const OWN_CERTIFICATE: &str = "default";
/// The trust bundle, a secret of the agent.
pub const TRUST_BUNDLE: &str = "ROOTCA";
/// The agent's secret discovery service, a cluster of the bootstrap.
pub const SDS_CLUSTER: &str = "sds-grpc";
/// Where intercepted inbound connections usually arrive.
pub const INBOUND_PORT: u16 = 15006;
/// Where intercepted outbound connections usually arrive.
pub const OUTBOUND_PORT: u16 = 15001;

/// The cluster of a port of the workload: `inbound|<port>||`.
pub fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// The listener of a port at any address: `0.0.0.0_<port>`.
pub fn any_address_listener(port: u16) -> String {
    format!("0.0.0.0_{port}")
}
