//! Random worlds for tests of the engine and of what is built on it.
//!
//! A world has few names, so that its objects often refer to each other. All values come from a seed: a failing test names
//! its seed and fails again with it.

#![allow(clippy::unwrap_used, reason = "a fixture that cannot be made fails the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use eastwest_model::{
    Change, Created, Credential, Family, Host, Kind, Labels, MeshConfig, Meta, Name, Object, ObjectRef,
    Origin, Selector, TrustDomain, Workload,
    credential::{CaBundle, KeyPair, PrivateKey},
    mesh::{Authorizer, AuthorizerProtocol, OutboundTrafficPolicy},
    policy::{
        Attribute, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, ClientTls, ClientTlsMode,
        ConnectionPool, ConsistentHash, DestinationRule, HashAlgorithm, HashKey, JwtRule, KeySource,
        LoadBalancer, MutualTlsMode, PeerAuthentication, PolicyBlocks, PortTrafficPolicy,
        RequestAuthentication, Requirement, SimpleLoadBalancer, Subset, TcpPool, TrafficPolicy,
    },
    service::{
        EgressListener, EndpointSlice, EntryEndpoint, ExportTo, Location, Protocol, Resolution, Service,
        ServiceEntry, ServicePort, Sidecar, SliceEndpoint, TargetPort,
    },
    workload::{ContainerPort, TLS_MODE_LABEL},
};

/// A namespace without any object of [`object`]; those of [`stranger`] are in it.
pub const STRANGE: &str = "strange";

const NAMESPACES: &[&str] = &["root", "a", "b"];
const NAMES: &[&str] = &["x", "y"];
const PORTS: &[u16] = &[80, 8080];

/// A small generator of numbers (SplitMix64): the same seed gives the same numbers on each machine.
#[derive(Debug)]
pub struct Random {
    state: u64,
    /// Whether worlds have policies of access.
    access: bool,
}

impl Random {
    /// A generator that begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, access: false }
    }

    /// The same, for worlds that have policies of access too.
    pub fn with_access(seed: u64) -> Self {
        Self { state: seed, access: true }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `limit` - 1. `limit` must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance(2).then(|| value(self))
    }

    fn some<T>(&mut self, most: usize, mut value: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| value(self)).collect()
    }

    /// Puts the items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// The default mesh configuration of the worlds.
pub fn defaults() -> MeshConfig {
    MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "root")
}

/// A world of at most `count` objects: of several with the same reference, the last.
pub fn world(random: &mut Random, count: usize) -> BTreeMap<ObjectRef, Object> {
    let objects = (0..count).map(|_| object(random));
    objects.map(|object| (object.reference().clone(), object)).collect()
}

/// One change of a world: an object appears, changes or is deleted. `objects` is the world, before and after.
pub fn change(random: &mut Random, objects: &mut BTreeMap<ObjectRef, Object>) -> Change {
    if random.below(4) == 0 && !objects.is_empty() {
        let at = random.below(objects.len());
        let name = objects.keys().nth(at).unwrap().clone();
        objects.remove(&name);
        return Change::Delete(name);
    }
    let object = object(random);
    objects.insert(object.reference().clone(), object.clone());
    Change::Upsert(object)
}

/// A random object of any kind.
pub fn object(random: &mut Random) -> Object {
    let namespace = random.one_of(NAMESPACES);
    in_namespace(random, namespace)
}

/// An object in [`STRANGE`] that affects no object of another namespace.
pub fn stranger(random: &mut Random) -> Object {
    loop {
        let object = in_namespace(random, STRANGE);
        let separate = match &object {
            Object::MeshConfig(..) => false,
            // A ServiceEntry claims hosts for the whole mesh; an alias names a host of another namespace.
            Object::ServiceEntry(_) => false,
            Object::Service(service) => service.external_name.is_none(),
            _ => true,
        };
        if separate {
            return object;
        }
    }
}

fn in_namespace(random: &mut Random, namespace: &str) -> Object {
    if random.access && random.chance(6) {
        return match random.chance(3) {
            true => Object::RequestAuthentication(Arc::new(request_authentication(random, namespace))),
            false => Object::AuthorizationPolicy(Arc::new(authorization_policy(random, namespace))),
        };
    }
    match random.below(21) {
        0..3 => Object::Service(Arc::new(service(random, namespace))),
        3..5 => Object::EndpointSlice(Arc::new(slice(random, namespace))),
        5..9 => Object::Workload(Arc::new(workload(random, namespace))),
        9..11 => Object::ServiceEntry(Arc::new(service_entry(random, namespace))),
        11 => Object::Sidecar(Arc::new(sidecar(random, namespace))),
        12..15 => Object::PeerAuthentication(Arc::new(peer_authentication(random, namespace))),
        15..19 => Object::DestinationRule(Arc::new(destination_rule(random, namespace))),
        19 => Object::Credential(Arc::new(credential(random, namespace))),
        _ => mesh(random),
    }
}

