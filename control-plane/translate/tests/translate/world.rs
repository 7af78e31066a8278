//! Small worlds from manifests, and the resources that come of them.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_engine::{Index, Snapshot, compute, settings::WorkloadTls};
use eastwest_manifest::parse;
use eastwest_model::{Change, MeshConfig, Severity, TrustDomain};
use eastwest_proto::{
    Message, Name,
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::CidrRange,
            endpoint::v3::ClusterLoadAssignment,
            listener::v3::{FilterChain, FilterChainMatch, Listener, filter::ConfigType},
            route::v3::RouteConfiguration,
        },
        extensions::filters::network::{
            http_connection_manager::v3::{HttpConnectionManager, http_connection_manager::RouteSpecifier},
            tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
        },
    },
    json::to_envoy_json,
};
use eastwest_translate::{Audience, ProxyFacts, ProxyRole, ResourceType, Translator};
use eastwest_xds::{TypeUrl, View};
use serde_json::Value;

/// What `Translator::view` gives for a workload of a world, decoded.
pub(crate) struct Resources {
    pub(crate) view: Arc<View>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) assignments: Vec<ClusterLoadAssignment>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) routes: Vec<RouteConfiguration>,
}

/// A type of resource by its short name.
pub(crate) fn of_type(name: &str) -> ResourceType {
    name.parse().unwrap()
}

/// A file of this folder.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/translate").join(name)
}

/// The world that manifests describe.
pub(crate) fn world(manifests: &str) -> Arc<Snapshot> {
    let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
    let parsed = parse::documents(manifests, "world.yaml", &defaults);
    let errors: Vec<_> = parsed.diagnostics.iter().filter(|one| one.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let mut index = Index::new(defaults);
    for object in parsed.objects {
        index.apply(Change::Upsert(object));
    }
    index.freeze()
}

/// A world of this folder.
pub(crate) fn read(name: &str) -> Arc<Snapshot> {
    world(&fs::read_to_string(path("worlds").join(name)).unwrap())
}

/// The settings of a workload, `namespace/name`.
pub(crate) fn settings(world: &Snapshot, workload: &str) -> WorkloadTls {
    compute::workload_tls(world, &workload.parse().unwrap()).unwrap()
}

impl Resources {
    /// What a workload of a world gets.
    pub(crate) fn of(world: &Snapshot, workload: &str) -> Self {
        Self::from_settings(&settings(world, workload))
    }

    /// What a proxy with these settings gets.
    pub(crate) fn from_settings(settings: &WorkloadTls) -> Self {
        Self::for_proxy(settings, ProxyFacts::usual(Audience::Envoy))
    }

    /// What a proxy with these settings and facts gets.
    pub(crate) fn for_proxy(settings: &WorkloadTls, facts: ProxyFacts) -> Self {
        let mut translator = Translator::default();
        let outbound = translator.outbound(ProxyRole::Sidecar, &settings.outbound, None);
        let view = translator.view(settings, &outbound, facts, None);
        Self {
            clusters: decode(&view, &TypeUrl::CLUSTER),
            assignments: decode(&view, &TypeUrl::ENDPOINT),
            listeners: decode(&view, &TypeUrl::LISTENER),
            routes: decode(&view, &TypeUrl::ROUTE),
            view,
        }
    }

    pub(crate) fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }

    pub(crate) fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }
}

/// All resources of a type.
pub(crate) fn decode<M: Message + Default>(view: &View, type_url: &TypeUrl) -> Vec<M> {
    view.get(type_url).unwrap().iter().map(|resource| M::decode(resource.body()).unwrap()).collect()
}

/// As Envoy's own pages show them.
pub(crate) fn json<M: Message + Name>(messages: &[M]) -> Vec<Value> {
    messages.iter().map(|message| to_envoy_json(message).unwrap()).collect()
}

/// A connection as the listener filters describe it.
#[derive(Default)]
pub(crate) struct Connection<'a> {
    /// The address that is dialled, where it makes a difference.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) server_name: &'a str,
    /// `tls` or `raw_buffer`.
    pub(crate) transport: &'a str,
    /// From the handshake, or what the HTTP inspector found.
    pub(crate) protocols: &'a [&'a str],
}

/// What a listener does with a connection, by Envoy's rules: destination port and address, server name, transport
/// protocol, then application protocol, each step final (POLICY.md I2). E.g. `mtls http inbound|8080||`.
pub(crate) fn outcome(listener: &Listener, connection: &Connection<'_>) -> String {
    let Some(chain) = taken_by(listener, connection) else { return "refused".to_owned() };
    let socket = if chain.transport_socket.is_some() { "mtls" } else { "raw" };
    format!("{socket} {}", destination(chain))
}

