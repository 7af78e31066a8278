//! Authorizes xDS streams: which proxy may connect, and which view it gets.

use std::{net::IpAddr, sync::Arc, time::Duration};

use eastwest_ca::Caller;
use eastwest_ca_server::{CredentialValidity, Credentials, PeerAuthenticator};
use eastwest_io::accept::{PeerConnection, network};
use eastwest_model::{
    Families, Kind, Labels, Meta, Name, ObjectRef, SpiffeId, Workload, WorkloadKey,
    workload::ProxyCertificate,
};
use eastwest_translate::{Audience, ProxyFacts, ProxyKey, ProxyRole};
use eastwest_xds_server::{AuthenticatedClient, AuthorizedStream, Node, StreamAuthorizer};
use prost_types::{Value, value::Kind as ValueKind};
use tokio::{sync::watch, time::timeout};
use tonic::Status;

use super::publisher::{Subscribers, Subscription};
use crate::query::World;

/// What Envoy calls itself.
const STOCK_ENVOY: &str = "envoy";

/// Gives each proxy the view of its authenticated identity; node id and metadata must agree with that identity (XDS.md
/// X53).
pub(super) struct ProxyAuthorizer {
    /// Authenticates the client; `None` on the plaintext port, which trusts the node (XDS.md X52).
    pub(super) peer_authenticator: Option<PeerAuthenticator>,
    pub(super) views: ProxyViews,
}

/// Where the view of a proxy comes from.
#[derive(Clone)]
pub(super) struct ProxyViews {
    pub(super) subscribers: Subscribers,
    pub(super) world: watch::Receiver<World>,
    /// How long a proxy waits for its Pod to become known.
    pub(super) pod_patience: Duration,
}

/// The client of a stream, before it says which proxy it is.
struct Client {
    /// `None` on the plaintext port.
    authenticated: Option<(Caller, CredentialValidity)>,
    address: Option<IpAddr>,
    views: ProxyViews,
}

#[tonic::async_trait]
impl StreamAuthorizer for ProxyAuthorizer {
    async fn authenticate(&self, call: &tonic::Request<()>) -> Result<Box<dyn AuthenticatedClient>, Status> {
        let peer = call.extensions().get::<PeerConnection>();
        let address = peer.and_then(|peer| peer.remote).map(|remote| network(remote.ip()));
        let authenticated = match &self.peer_authenticator {
            None => None,
            Some(authenticator) => Some(admit(authenticator, call).await?),
        };
        Ok(Box::new(Client { authenticated, address, views: self.views.clone() }))
    }
}

async fn admit(
    authenticator: &PeerAuthenticator,
    call: &tonic::Request<()>,
) -> Result<(Caller, CredentialValidity), Status> {
    let credentials = Credentials { metadata: call.metadata(), extensions: call.extensions() };
    authenticator.admit(&credentials).await.map_err(|error| {
        tracing::info!(%error, "xDS stream refused");
        Status::unauthenticated(
            "no valid identity: show a client certificate of this mesh or a service-account token",
        )
    })
}

#[tonic::async_trait]
impl AuthenticatedClient for Client {
    fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The workloads of the root namespace may see all proxies, as in istiod (XDS.md X66).
    fn may_inspect(&self) -> Result<(), Status> {
        let world = self.views.world.borrow();
        let root = &world.snapshot.mesh().root_namespace;
        let Some((caller, _)) = &self.authenticated else {
            return Err(Status::unauthenticated(format!(
                "the state of all proxies is shown on the TLS port alone, to workloads of the namespace {root}"
            )));
        };
        match caller.identity.as_workload() {
            Ok((namespace, _)) if namespace == &**root => Ok(()),
            _ => Err(Status::permission_denied(format!(
                "the state of all proxies is not shown to {}: ask with the identity of a workload of the namespace {root}",
                caller.identity
            ))),
        }
    }