fn meta(random: &mut Random, kind: Kind, namespace: &str, labels: Labels) -> Meta {
    let name = random.one_of(NAMES);
    let mut labels = labels;
    if kind != Kind::Pod && random.chance(12) {
        labels.insert("istio.io/rev".into(), random.one_of(&["default", "other"]).into());
    }
    Meta {
        object: ObjectRef::new(kind, namespace, name),
        created: Created(i64::try_from(random.below(3)).unwrap()),
        labels: Arc::new(labels),
        annotations: Arc::default(),
        origin: Origin::default(),
    }
}

fn labels(random: &mut Random) -> Labels {
    let mut labels = Labels::new();
    for key in ["app", "version"] {
        if !random.chance(3) {
            labels.insert(key.into(), random.one_of(NAMES).into());
        }
    }
    if !random.chance(3) {
        let value = random.one_of(&["istio", "istio", "disabled", "other"]);
        labels.insert(TLS_MODE_LABEL.into(), value.into());
    }
    labels
}

fn selector(random: &mut Random) -> Selector {
    let keys = random.some(2, |random| random.one_of(&["app", "version"]));
    Selector(keys.into_iter().map(|key| (key.into(), random.one_of(NAMES).into())).collect())
}

fn address(random: &mut Random) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(random.below(6)).unwrap()))
}

fn address_v6(random: &mut Random) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::try_from(random.below(6)).unwrap()))
}

/// These addresses, often with one of IPv6 beside or in place of them.
fn of_families(aside: &mut Random, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let ipv6 = address_v6(aside);
    match aside.below(8) {
        0 if !addresses.is_empty() => vec![ipv6],
        1 => [&addresses[..], &[ipv6]].concat(),
        2 => [&[ipv6], &addresses[..]].concat(),
        _ => addresses,
    }
}

fn target(random: &mut Random) -> TargetPort {
    match random.chance(2) {
        true => TargetPort::Number(random.one_of(PORTS)),
        false => TargetPort::Named(random.one_of(NAMES).into()),
    }
}

fn ports(random: &mut Random, numeric: bool) -> Vec<ServicePort> {
    let mut aside = Random::new(!random.state);
    let numbers: BTreeSet<u16> = (0..2).map(|_| random.one_of(PORTS)).collect();
    let port = |(number, name): (u16, &&str)| ServicePort {
        name: (*name).into(),
        number,
        protocol: match random.one_of(&[Protocol::Http, Protocol::Tcp, Protocol::Undeclared]) {
            Protocol::Tcp if aside.chance(3) => Protocol::Tls,
            protocol => protocol,
        },
        target: if numeric { TargetPort::Number(random.one_of(PORTS)) } else { target(random) },
    };
    numbers.into_iter().zip(NAMES).map(port).collect()
}

fn export_to(random: &mut Random) -> ExportTo {
    if random.chance(2) {
        return ExportTo::Default;
    }
    let names = random.some(2, |random| random.one_of(&["*", ".", "a", "b", "~"]));
    ExportTo::Set(names.into_iter().map(Name::from).collect())
}

fn host(random: &mut Random) -> Host {
    let (name, namespace) = (random.one_of(NAMES), random.one_of(NAMESPACES));
    let full = format!("{name}.{namespace}.svc.cluster.local");
    let wild = format!("*.{namespace}.svc.cluster.local");
    let partial = format!("{name}.{namespace}");
    let outside = format!("{name}.example.org");
    let choices = [&full, &full, &full, &wild, &partial, &outside, &outside, "*.example.org", "*"];
    Host::new(random.one_of(&choices))
}