/// The chain that takes a connection.
pub(crate) fn taken_by<'a>(listener: &'a Listener, connection: &Connection<'_>) -> Option<&'a FilterChain> {
    let chains = listener
        .filter_chains
        .iter()
        .map(|chain| (chain.filter_chain_match.clone().unwrap_or_default(), chain));
    let mut left: Vec<_> = chains.collect();
    narrow(&mut left, |found| found.destination_port, &[Some(u32::from(connection.port))], &None);
    let block = left.iter().flat_map(|(found, _)| &found.prefix_ranges);
    let block = block.filter(|block| connection.address.is_some_and(|one| is_within(one, block)));
    let block = block.max_by_key(|block| block.prefix_len).cloned();
    let wanted: Vec<_> = block.iter().map(|block| vec![block.clone()]).collect();
    // A chain may have several blocks; the one that matches stands for them.
    let matching = |found: &FilterChainMatch| match &block {
        Some(block) if found.prefix_ranges.contains(block) => vec![block.clone()],
        _ => found.prefix_ranges.clone(),
    };
    narrow(&mut left, matching, &wanted, &Vec::new());
    let names: Vec<_> = names_tried(connection.server_name).into_iter().map(|name| vec![name]).collect();
    let name = names.into_iter().find(|name| left.iter().any(|(found, _)| found.server_names == *name));
    narrow(&mut left, |found| found.server_names.clone(), name.as_slice(), &Vec::new());
    narrow(
        &mut left,
        |found| found.transport_protocol.clone(),
        &[connection.transport.to_owned()],
        &String::new(),
    );
    let known = |protocol: &&&str| {
        left.iter().any(|(found, _)| found.application_protocols.iter().any(|p| p == **protocol))
    };
    let protocol = connection.protocols.iter().find(known).copied();
    left.retain(|(found, _)| match protocol {
        Some(protocol) => found.application_protocols.iter().any(|p| p == protocol),
        None => found.application_protocols.is_empty(),
    });
    assert!(left.len() <= 1, "ambiguous");
    left.pop().map(|(_, chain)| chain).or(listener.default_filter_chain.as_ref())
}

fn is_within(address: IpAddr, block: &CidrRange) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let (address, family) = bits(address);
    let (prefix, prefix_family) = bits(block.address_prefix.parse().unwrap());
    let length = block.prefix_len.unwrap_or_default();
    family == prefix_family && (address ^ prefix).leading_zeros() >= length
}

/// A server name as Envoy looks it up: itself, then wildcards from the longest to the shortest.
fn names_tried(name: &str) -> Vec<String> {
    let dots = name.match_indices('.').map(|(at, _)| format!("*{}", &name[at..]));
    [name.to_owned()].into_iter().filter(|name| !name.is_empty()).chain(dots).collect()
}

/// What the inbound listeners do with a connection: those behind `virtualInbound` see the same connection, with what
/// they find out themselves. Bytes of TLS are no HTTP to a listener that does not look for TLS.
pub(crate) fn inbound_outcome(resources: &Resources, connection: &Connection<'_>) -> String {
    let mut listener = resources.listener("virtualInbound").unwrap();
    loop {
        let finds = |filter: &str| listener.listener_filters.iter().any(|one| one.name.ends_with(filter));
        let tls = connection.transport == "tls";
        let seen = finds(if tls { "tls_inspector" } else { "http_inspector" });
        let transport = if finds("tls_inspector") { connection.transport } else { "raw_buffer" };
        let protocols = if seen { connection.protocols } else { &[] };
        let found = outcome(listener, &Connection { transport, protocols, ..*connection });
        match found.strip_prefix("raw tcp ").and_then(|cluster| resources.listener(cluster)) {
            Some(behind) => listener = behind,
            None if tls && found.starts_with("raw http") => return "refused".to_owned(),
            None => return found,
        }
    }
}

/// A chain and what it matches.
type Candidate<'a> = (FilterChainMatch, &'a FilterChain);

/// Keeps the candidates with one of the wanted values, or if there are none, those that do not care.
fn narrow<T: PartialEq>(
    left: &mut Vec<Candidate<'_>>,
    field: impl Fn(&FilterChainMatch) -> T,
    wanted: &[T],
    any: &T,
) {
    let exact = left.iter().any(|(found, _)| wanted.contains(&field(found)));
    left.retain(|(found, _)| if exact { wanted.contains(&field(found)) } else { field(found) == *any });
}

/// `http` or `tcp`, and the cluster or the name of the routes.
fn destination(chain: &FilterChain) -> String {
    let Some(ConfigType::TypedConfig(config)) = &chain.filters.last().unwrap().config_type else {
        panic!("no config")
    };
    if let Ok(proxy) = config.unpack::<TcpProxy>() {
        let Some(ClusterSpecifier::Cluster(cluster)) = proxy.cluster_specifier else { panic!("no cluster") };
        return format!("tcp {cluster}");
    }
    match config.unpack::<HttpConnectionManager>().unwrap().route_specifier.unwrap() {
        RouteSpecifier::RouteConfig(routes) => format!("http {}", routes.name),
        RouteSpecifier::Rds(rds) => format!("http {}", rds.route_config_name),
    }
}
