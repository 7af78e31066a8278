//! The node of a client: its id `type~ip~pod.namespace~domain` and its metadata.

use std::fmt;
use std::net::IpAddr;

use eastwest_proto::envoy::config::core::v3 as core;
use prost::Message as _;
use prost_types::Struct;
use prost_types::value::Kind;

/// How many addresses of a proxy are read.
const MAX_ADDRESSES: usize = 16;

/// The node of a stream's first request, with an id of the form that istiod uses (XDS.md X2).
///
/// Everything in it is a claim of the client.
#[derive(Clone, Debug)]
pub struct Node {
    id: String,
    kind: NodeKind,
    addresses: Vec<IpAddr>,
    pod: String,
    namespace: String,
    domain: String,
    user_agent: String,
    user_agent_version: String,
    metadata: Struct,
}

/// The largest node that is read, in bytes (XDS.md X55). Its labels are kept for as long as the stream lives.
const MAX_NODE: usize = 64 * 1024;

/// The first part of a node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A proxy beside a workload.
    Sidecar,
    /// A gateway.
    Router,
    /// An ambient waypoint.
    Waypoint,
    /// An ambient node proxy.
    Ztunnel,
    /// An agentgateway.
    Agentgateway,
}

const KINDS: [NodeKind; 5] =
    [NodeKind::Sidecar, NodeKind::Router, NodeKind::Waypoint, NodeKind::Ztunnel, NodeKind::Agentgateway];

impl NodeKind {
    /// The first part of a node id, e.g. `sidecar`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Router => "router",
            Self::Waypoint => "waypoint",
            Self::Ztunnel => "ztunnel",
            Self::Agentgateway => "agentgateway",
        }
    }
}

/// Why the node of a first request is refused. The client must correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// There is no node at all.
    #[error("node is missing: the first request of a stream must carry it")]
    Missing,
    /// More than any proxy has to say of itself.
    #[error("node has {0} bytes: at most {MAX_NODE}; give the proxy less metadata")]
    TooLarge(usize),
    /// Not four parts.
    #[error(
        "node.id {0}: expected type~ip~pod.namespace~domain, e.g. sidecar~10.0.0.7~web-0.shop~shop.svc.cluster.local"
    )]
    Malformed(Quoted),
    /// An unknown first part.
    #[error("node.id {0}: its first part must be sidecar, router, waypoint, ztunnel or agentgateway")]
    UnknownKind(Quoted),
    /// No usable address.
    #[error("node.id {0}: its second part is not an IP address: correct it, or set metadata INSTANCE_IPS")]
    NoAddress(Quoted),
    /// A third part without a pod or a namespace.
    #[error("node.id {0}: its third part must be pod.namespace")]
    NoNamespace(Quoted),
}

/// Text of a client in an error: quoted, escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    fn new(text: &str) -> Self {
        Self(text.chars().take(120).collect())
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Node {
    /// Reads the node of a first request.
    ///
    /// # Errors
    /// [`NodeError`] names the field and the remedy.
    pub fn parse(node: Option<core::Node>) -> Result<Self, NodeError> {
        let node = node.ok_or(NodeError::Missing)?;
        if node.encoded_len() > MAX_NODE {
            return Err(NodeError::TooLarge(node.encoded_len()));
        }
        let core::Node { id, metadata, user_agent_name: user_agent, user_agent_version_type, .. } = node;
        let user_agent_version = user_agent_version_type.map(version).unwrap_or_default();
        let metadata = metadata.unwrap_or_default();
        let quoted = || Quoted::new(&id);
        let parts: Vec<_> = id.split('~').collect();
        let [kind, ip, pod, domain] = parts[..] else { return Err(NodeError::Malformed(quoted())) };
        let kind = KINDS.into_iter().find(|known| known.as_str() == kind);
        let kind = kind.ok_or_else(|| NodeError::UnknownKind(quoted()))?;
        let addresses = addresses(&metadata, ip);
        if addresses.is_empty() {
            return Err(NodeError::NoAddress(quoted()));
        }
        let names = pod.rsplit_once('.').filter(|(pod, namespace)| !pod.is_empty() && !namespace.is_empty());
        let (pod, namespace) = names.ok_or_else(|| NodeError::NoNamespace(quoted()))?;
        let (pod, namespace, domain) = (pod.to_owned(), namespace.to_owned(), domain.to_owned());
        Ok(Self { id, kind, addresses, pod, namespace, domain, user_agent, user_agent_version, metadata })
    }

    /// The whole id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What kind of proxy it is.
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// The proxy's addresses, at least one, each once: those of metadata `INSTANCE_IPS`, then that of the id.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The pod's name, from the id.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// The pod's namespace, from the id.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The DNS domain, e.g. `shop.svc.cluster.local`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The client's program (`user_agent_name`), e.g. `envoy`; empty if it is not set.
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// The release of that program, e.g. `1.40.0`; empty if it is not set.
    pub fn user_agent_version(&self) -> &str {
        &self.user_agent_version
    }

    /// A text in the metadata, e.g. `NAMESPACE` or `SERVICE_ACCOUNT`.
    pub fn metadata_text(&self, key: &str) -> Option<&str> {
        text(&self.metadata, key)
    }

    /// The whole metadata; empty if there is none.
    pub fn metadata(&self) -> &Struct {
        &self.metadata
    }
}