fn service(random: &mut Random, namespace: &str) -> Service {
    let external_name = random.chance(8).then(|| host(random));
    let headless = external_name.is_none() && random.chance(4);
    let mut aside = Random::new(!random.state);
    Service {
        families: aside.some(2, |aside| aside.one_of(&[Family::IPv4, Family::IPv6])),
        publish_not_ready: aside.chance(6),
        meta: meta(random, Kind::Service, namespace, Labels::new()),
        cluster_ips: if headless { Vec::new() } else { of_families(&mut aside, vec![address(random)]) },
        headless,
        external_name,
        ports: ports(random, false),
        selector: (!random.chance(4)).then(|| selector(random)),
        export_to: export_to(random),
    }
}

fn slice(random: &mut Random, namespace: &str) -> EndpointSlice {
    let mut aside = Random::new(!random.state);
    let kind = if aside.chance(6) { Kind::Endpoints } else { Kind::EndpointSlice };
    EndpointSlice {
        meta: meta(random, kind, namespace, Labels::new()),
        service: random.one_of(NAMES).into(),
        endpoints: random.some(3, |random| SliceEndpoint {
            addresses: of_families(&mut aside, vec![address(random)]),
            ready: !random.chance(4),
            pod: random.maybe(|random| random.one_of(NAMES).into()),
            ports: None,
        }),
        ports: NAMES.iter().map(|name| ((*name).into(), random.one_of(PORTS))).collect(),
    }
}

fn workload(random: &mut Random, namespace: &str) -> Workload {
    let mut aside = Random::new(!random.state);
    let kind = random.one_of(&[Kind::Pod, Kind::Pod, Kind::WorkloadEntry]);
    let pod = kind == Kind::Pod;
    let labels = labels(random);
    let meta = meta(random, kind, namespace, labels);
    Workload {
        service_account: (pod || random.chance(2)).then(|| random.one_of(NAMES).into()),
        addresses: of_families(&mut aside, random.maybe(address).into_iter().collect()),
        dns_address: (!pod).then(|| "vm.example.org".into()),
        container_ports: random.some(2, |random| ContainerPort {
            name: Some(random.one_of(NAMES).into()),
            port: random.one_of(PORTS),
        }),
        port_overrides: match pod {
            true => BTreeMap::new(),
            false => BTreeMap::from([(random.one_of(NAMES).into(), random.one_of(PORTS))]),
        },
        ready: !random.chance(4),
        ended: random.chance(8),
        uid: aside.maybe(|aside| aside.one_of(NAMES).into()),
        node: aside.maybe(|aside| aside.one_of(NAMES).into()),
        ..Workload::new(meta)
    }
}

/// A random ServiceEntry in a namespace.
pub fn entry(random: &mut Random, namespace: &str) -> ServiceEntry {
    service_entry(random, namespace)
}

fn service_entry(random: &mut Random, namespace: &str) -> ServiceEntry {
    let resolution = [Resolution::None, Resolution::Static, Resolution::Dns, Resolution::DynamicDns];
    let mut aside = Random::new(!random.state);
    let blocks =
        ["10.0.0.0/30", "10.0.0.0/29", "192.0.2.0/24", "fd00::/126"].map(|block| block.parse().unwrap());
    ServiceEntry {
        meta: meta(random, Kind::ServiceEntry, namespace, Labels::new()),
        hosts: vec![host(random)],
        addresses: if aside.chance(4) { addresses_of_entry(&mut aside) } else { Vec::new() },
        blocks: if aside.chance(4) { aside.some(2, |aside| aside.one_of(&blocks)) } else { Vec::new() },
        ports: ports(random, true),
        location: random.one_of(&[Location::External, Location::Internal]),
        resolution: match random.one_of(&resolution) {
            Resolution::Dns if aside.chance(3) => Resolution::DnsRoundRobin,
            resolution => resolution,
        },
        endpoints: random.some(2, |random| EntryEndpoint {
            address: Some(address(random).to_string().into()),
            ports: BTreeMap::new(),
            labels: labels(random),
            service_account: random.maybe(|random| random.one_of(NAMES).into()),
            weight: 0,
        }),
        workload_selector: random.maybe(selector),
        subject_alt_names: random.some(1, |_| "spiffe://cluster.local/ns/a/sa/extra".into()),
        export_to: export_to(random),
    }
}

fn addresses_of_entry(aside: &mut Random) -> Vec<IpAddr> {
    let single = aside.some(2, address);
    of_families(aside, single)
}

