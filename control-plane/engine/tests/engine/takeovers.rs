//! D12: what Kubernetes Services have is not taken by entries of other namespaces.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use eastwest_engine::{
    Index, Snapshot, compute,
    listeners::{Call, FirstBytes, Listeners, Reached},
};
use eastwest_model::{
    Change, Host, MeshConfig, Name, Object, Workload,
    service::{ExportTo, Service, ServiceEntry},
};
use eastwest_testing::{self as worlds, Random, defaults};

use super::mesh::{DEPOT, Mesh, networking, pod, service, text, yard_and_rail};

const OUTSIDE: &str = "ports: [{number: 80, name: http, protocol: HTTP}, {number: 9000, name: tcp, protocol: TCP}], location: MESH_EXTERNAL, resolution: STATIC, endpoints: [{address: 192.0.2.66}]";
/// An address of an entry as good as any.
const OWN: &str = "240.0.0.1";

/// An entry of a namespace that has a client, too.
fn evil(hosts: &str, addresses: &str) -> Vec<String> {
    let spec = format!("hosts: [{hosts}], addresses: [{addresses}], {OUTSIDE}");
    vec![networking("ServiceEntry", "evil", "trap", 1, &spec), pod("evil", "client", "10.0.9.1", "app: evil")]
}

/// The hosts whose calls differ, without those of the entry itself.
fn changed(before: &Mesh, after: &Mesh) -> Vec<String> {
    let groups = before.diff(after).calls;
    let hosts = groups.iter().flat_map(|group| &group.changes).map(|change| change.host.to_string());
    hosts.filter(|host| host.contains("rail")).collect()
}

/// The cluster that a call of a client leads to.
fn cluster(mesh: &Mesh, client: &str, host: &str, port: u16) -> String {
    mesh.explain(client, host, port).unwrap().cluster
}

#[test]
fn d12_an_address_of_a_service_stays_with_it_for_clients_of_other_namespaces() {
    for addresses in ["10.96.0.1", "'::ffff:10.96.0.1'", "10.96.0.0/16", "10.96.0.1, 10.96.0.0/30"] {
        let (before, after) = Mesh::grown(&[yard_and_rail()], &evil("an.example", addresses));
        for (port, of) in [(80, "80"), (9000, "9000")] {
            let own = format!("outbound|{of}||{DEPOT}");
            for host in [DEPOT, "depot.rail", "10.96.0.1"] {
                assert_eq!(cluster(&before, "yard/client", host, port), own, "{host}:{port}");
                assert_eq!(cluster(&after, "yard/client", host, port), own, "{addresses}: {host}:{port}");
            }
        }
        assert_eq!(changed(&before, &after), [""; 0], "{addresses}");
    }
    // At home Istio's rules hold: whoever made the entry meets it.
    let after = Mesh::of(&[&[yard_and_rail()][..], &evil("an.example", "10.96.0.1")].concat());
    assert_eq!(cluster(&after, "evil/client", "10.96.0.1", 9000), "outbound|9000||an.example");
}

#[test]
fn d12_a_name_of_a_service_stays_with_it_however_it_is_spelled() {
    for host in [
        "depot.rail",
        "DEPOT.rail",
        "depot.rail.svc",
        "depot.rail.svc.cluster.local",
        "depot.rail.svc.cluster.local.",
        "10.96.0.1",
        "'*.rail.svc.cluster.local'",
        "'*.rail'",
        "'*.local'",
    ] {
        let (before, after) = Mesh::grown(&[yard_and_rail()], &evil(host, OWN));
        assert_eq!(changed(&before, &after), [""; 0], "{host}");
        for asked in [DEPOT, "depot.rail", "depot.rail.svc", "10.96.0.1"] {
            let own = format!("outbound|80||{DEPOT}");
            assert_eq!(cluster(&after, "yard/client", asked, 80), own, "{host}: {asked}");
        }
        let found = after.findings("ServiceEntry/evil/trap").join("\n");
        assert!(found.contains("Service/rail/depot"), "{host}: {found}");
    }
    // Without a namespace the name means a Service of the client's own.
    let parts = [yard_and_rail(), pod("rail", "client", "10.0.2.9", "app: client")];
    let (before, after) = Mesh::grown(&parts, &evil("depot", OWN));
    assert_eq!(changed(&before, &after), [""; 0]);
    assert_eq!(cluster(&after, "rail/client", "depot", 80), format!("outbound|80||{DEPOT}"));
    assert_eq!(cluster(&after, "yard/client", "depot", 80), "outbound|80||depot", "no Service there");
}

