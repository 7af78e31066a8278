//! What `explain` says is what the generated resources do: for every client and endpoint of small random worlds, the
//! client's cluster and the server's `virtualInbound` are interpreted by Envoy's rules and compared with the verdict.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use eastwest_engine::{
    ConnectionOutcome, Index, Sends, Snapshot, compute,
    explain::{self, EndpointExplanation, Explanation, Verdict},
    listeners::Call,
};
use eastwest_model::{Change, SpiffeId};
use eastwest_proto::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType},
        },
        core::v3::{
            Metadata, TransportSocket, address::Address, socket_address, transport_socket::ConfigType,
        },
        endpoint::v3::{LbEndpoint, lb_endpoint::HostIdentifier},
    },
    extensions::transport_sockets::tls::v3::{UpstreamTlsContext, common_tls_context::ValidationContextType},
    r#type::matcher::v3::string_matcher::MatchPattern,
};
use eastwest_testing::{self as worlds, Random};
use eastwest_xds::TypeUrl;

use crate::{
    wire,
    world::{Connection, Resources, outcome, taken_by},
};

const SEEDS: u64 = 160;

/// A small random world.
fn world(seed: u64) -> Arc<Snapshot> {
    let mut random = Random::new(seed);
    let objects = worlds::world(&mut random, 60);
    let mut index = Index::new(worlds::defaults());
    objects.into_values().for_each(|object| drop(index.apply(Change::Upsert(object))));
    index.freeze()
}

#[test]
fn the_verdict_is_what_the_resources_do() {
    let mut seen: BTreeMap<(Sends, ConnectionOutcome), usize> = BTreeMap::new();
    for seed in 0..SEEDS {
        let world = world(seed);
        let proxies = Proxies::of(&world);
        for (name, client) in &proxies.0 {
            for cluster in client.clusters.iter().filter(|one| one.name.starts_with("outbound|")) {
                let [_, port, _, host] = cluster.name.split('|').collect::<Vec<_>>()[..] else { panic!() };
                let explained =
                    explain::explain(&world, &name.parse().unwrap(), host, port.parse::<u16>().unwrap());
                // Subsets are not explained, and a name may be an alias of another host.
                let fitting = explained.ok().filter(|one| one.cluster == cluster.name);
                let Some(explained) = fitting else { continue };
                if explained.client_in_mesh {
                    let what = format!("seed {seed}: {name} → {}", cluster.name);
                    proxies.compare(&world, client, cluster, &explained, &what, &mut seen);
                }
            }
        }
    }
    for outcome in [
        ConnectionOutcome::MutualTls,
        ConnectionOutcome::Plaintext,
        ConnectionOutcome::Tls,
        ConnectionOutcome::Refused,
    ] {
        let count: usize = seen.iter().filter(|((_, one), _)| *one == outcome).map(|(_, count)| count).sum();
        assert!(count >= 5, "{outcome:?} is too rare to prove anything: {seen:?}");
    }
}

/// What every workload of a world gets. Of a Pod and a WorkloadEntry of one name only one can be asked for: such pairs
/// are left out.
struct Proxies(BTreeMap<String, Resources>);

impl Proxies {
    fn of(world: &Snapshot) -> Self {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        world.workloads().for_each(|one| *count.entry(one.key().to_string()).or_default() += 1);
        let single = count.into_iter().filter(|(_, count)| *count == 1);
        Self(single.map(|(name, _)| (name.clone(), Resources::of(world, &name))).collect())
    }