fn sidecar(random: &mut Random, namespace: &str) -> Sidecar {
    let egress = |random: &mut Random| {
        let host = if random.chance(2) { host(random) } else { Host::new("*") };
        (Name::from(random.one_of(&["*", ".", "a", "~a", "~"])), host)
    };
    Sidecar {
        meta: meta(random, Kind::Sidecar, namespace, Labels::new()),
        selector: random.maybe(selector),
        egress: random.some(2, |random| EgressListener {
            port: random.maybe(|random| random.one_of(PORTS)),
            hosts: random.some(2, egress),
        }),
        outbound_traffic_policy: random.maybe(|random| {
            random.one_of(&[OutboundTrafficPolicy::AllowAny, OutboundTrafficPolicy::RegistryOnly])
        }),
        ingress: if random.chance(3) { ports(random, true) } else { Vec::new() },
    }
}

fn mode(random: &mut Random) -> Option<MutualTlsMode> {
    use MutualTlsMode::{Disable, Permissive, Strict};
    random.one_of(&[None, Some(Disable), Some(Permissive), Some(Strict)])
}

fn peer_authentication(random: &mut Random, namespace: &str) -> PeerAuthentication {
    PeerAuthentication {
        meta: meta(random, Kind::PeerAuthentication, namespace, Labels::new()),
        selector: selector(random),
        mode: mode(random),
        ports: random.some(2, |random| (random.one_of(PORTS), mode(random))).into_iter().collect(),
    }
}

fn authorization_policy(random: &mut Random, namespace: &str) -> AuthorizationPolicy {
    use AuthorizationAction::{Allow, Audit, Custom, Deny};
    let action = random.one_of(&[Allow, Deny, Audit, Custom]);
    let method = |random: &mut Random| Requirement {
        place: "to.operation.methods".into(),
        attribute: Attribute::Method,
        negated: random.chance(2),
        values: vec![random.one_of(&["GET", "POST"]).into()],
    };
    let rule = |random: &mut Random| AuthorizationRule {
        operations: random.some(2, |random| vec![method(random)]),
        ..AuthorizationRule::default()
    };
    AuthorizationPolicy {
        meta: meta(random, Kind::AuthorizationPolicy, namespace, Labels::new()),
        selector: selector(random),
        is_targeted: random.chance(8),
        action,
        provider: (action == Custom).then(|| random.one_of(&["x", "y"]).into()),
        dry_run: matches!(action, Allow | Deny) && random.chance(4),
        rules: random.some(2, rule),
    }
}

fn request_authentication(random: &mut Random, namespace: &str) -> RequestAuthentication {
    let rule = |random: &mut Random| JwtRule {
        issuer: random.one_of(&["a", "b"]).into(),
        audiences: Vec::new(),
        keys: KeySource::Discovery,
        from_headers: Vec::new(),
        from_params: Vec::new(),
        from_cookies: Vec::new(),
        payload_header: None,
        claim_headers: Vec::new(),
        forward: random.chance(2),
        space_delimited: Vec::new(),
        timeout: None,
    };
    RequestAuthentication {
        meta: meta(random, Kind::RequestAuthentication, namespace, Labels::new()),
        selector: selector(random),
        is_targeted: false,
        rules: random.some(2, rule),
    }
}

fn tls(random: &mut Random) -> ClientTls {
    use ClientTlsMode::{Disable, IstioMutual, Mutual, Simple};
    let mode = random.one_of(&[Disable, Simple, Mutual, IstioMutual]);
    let credential = random.chance(4);
    // POLICY.md V2: MUTUAL needs files or a credential, not both.
    let file = |name: &str| (mode == Mutual && !credential).then(|| name.into());
    ClientTls {
        mode,
        sni: random.chance(4).then(|| "sni.example.org".into()),
        subject_alt_names: random.some(1, |_| "san.example.org".into()),
        client_certificate: file("/certificate.pem"),
        private_key: file("/key.pem"),
        ca_certificates: None,
        credential_name: credential
            .then(|| random.one_of(&["secret", "secret", "configmap://a/secret", "b/secret"]).into()),
        insecure_skip_verify: random.chance(4),
    }
}