#[test]
fn d12_pods_of_a_headless_service_keep_their_names_and_addresses() {
    let headless = service("rail", "depot", "clusterIP: None");
    let parts = [
        pod("yard", "client", "10.0.1.1", "app: client"),
        headless,
        pod("rail", "depot-0", "10.0.2.1", "app: depot"),
    ];
    for (host, address) in [
        ("an.example", "10.0.2.1"),
        ("an.example", "10.0.2.0/24"),
        ("depot-0.depot.rail.svc.cluster.local", OWN),
        ("depot-0.depot.rail", OWN),
        ("'*.depot.rail.svc.cluster.local'", OWN),
    ] {
        let (before, after) = Mesh::grown(&parts, &evil(host, address));
        assert_eq!(changed(&before, &after), [""; 0], "{host} {address}");
        for (asked, port) in [(DEPOT, 80), ("depot-0.depot.rail.svc.cluster.local", 80), (DEPOT, 9000)] {
            let own = format!("outbound|{port}||{DEPOT}");
            assert_eq!(cluster(&after, "yard/client", asked, port), own, "{host} {address}: {asked}");
        }
    }
}

#[test]
fn d12_addresses_that_no_service_has_stay_with_the_entry() {
    let after = Mesh::of(
        &[&[yard_and_rail()][..], &evil("an.example", "10.96.0.1, 10.96.0.0/16, 240.0.0.1")].concat(),
    );
    assert_eq!(cluster(&after, "yard/client", "240.0.0.1", 9000), "outbound|9000||an.example");
    assert_eq!(cluster(&after, "yard/client", "10.96.7.7", 9000), "outbound|9000||an.example");
    let found = after.findings("ServiceEntry/evil/trap");
    assert!(
        found.iter().any(|one| one.starts_with("10.96.0.1 is an address of Service/rail/depot")),
        "{found:?}"
    );
    assert!(found.iter().any(|one| one.starts_with("10.96.0.0/16 has 10.96.0.1 in it")), "{found:?}");
    let steps = after.explain("yard/client", "an.example", 80).unwrap();
    let said = serde_json::to_string(&steps).unwrap();
    assert!(said.contains("addresses that Service/rail/depot has stay with that Service"), "{said}");
}

#[test]
fn d12_an_entry_that_lost_all_its_addresses_takes_no_whole_port() {
    let hidden = service("rail", "depot", "clusterIP: 10.96.0.1")
        .replace("namespace: rail,", "namespace: rail, annotations: {networking.istio.io/exportTo: .},");
    let parts = [pod("yard", "client", "10.0.1.1", "app: client"), hidden];
    let after = Mesh::of(&[&parts[..], &evil("an.example", "10.96.0.1")].concat());
    assert_eq!(cluster(&after, "yard/client", "10.96.0.1", 9000), "PassthroughCluster");
    assert_eq!(cluster(&after, "yard/client", "10.0.0.99", 9000), "PassthroughCluster");
}

#[test]
fn d12_the_flag_restores_what_istio_does() {
    let mesh = MeshConfig { entries_take_services: true, ..istio() };
    let parts = [&[yard_and_rail()][..], &evil("an.example", "10.96.0.1")].concat();
    let after = Mesh::with(&mesh, &parts);
    assert_eq!(cluster(&after, "yard/client", DEPOT, 9000), "outbound|9000||an.example");
    let found = after.findings("ServiceEntry/evil/trap").join("\n");
    assert!(found.contains("may be taken from it (--allow-service-takeover)"), "{found}");
}

fn istio() -> MeshConfig {
    MeshConfig { root_namespace: "istio-system".into(), ..defaults() }
}

#[test]
fn d12_entries_of_the_services_own_namespace_are_no_strangers() {
    let spec = format!("hosts: [{DEPOT}], {OUTSIDE}").replace("MESH_EXTERNAL", "MESH_INTERNAL");
    let more = [networking("ServiceEntry", "rail", "more", 1, &spec)];
    let mesh = Mesh::of(&[&[yard_and_rail()][..], &more].concat());
    let endpoints = text(&mesh.call("yard/client", DEPOT, 80, None)["endpoints"]["192.0.2.66:80"]);
    assert_eq!(endpoints, "DISABLE", "case 231");
}

/// Names and addresses by which a client may call a Service.
fn spellings(service: &Service, client: &Name) -> Vec<String> {
    let (name, namespace) = (service.meta.name(), service.meta.namespace());
    let mut all = vec![
        format!("{name}.{namespace}.svc.cluster.local"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}"),
    ];
    if service.headless {
        all.extend(all.clone().iter().map(|name| format!("pod.{name}")));
    }
    if client == namespace {
        all.push(name.to_string());
    }
    all
}

/// The addresses of a Service: its own, and for a headless one those of its Pods.
fn addresses(snapshot: &Snapshot, service: &Service) -> Vec<IpAddr> {
    let selector = service.selector.as_ref().filter(|one| service.headless && !one.is_empty());
    let is_behind = |one: &&Arc<Workload>| {
        one.meta.namespace() == service.meta.namespace()
            && one.meta.object.kind == eastwest_model::Kind::Pod
            && !one.ended
            && selector.is_some_and(|selector| selector.matches(&one.meta.labels))
    };
    let pods = snapshot.workloads().filter(is_behind).flat_map(|one| one.addresses.iter());
    service.cluster_ips.iter().chain(pods).copied().collect()
}