    async fn authorize(self: Box<Self>, node: &Node) -> Result<AuthorizedStream, Status> {
        let Self { authenticated, views, .. } = *self;
        let (caller, validity) = authenticated.unzip();
        let role = role(node)?;
        let claim = Claim::read(node)?;
        if let Some(caller) = &caller {
            claim.agrees_with(caller)?;
        }
        let known = views.workload(&claim.key).await;
        if let Some(pod) = &known {
            claim.agrees_with_pod(pod, caller.as_ref())?;
        }
        let account = caller.as_ref().and_then(service_account);
        let workload = known.unwrap_or_else(|| Arc::new(claim.stand_in(node, account)));
        // POLICY.md O9: what the proxy reports counts before what its Pod names.
        let certificate = ProxyCertificate::read(|entry| node.metadata_text(entry).map(Name::from));
        let key = ProxyKey::of(&workload, role, facts(node, caller.is_some())?)
            .with_certificate(certificate)
            .with_families(Families::of(node.addresses()));
        let Subscription { view, lease } = views.subscribers.subscribe(key, workload).await?;
        let identity = caller.map(|caller| caller.identity.to_string());
        let stream = AuthorizedStream::new(identity, view).observed_by(lease);
        Ok(match validity {
            Some(validity) => stream.until(validity.over()),
            None => stream,
        })
    }
}

impl ProxyViews {
    /// The workload of that name, if it is known or becomes known in a moment.
    async fn workload(&self, key: &WorkloadKey) -> Option<Arc<Workload>> {
        let mut world = self.world.clone();
        let known = world.wait_for(|world| world.snapshot.workload(key).is_some());
        let known = timeout(self.pod_patience, known).await;
        // The time is over, or there will be no other world.
        let world = known.ok()?.ok()?;
        world.snapshot.workload(key).cloned()
    }
}

fn service_account(caller: &Caller) -> Option<Name> {
    caller.identity.as_workload().ok().map(|(_, account)| account.into())
}

/// The workload and the service account that a node claims.
struct Claim {
    key: WorkloadKey,
    /// Metadata `NAMESPACE`, else the namespace of the id.
    namespace: Name,
    /// Metadata `SERVICE_ACCOUNT`.
    service_account: Option<Name>,
}

impl Claim {
    fn read(node: &Node) -> Result<Self, Status> {
        let namespace: Name = node.metadata_text("NAMESPACE").unwrap_or(node.namespace()).into();
        if *namespace != *node.namespace() {
            return Err(Status::permission_denied(format!(
                "node.metadata.NAMESPACE {namespace:?} differs from the namespace {:?} in node.id {:?}: both must be \
                 the namespace of the pod",
                node.namespace(),
                node.id()
            )));
        }
        let key = WorkloadKey { namespace: namespace.clone(), name: node.pod().into() };
        let service_account =
            node.metadata_text("SERVICE_ACCOUNT").filter(|text| !text.is_empty()).map(Name::from);
        Ok(Self { key, namespace, service_account })
    }

    fn agrees_with(&self, caller: &Caller) -> Result<(), Status> {
        let (namespace, account) =
            caller.identity.as_workload().map_err(|error| Status::permission_denied(error.to_string()))?;
        if namespace != &*self.namespace {
            return Err(self.denied("node.metadata.NAMESPACE", &self.namespace, &caller.identity));
        }
        if let Some(pod) = caller.proof.pod().filter(|pod| *pod.name != *self.key.name) {
            return Err(Status::permission_denied(format!(
                "node.id names the pod {:?}, and the token is bound to the pod {:?}: a proxy gets the configuration of \
                 its own pod only",
                self.key.name, pod.name
            )));
        }
        match &self.service_account {
            Some(claimed) if **claimed != *account => {
                Err(self.denied("node.metadata.SERVICE_ACCOUNT", claimed, &caller.identity))
            }
            _ => Ok(()),
        }
    }

    fn denied(&self, field: &str, claimed: &str, identity: &SpiffeId) -> Status {
        Status::permission_denied(format!(
            "{field} {claimed:?} is not what {identity} is entitled to: a proxy gets the configuration of its own \
             identity only"
        ))
    }