/// The release of the client's program: a text, or three numbers.
fn version(version: core::node::UserAgentVersionType) -> String {
    use core::node::UserAgentVersionType::{UserAgentBuildVersion, UserAgentVersion};
    match version {
        UserAgentVersion(text) => text,
        UserAgentBuildVersion(build) => build.version.map_or_else(String::new, |version| {
            format!("{}.{}.{}", version.major_number, version.minor_number, version.patch)
        }),
    }
}

/// The usable addresses: metadata before id.
fn addresses(metadata: &Struct, id_part: &str) -> Vec<IpAddr> {
    let instance_ips = text(metadata, "INSTANCE_IPS").unwrap_or_default();
    let mut found = Vec::new();
    for address in instance_ips.split(',').chain([id_part]).filter_map(|ip| ip.trim().parse().ok()) {
        if found.len() < MAX_ADDRESSES && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

fn text<'a>(metadata: &'a Struct, key: &str) -> Option<&'a str> {
    match metadata.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(id: &str, instance_ips: Option<&str>) -> Result<Node, NodeError> {
        let value = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = instance_ips.map(|ips| ("INSTANCE_IPS".to_owned(), value(ips))).into_iter().collect();
        Node::parse(Some(core::Node {
            id: id.to_owned(),
            metadata: Some(Struct { fields }),
            ..core::Node::default()
        }))
    }

    #[test]
    fn reads_all_parts() {
        let node = parse("sidecar~10.0.0.7~web.v1-0.shop~shop.svc.cluster.local", None).unwrap();
        assert_eq!(
            (node.pod(), node.namespace(), node.domain()),
            ("web.v1-0", "shop", "shop.svc.cluster.local")
        );
        assert_eq!((node.kind(), node.addresses()), (NodeKind::Sidecar, &["10.0.0.7".parse().unwrap()][..]));
    }

    #[test]
    fn instance_ips_come_before_the_id() {
        let of = |id: &str, instance_ips| -> Vec<String> {
            let node = parse(&format!("router~{id}~gw-0.infra~x"), instance_ips).unwrap();
            node.addresses().iter().map(ToString::to_string).collect()
        };
        assert_eq!(of("none", Some("bad, fd00::7,10.0.0.8")), ["fd00::7", "10.0.0.8"]);
        assert_eq!(of("10.0.0.8", Some("10.0.0.8,fd00::7")), ["10.0.0.8", "fd00::7"]);
        assert_eq!(of("fd00::7", None), ["fd00::7"]);
        let many: Vec<_> = (0..99).map(|last| format!("10.0.0.{last}")).collect();
        assert_eq!(of("none", Some(&many.join(","))).len(), MAX_ADDRESSES);
    }

    #[test]
    fn malformed_ids_are_refused_with_field_and_remedy() {
        for (id, expected) in [
            ("", "expected type~ip~pod.namespace~domain"),
            ("sidecar~10.0.0.7~web.shop", "expected type~ip~pod.namespace~domain"),
            ("sidecar~10.0.0.7~web.shop~d~e", "expected type~ip~pod.namespace~domain"),
            ("proxy~10.0.0.7~web.shop~d", "must be sidecar, router"),
            ("sidecar~10.0.0~web.shop~d", "not an IP address"),
            ("sidecar~10.0.0.7~web~d", "must be pod.namespace"),
            ("sidecar~10.0.0.7~.shop~d", "must be pod.namespace"),
        ] {
            let message = parse(id, None).unwrap_err().to_string();
            assert!(message.contains("node.id") && message.contains(expected), "{id}: {message}");
        }
        assert!(Node::parse(None).unwrap_err().to_string().contains("node is missing"));
    }

    #[test]
    fn a_node_is_bounded() {
        let id = "sidecar~10.0.0.7~web-0.shop~d";
        assert!(parse(id, Some(&format!("10.0.0.8,{}", "x".repeat(60_000)))).is_ok());
        let refused = parse(id, Some(&format!("10.0.0.8,{}", "x".repeat(70_000)))).unwrap_err();
        assert!(matches!(refused, NodeError::TooLarge(70_000..)), "{refused}");
    }

    #[test]
    fn a_huge_id_makes_no_huge_error() {
        assert!(parse(&"~\n".repeat(10_000), None).unwrap_err().to_string().len() < 1000);
    }
}