/// What becomes of each call of a Service, and in which mode.
///
/// Bytes to a Service that the client does not see may lead to a host without addresses (L4): such Services count only if
/// `hidden` says so.
fn calls(
    snapshot: &Snapshot,
    services: &[Arc<Service>],
    client: &Workload,
    hidden: bool,
) -> Vec<(String, String)> {
    let outbound = compute::outbound(snapshot, &compute::client_scope(snapshot, client));
    let listeners = Listeners::of(&outbound);
    let mut all = Vec::new();
    for service in services {
        let names = spellings(service, client.meta.namespace());
        let full = outbound.services.get(&Host::new(&names[0]));
        if !hidden && full.is_none_or(|one| one.owner != service.meta.object) {
            continue;
        }
        let ports: BTreeSet<u16> = service.ports.iter().map(|port| port.number).collect();
        for (port, address) in ports
            .iter()
            .flat_map(|port| addresses(snapshot, service).into_iter().map(move |one| (*port, one)))
        {
            let hosts = names.iter().cloned().chain([address.to_string()]);
            let http = hosts.flat_map(|host| [format!("{host}:{port}"), host]);
            let http = http.map(|authority| FirstBytes::Http { authority });
            let bytes = [FirstBytes::Tls { server_name: Some(names[0].clone()) }, FirstBytes::Other];
            for first_bytes in http.chain(bytes) {
                let call = Call { address: Some(address), port, first_bytes };
                let to = listeners.resolve(&call).to;
                all.push((format!("{} {call:?}", client.key()), told(to)));
            }
        }
    }
    all
}

fn told(to: Reached<'_>) -> String {
    match to {
        Reached::Cluster(cluster) => format!("{} {:?} {:?}", cluster.name(), cluster.tls, cluster.endpoints),
        other => other.cluster_name(),
    }
}

/// An entry that claims as much as it can, with or without addresses.
fn greedy(random: &mut Random, services: &[Arc<Service>], addressed: bool) -> ServiceEntry {
    let mut entry = worlds::entry(random, worlds::STRANGE);
    let target = &services[random.below(services.len())];
    let mut names = spellings(target, target.meta.namespace());
    names.extend(["*", "*.local", "*.svc.cluster.local", "an.example", "an.example"].map(str::to_owned));
    names.extend(target.cluster_ips.first().filter(|one| one.is_ipv4()).map(ToString::to_string));
    names.push(format!("*.{}", target.meta.namespace()));
    names.push(format!("{}.", names[0]));
    entry.hosts = vec![Host::new(&names[random.below(names.len())])];
    entry.export_to = ExportTo::Default;
    if random.below(2) == 0 {
        entry.addresses = target.cluster_ips.clone();
    }
    entry.addresses.extend(addressed.then(|| OWN.parse::<IpAddr>().unwrap()));
    entry
}

#[test]
fn d12_an_entry_changes_no_call_of_a_service_by_clients_of_other_namespaces() {
    let (mut compared, mut claimed) = (0, 0);
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let objects = worlds::world(&mut random, 40);
        let mut index = Index::new(defaults());
        let mut services = Vec::new();
        for object in objects.into_values() {
            if let Object::Service(service) = &object
                && service.external_name.is_none()
            {
                services.push(service.clone());
            }
            index.apply(Change::Upsert(object));
        }
        if services.is_empty() {
            continue;
        }
        let before = index.freeze();
        let clients: Vec<_> = before.workloads().filter(|one| !one.ended).cloned().collect();
        let calls_of = |snapshot: &Snapshot| -> Vec<_> {
            clients.iter().flat_map(|client| calls(snapshot, &services, client, seed % 2 == 0)).collect()
        };
        let expected = calls_of(&before);
        for _ in 0..4 {
            let entry = greedy(&mut random, &services, seed % 2 == 0);
            let what = format!("seed {seed}: {:?} {:?} {:?}", entry.hosts, entry.addresses, entry.blocks);
            index.apply(Change::Upsert(Object::ServiceEntry(Arc::new(entry))));
            let after = index.freeze();
            // What another entry has already is not the Service's to lose (L4).
            let now = calls_of(&after);
            let own = expected.iter().zip(&now).filter(|((_, to), _)| !to.contains("example"));
            for (one, other) in own {
                assert_eq!(one, other, "{what}");
            }
            let said = eastwest_engine::lint::diagnostics(&after);
            claimed += usize::from(said.iter().any(|one| one.message.contains("(rule D12)")));
            compared += expected.len();
        }
    }
    assert!(
        compared > 10_000 && claimed > 100,
        "{compared} calls, {claimed} claims are too few to prove anything"
    );
}