    /// The Pod that the node names must have the proven service account, or where none was proven, the claimed one.
    fn agrees_with_pod(&self, pod: &Workload, caller: Option<&Caller>) -> Result<(), Status> {
        let proven = caller.and_then(service_account);
        match (proven.as_ref().or(self.service_account.as_ref()), &pod.service_account) {
            (Some(ours), Some(real)) if ours != real => Err(Status::permission_denied(format!(
                "node.id names {}, whose service account is {real:?}, not {ours:?}: a proxy gets the configuration of \
                 its own pod only",
                pod.meta.object
            ))),
            _ => Ok(()),
        }
    }

    /// A workload for a proxy whose Pod is not known (yet). Its identity is the authenticated one. Its labels are a claim
    /// of the node, which affects nothing but its own settings.
    fn stand_in(self, node: &Node, account: Option<Name>) -> Workload {
        let object = ObjectRef::new(Kind::Pod, self.namespace, self.key.name);
        let meta = Meta { labels: Arc::new(labels(node)), ..Meta::new(object) };
        Workload {
            service_account: account.or(self.service_account),
            addresses: node.addresses().to_vec(),
            ..Workload::new(meta)
        }
    }
}

/// The role of a proxy, by the type that its node id begins with.
fn role(node: &Node) -> Result<ProxyRole, Status> {
    let name = node.kind().as_str();
    ProxyRole::by_name(name).ok_or_else(|| {
        let served: Vec<_> = ProxyRole::ALL.iter().map(ToString::to_string).collect();
        Status::invalid_argument(format!(
            "node.id: a proxy of type {name} is not served; the types served are: {}. Start the proxy as one of these, \
             or connect it to another control plane",
            served.join(", ")
        ))
    })
}

/// The facts of a proxy: its program and its ports from the node, and whether it is authenticated. Secrets are served to
/// authenticated proxies only, so the plaintext port never serves them.
fn facts(node: &Node, proven: bool) -> Result<ProxyFacts, Status> {
    let audience = if node.user_agent() == STOCK_ENVOY { Audience::Envoy } else { Audience::Other };
    let usual = ProxyFacts::usual(audience);
    let inbound_port = port(node, "INBOUND_LISTENER_PORT")?.unwrap_or(usual.inbound_port);
    let outbound_port = port(node, "OUTBOUND_LISTENER_PORT")?.unwrap_or(usual.outbound_port);
    if inbound_port == outbound_port {
        return Err(Status::invalid_argument(format!(
            "node.metadata.INBOUND_LISTENER_PORT and OUTBOUND_LISTENER_PORT are both {inbound_port}: give two ports"
        )));
    }
    let internal_listeners = flag(node, "INTERNAL_LISTENERS")?;
    Ok(ProxyFacts { audience, inbound_port, outbound_port, internal_listeners, proven })
}

/// A flag in the metadata: the text `true` or `false`, as Istio writes it; `false` if absent.
fn flag(node: &Node, key: &str) -> Result<bool, Status> {
    match node.metadata_text(key) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        None if !node.metadata().fields.contains_key(key) => Ok(false),
        _ => Err(Status::invalid_argument(format!(
            "node.metadata.{key} is neither of the texts \"true\" and \"false\""
        ))),
    }
}

/// A port in the metadata: a text, as Istio writes it.
fn port(node: &Node, key: &str) -> Result<Option<u16>, Status> {
    if !node.metadata().fields.contains_key(key) {
        return Ok(None);
    }
    let text = node.metadata_text(key).unwrap_or_default();
    let port = text.parse().ok().filter(|port| *port != 0);
    port.map(Some).ok_or_else(|| {
        let start: String = text.chars().take(20).collect();
        Status::invalid_argument(format!(
            "node.metadata.{key} {start:?} is not a port: write a text from \"1\" to \"65535\""
        ))
    })
}