    fn compare(
        &self,
        world: &Snapshot,
        client: &Resources,
        cluster: &Cluster,
        explained: &Explanation,
        what: &str,
        seen: &mut BTreeMap<(Sends, ConnectionOutcome), usize>,
    ) {
        let mut outcomes = Vec::new();
        // EDS takes addresses only: an endpoint with a name is never dialled.
        let dialled =
            |address: &str| cluster.eds_cluster_config.is_none() || address.parse::<SocketAddr>().is_ok();
        let ready = explained.endpoints.iter().filter(|one| one.ready);
        let (ready, never): (Vec<_>, Vec<_>) = ready.partition(|one| dialled(&one.address));
        let original = cluster.cluster_discovery_type
            == Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst as i32));
        // An address of a pod may belong to another host on this port.
        let leads_here = |one: &&EndpointExplanation| {
            let Ok(socket) = one.address.parse::<SocketAddr>() else { return false };
            let first_bytes = wire::first_bytes(explained);
            let call = Call { address: Some(socket.ip()), port: explained.port, first_bytes };
            wire::reached(client, &call) == cluster.name
        };
        if original && !ready.iter().all(leads_here) {
            return;
        }
        for endpoint in &ready {
            let hello = Hello::of(client, cluster, &endpoint.address);
            assert_eq!(hello.sends(), endpoint.pair.sends, "{what} at {}", endpoint.address);
            let found = match hello.lacks(client) {
                true => Some(ConnectionOutcome::Refused),
                false => self.served(world, endpoint, &hello),
            };
            let Some(found) = found else { continue };
            assert_eq!(found, endpoint.pair.outcome, "{what} at {}: {endpoint:?}", endpoint.address);
            *seen.entry((endpoint.pair.sends, found)).or_default() += 1;
            outcomes.push(found);
        }
        // Where the caller's address is dialled, and nobody knows it, there is nothing to compare.
        let elsewhere = outcomes.is_empty() && original;
        if outcomes.len() == ready.len() && never.is_empty() && !elsewhere {
            assert_eq!(explained.verdict, verdict(&outcomes), "{what}");
        }
    }

    /// What becomes of the connection at the endpoint; `None` if it cannot be known which proxy that meets.
    fn served(
        &self,
        world: &Snapshot,
        endpoint: &EndpointExplanation,
        hello: &Hello,
    ) -> Option<ConnectionOutcome> {
        if !endpoint.pair.server.in_mesh {
            return Some(match hello.sends() {
                Sends::Plaintext => ConnectionOutcome::Plaintext,
                Sends::Tls => ConnectionOutcome::Tls,
                Sends::MutualTls => ConnectionOutcome::Refused,
            });
        }
        let name = endpoint.workload.as_ref()?;
        let server = self.0.get(&name.to_string())?;
        let port = endpoint.address.rsplit_once(':').unwrap().1.parse().unwrap();
        let (transport, protocols) = match hello {
            Hello::Plaintext => ("raw_buffer", vec!["http/1.1"]),
            Hello::Mesh { protocols, .. } | Hello::Originated { protocols, .. } => {
                ("tls", protocols.iter().map(String::as_str).collect())
            }
        };
        let connection = Connection { port, transport, protocols: &protocols, ..Connection::default() };
        let listener = server.listener("virtualInbound").unwrap();
        let found = outcome(listener, &connection);
        if endpoint.pair.outcome != ConnectionOutcome::Refused {
            let chain = taken_by(listener, &connection).unwrap().name.as_str();
            let named = &endpoint.pair.chains;
            assert!(named.iter().any(|one| one == chain), "{chain}: {endpoint:?} {:?}", world.workload(name));
        }
        let workload = world.workload(name)?;
        // Without an account only the server itself knows who it is.
        let known = workload.service_account.as_ref().map(|_| compute::identity(world, workload).unwrap());
        Some(hello.meets(found.split(' ').next().unwrap(), known.as_ref()))
    }
}

/// How a client's proxy begins.
enum Hello {
    Plaintext,
    /// With the mesh's certificate; the names that it accepts.
    Mesh {
        protocols: Vec<String>,
        names: Vec<MatchPattern>,
    },
    /// TLS of a rule.
    Originated {
        protocols: Vec<String>,
        certificate: bool,
        /// The secrets that it asks the control plane for.
        secrets: Vec<String>,
    },
}