/// The credential that rules name, or its trust bundle beside it; usable or not.
fn credential(random: &mut Random, namespace: &str) -> Credential {
    let kind = random.one_of(&[Kind::Secret, Kind::Secret, Kind::ConfigMap]);
    let name = random.one_of(&["secret", "secret", "secret-cacert"]);
    let text = |random: &mut Random| Name::from(random.one_of(&["one", "two", "three"]));
    let pair = |random: &mut Random| KeyPair {
        certificate_chain: text(random),
        private_key: PrivateKey::new(random.one_of(&["one", "two"]).to_owned().into()),
        fingerprint: text(random),
    };
    let bundle =
        |random: &mut Random| CaBundle { certificates: text(random), crl: None, fingerprint: text(random) };
    let unusable = || Name::from("is unusable");
    Credential {
        pair: (kind == Kind::Secret)
            .then(|| if random.chance(4) { Err(unusable()) } else { Ok(pair(random)) }),
        trust: random.maybe(|random| if random.chance(4) { Err(unusable()) } else { Ok(bundle(random)) }),
        meta: Meta {
            object: ObjectRef::new(kind, namespace, name),
            ..meta(random, kind, namespace, Labels::new())
        },
    }
}

/// PASSTHROUGH, or one that shows in routes and listeners too.
fn load_balancer(random: &mut Random) -> Option<LoadBalancer> {
    let hash = ConsistentHash { key: Some(HashKey::SourceIp), algorithm: HashAlgorithm::RingHash(None) };
    let passthrough =
        LoadBalancer { simple: Some(SimpleLoadBalancer::Passthrough), ..LoadBalancer::default() };
    let hashing = LoadBalancer { consistent_hash: Some(hash), ..LoadBalancer::default() };
    random.one_of(&[None, None, Some(passthrough), Some(hashing)])
}

fn blocks(random: &mut Random) -> PolicyBlocks {
    let (tls, load_balancer) = (random.maybe(tls), load_balancer(random));
    let limits = TcpPool {
        max_connections: Some(5),
        idle_timeout: Some(Duration::from_secs(5)),
        ..TcpPool::default()
    };
    // Where a hash is, limits are too: so the worlds of a seed stay what they were.
    let hashes = load_balancer.as_ref().is_some_and(|one| one.consistent_hash.is_some());
    let connection_pool =
        hashes.then(|| Arc::new(ConnectionPool { tcp: Some(limits), ..ConnectionPool::default() }));
    PolicyBlocks {
        tls,
        load_balancer: load_balancer.map(Arc::new),
        connection_pool,
        ..PolicyBlocks::default()
    }
}

fn traffic_policy(random: &mut Random) -> TrafficPolicy {
    TrafficPolicy {
        blocks: blocks(random),
        ports: random.some(2, |random| PortTrafficPolicy {
            port: random.one_of(PORTS).into(),
            blocks: blocks(random),
        }),
        ..TrafficPolicy::default()
    }
}

fn destination_rule(random: &mut Random, namespace: &str) -> DestinationRule {
    let host = host(random);
    let names: BTreeSet<&str> = random.some(2, |random| random.one_of(NAMES)).into_iter().collect();
    DestinationRule {
        meta: meta(random, Kind::DestinationRule, namespace, Labels::new()),
        written_host: host.as_str().into(),
        host,
        export_to: export_to(random),
        workload_selector: random.chance(3).then(|| selector(random)),
        traffic_policy: random.maybe(traffic_policy),
        subsets: names
            .into_iter()
            .map(|name| Subset {
                name: name.into(),
                labels: labels(random),
                traffic_policy: random.maybe(traffic_policy),
            })
            .collect(),
    }
}

fn mesh(random: &mut Random) -> Object {
    let mut mesh = defaults();
    mesh.enable_auto_mtls = !random.chance(4);
    if random.access {
        mesh.authorizers = random.some(1, |random| Authorizer {
            name: random.one_of(&["x", "y"]).into(),
            protocol: random.one_of(&[AuthorizerProtocol::Http, AuthorizerProtocol::Grpc]),
            service: format!("{}.a.svc.cluster.local", random.one_of(NAMES)).into(),
            port: 80,
            timeout: None,
            fail_open: false,
            status_on_error: 0,
            path_prefix: "".into(),
            request_headers: Vec::new(),
            added_headers: Vec::new(),
            headers_upstream: Vec::new(),
            headers_downstream_on_deny: Vec::new(),
            headers_downstream_on_allow: Vec::new(),
            body: None,
        });
    }
    mesh.trust_domain_aliases = random.some(1, |_| TrustDomain::parse("old.local").unwrap());
    if random.chance(3) {
        mesh.default_destination_rule_export_to = BTreeSet::from([".".into()]);
    }
    let meta = Meta {
        object: ObjectRef::new(Kind::ConfigMap, "root", "istio"),
        ..meta(random, Kind::ConfigMap, "root", Labels::new())
    };
    Object::MeshConfig(Arc::new(meta), Arc::new(mesh))
}