/// Metadata `LABELS`: an object whose values are texts.
fn labels(node: &Node) -> Labels {
    let fields = node.metadata().fields.get("LABELS");
    let Some(ValueKind::StructValue(labels)) = fields.and_then(|value| value.kind.as_ref()) else {
        return Labels::default();
    };
    let text = |(key, value): (&String, &Value)| match &value.kind {
        Some(ValueKind::StringValue(text)) => Some((key.as_str().into(), text.as_str().into())),
        _ => None,
    };
    labels.fields.iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use eastwest_ca::{BoundObject, Proof};
    use eastwest_proto::envoy::config::core::v3 as core;
    use prost_types::Struct;

    use super::*;

    fn node(user_agent: &str, metadata: &[(&str, &str)]) -> Node {
        let text = |text: &str| Value { kind: Some(ValueKind::StringValue(text.to_owned())) };
        let fields = metadata.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
        node_of("sidecar", user_agent, fields)
    }

    fn node_of(kind: &str, user_agent: &str, fields: BTreeMap<String, Value>) -> Node {
        Node::parse(Some(core::Node {
            id: format!("{kind}~10.0.0.7~web-0.shop~shop.svc.cluster.local"),
            user_agent_name: user_agent.to_owned(),
            metadata: Some(Struct { fields }),
            ..core::Node::default()
        }))
        .unwrap()
    }

    #[test]
    fn a_proxy_of_another_role_is_refused_by_the_name_of_its_role() {
        let role_of = |kind| role(&node_of(kind, "envoy", BTreeMap::new()));
        assert_eq!(role_of("sidecar").unwrap(), ProxyRole::Sidecar);
        for kind in ["router", "waypoint", "ztunnel", "agentgateway"] {
            let refused = role_of(kind).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            let words = format!("a proxy of type {kind} is not served; the types served are: sidecar.");
            assert!(refused.message().contains(&words), "{}", refused.message());
        }
    }

    #[test]
    fn a_token_of_a_pod_opens_no_stream_of_another() {
        let claim = Claim::read(&node("envoy", &[])).unwrap();
        let caller = |pod: Option<&str>| {
            let identity = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/web").unwrap();
            let pod = pod.map(|name| BoundObject { name: name.to_owned(), uid: "u".to_owned() });
            Caller::new(identity, Proof::Reviewed { pod, node: None, expires: None })
        };
        assert!(claim.agrees_with(&caller(None)).is_ok());
        assert!(claim.agrees_with(&caller(Some("web-0"))).is_ok());
        let refused = claim.agrees_with(&caller(Some("web-1"))).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        assert!(refused.message().contains("\"web-1\""), "{}", refused.message());
    }

    #[test]
    fn only_envoy_goes_without_our_own_type() {
        assert_eq!(facts(&node("envoy", &[]), true).unwrap(), ProxyFacts::usual(Audience::Envoy));
        assert_eq!(facts(&node("", &[]), true).unwrap(), ProxyFacts::usual(Audience::Other));
    }

    #[test]
    fn ports_are_the_proxys_word_if_they_are_ports() {
        let (inbound, outbound) = ("INBOUND_LISTENER_PORT", "OUTBOUND_LISTENER_PORT");
        let found = facts(&node("envoy", &[(inbound, "16006"), (outbound, "16001")]), true).unwrap();
        assert_eq!((found.inbound_port, found.outbound_port), (16006, 16001));
        for (key, value) in [(inbound, "0"), (inbound, "65536"), (outbound, "http"), (inbound, "15001")] {
            let refused = facts(&node("envoy", &[(key, value)]), true).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            assert!(refused.message().contains(key), "{}", refused.message());
        }
    }

    #[test]
    fn internal_listeners_are_for_those_who_say_so() {
        let of =
            |metadata: &[(&str, &str)]| facts(&node("envoy", metadata), true).map(|f| f.internal_listeners);
        let key = "INTERNAL_LISTENERS";
        assert!(!of(&[]).unwrap());
        assert!(!of(&[(key, "false")]).unwrap());
        assert!(of(&[(key, "true")]).unwrap());
        assert!(of(&[(key, "yes")]).unwrap_err().message().contains(key));
    }
}