impl Hello {
    /// By the cluster's transport socket, or the first match for the endpoint's metadata (POLICY.md A3).
    fn of(client: &Resources, cluster: &Cluster, address: &str) -> Self {
        let metadata = endpoint_of(client, cluster, address).and_then(|one| one.metadata);
        let fitting =
            cluster.transport_socket_matches.iter().find(|one| matches(one.r#match.as_ref(), &metadata));
        let socket = match fitting {
            Some(fitting) => fitting.transport_socket.as_ref(),
            None => cluster.transport_socket.as_ref(),
        };
        socket.filter(|one| one.name.ends_with("tls")).map_or(Self::Plaintext, Self::by_tls)
    }

    fn by_tls(socket: &TransportSocket) -> Self {
        let Some(ConfigType::TypedConfig(config)) = &socket.config_type else { panic!("no config") };
        let context: UpstreamTlsContext = config.unpack().unwrap();
        let common = context.common_tls_context.unwrap();
        let protocols = common.alpn_protocols;
        let certificates = &common.tls_certificate_sds_secret_configs;
        if certificates.iter().all(|one| one.name != "default") {
            let certificate = !certificates.is_empty() || !common.tls_certificates.is_empty();
            let roots = match &common.validation_context_type {
                Some(ValidationContextType::CombinedValidationContext(combined)) => {
                    combined.validation_context_sds_secret_config.clone()
                }
                _ => None,
            };
            let asked = certificates.iter().chain(&roots);
            let secrets =
                asked.map(|one| one.name.clone()).filter(|name| !name.starts_with("file-")).collect();
            return Self::Originated { protocols, certificate, secrets };
        }
        let Some(ValidationContextType::CombinedValidationContext(combined)) = common.validation_context_type
        else {
            panic!("the mesh is always verified")
        };
        let names = combined.default_validation_context.unwrap_or_default().match_typed_subject_alt_names;
        let names = names.into_iter().map(|name| name.matcher.unwrap().match_pattern.unwrap()).collect();
        Self::Mesh { protocols, names }
    }

    /// Whether it cannot begin, for want of a secret.
    fn lacks(&self, client: &Resources) -> bool {
        let Self::Originated { secrets, .. } = self else { return false };
        let held = client.view.get(&TypeUrl::SECRET).unwrap();
        secrets.iter().any(|name| held.get(name).is_none())
    }

    fn sends(&self) -> Sends {
        match self {
            Self::Plaintext => Sends::Plaintext,
            Self::Mesh { .. } => Sends::MutualTls,
            Self::Originated { .. } => Sends::Tls,
        }
    }

    /// What comes of it at a filter chain: `mtls`, `raw`, or none (`refused`).
    fn meets(&self, chain: &str, identity: Option<&SpiffeId>) -> ConnectionOutcome {
        let accepts = |names: &[MatchPattern]| {
            let exact = identity.map(|one| MatchPattern::Exact(one.as_str().to_owned()));
            names.is_empty() || exact.is_none_or(|exact| names.contains(&exact))
        };
        match (self, chain) {
            (_, "refused") => ConnectionOutcome::Refused,
            (Self::Plaintext, "raw") => ConnectionOutcome::Plaintext,
            (Self::Mesh { names, .. }, "mtls") if accepts(names) => ConnectionOutcome::MutualTls,
            // Handed on to the application, which has no certificate of the mesh; or another server than expected.
            (Self::Mesh { .. }, _) => ConnectionOutcome::Refused,
            (Self::Originated { certificate, .. }, "mtls") if !certificate => ConnectionOutcome::Refused,
            (Self::Originated { .. }, _) => ConnectionOutcome::Tls,
            (_, chain) => panic!("{chain}"),
        }
    }
}

/// The endpoint of an assignment, of EDS or within the cluster.
fn endpoint_of(client: &Resources, cluster: &Cluster, address: &str) -> Option<LbEndpoint> {
    let by_eds = client.assignments.iter().find(|one| one.cluster_name == cluster.name);
    let assignment = by_eds.or(cluster.load_assignment.as_ref())?;
    let mut endpoints = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    endpoints.find(|one| address_of(one).as_deref() == Some(address)).cloned()
}

fn address_of(endpoint: &LbEndpoint) -> Option<String> {
    let Some(HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else { return None };
    let Some(Address::SocketAddress(socket)) = &endpoint.address.as_ref()?.address else { return None };
    let Some(socket_address::PortSpecifier::PortValue(port)) = &socket.port_specifier else { return None };
    let host =
        if socket.address.contains(':') { format!("[{}]", socket.address) } else { socket.address.clone() };
    Some(format!("{host}:{port}"))
}

/// Whether metadata has every field that a match wants.
fn matches(wanted: Option<&prost_types::Struct>, metadata: &Option<Metadata>) -> bool {
    let held = metadata.as_ref().and_then(|one| one.filter_metadata.get("envoy.transport_socket_match"));
    let has = |(key, value)| held.is_some_and(|held| held.fields.get(key) == Some(value));
    wanted.is_none_or(|wanted| wanted.fields.iter().all(has))
}

/// The verdict over all endpoints.
fn verdict(outcomes: &[ConnectionOutcome]) -> Verdict {
    let Some(first) = outcomes.first() else { return Verdict::NoEndpoints };
    match (outcomes.iter().all(|one| one == first), first) {
        (true, ConnectionOutcome::MutualTls) => Verdict::MutualTls,
        (true, ConnectionOutcome::Plaintext) => Verdict::Plaintext,
        (true, ConnectionOutcome::Tls) => Verdict::Tls,
        (true, ConnectionOutcome::Refused) => Verdict::Refused,
        (false, _) if outcomes.contains(&ConnectionOutcome::Refused) => Verdict::PartlyRefused,
        (false, _) => Verdict::Mixed,
    }
}
