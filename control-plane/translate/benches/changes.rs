//! What one change costs the control plane, from the index to the encoded resources, and how that grows with the mesh.
//!
//! `cargo bench -p eastwest-translate` prints a table: CPU time of the thread, medians, and for each figure its ratio to
//! the full recomputation of the same mesh in the same run. Ten proxies of one namespace are connected at every size,
//! so that what grows, grows with the mesh alone.
#![allow(clippy::unwrap_used, reason = "a bench has nobody to tell")]

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use eastwest_engine::{DirtySet, Index, Snapshot};
use eastwest_model::{
    Change, Created, Host, Kind, Labels, MeshConfig, Meta, Object, ObjectRef, Origin, Selector, TrustDomain,
    Workload, WorkloadKey,
    policy::{
        ClientTls, ClientTlsMode, DestinationRule, MutualTlsMode, PeerAuthentication, PolicyBlocks, Subset,
        TrafficPolicy,
    },
    service::{EndpointSlice, ExportTo, Protocol, Service, ServicePort, SliceEndpoint, TargetPort},
    workload::TLS_MODE_LABEL,
};
use eastwest_translate::{Audience, Fleet, ProxyFacts, ProxyKey, ProxyRole};
use nix::time::{ClockId, clock_gettime};

const ROOT: &str = "istio-system";
const PODS_OF_A_SERVICE: usize = 10;
const SERVICES_OF_A_NAMESPACE: usize = 10;
const PROXIES: usize = 10;
/// Services of the three meshes; 100, 1,000 and 10,000 pods.
const SIZES: [usize; 3] = [10, 100, 1000];

fn main() {
    let columns: Vec<Column> = SIZES.iter().map(|services| Column::measure(*services)).collect();
    let pods = |column: &Column| format!("{} pods", column.services * PODS_OF_A_SERVICE);
    print!("{:<46}", "CPU time of one change (full / it)");
    columns.iter().for_each(|column| print!("{:>24}", pods(column)));
    println!("{:>10}", "growth");
    row("everything anew: index, freeze, ten views", &columns, |column| column.full);
    for (at, (name, _)) in EVENTS.iter().enumerate() {
        row(name, &columns, |column| column.changes[at]);
    }
}

/// One line of the table; growth is the last column through the first.
fn row(name: &str, columns: &[Column], time: impl Fn(&Column) -> Duration) {
    print!("{name:<46}");
    for column in columns {
        let ratio = column.full.as_secs_f64() / time(column).as_secs_f64();
        print!("{:>24}", format!("{:.1} us ({ratio:.1}x)", micros(time(column))));
    }
    println!("{:>9.2}x", micros(time(&columns[columns.len() - 1])) / micros(time(&columns[0])));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The figures of one size of mesh.
struct Column {
    services: usize,
    full: Duration,
    changes: Vec<Duration>,
}

/// What changes, and the object in one state and the other.
type Event = (&'static str, fn(bool) -> Object);
const EVENTS: [Event; 5] = [
    ("an endpoint becomes (un)ready", |on| slice(5, on)),
    ("PeerAuthentication, namespace: STRICT, PERMISSIVE", |on| {
        policy("n0", if on { MutualTlsMode::Strict } else { MutualTlsMode::Permissive })
    }),
    ("PeerAuthentication, namespace: STRICT, DISABLE", |on| {
        policy("n0", if on { MutualTlsMode::Strict } else { MutualTlsMode::Disable })
    }),
    ("DestinationRule of a host: ISTIO_MUTUAL, DISABLE", |on| {
        rule(5, if on { ClientTlsMode::IstioMutual } else { ClientTlsMode::Disable })
    }),
    ("PeerAuthentication, mesh: STRICT, PERMISSIVE", |on| {
        policy(ROOT, if on { MutualTlsMode::Strict } else { MutualTlsMode::Permissive })
    }),
];

impl Column {
    fn measure(services: usize) -> Self {
        let objects: Vec<Object> = (0..services).flat_map(objects_of).collect();
        let full = median(5, |_| {
            black_box(Mesh::new(&objects));
        });
        let mut mesh = Mesh::new(&objects);
        let rounds = |at| if at == EVENTS.len() - 1 { 20 } else { 200 };
        let changes = EVENTS.iter().enumerate().map(|(at, (_, object))| {
            let (on, off) = (Change::Upsert(object(true)), Change::Upsert(object(false)));
            mesh.take_in(off.clone());
            median(rounds(at), |round| mesh.take_in(if round % 2 == 0 { on.clone() } else { off.clone() }))
        });
        Self { services, full, changes: changes.collect() }
    }
}

/// The median CPU time of some runs.
fn median(runs: usize, mut run: impl FnMut(usize)) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|round| {
            let before = now();
            run(round);
            now() - before
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// What the control plane's writer holds.
struct Mesh {
    index: Index,
    /// Readers hold the world, so that the index must not edit it in place.
    world: Arc<Snapshot>,
    fleet: Fleet,
}

impl Mesh {
    fn new(objects: &[Object]) -> Self {
        let mut index = Index::new(MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), ROOT));
        objects.iter().for_each(|object| drop(index.apply(Change::Upsert(object.clone()))));
        let world = index.freeze();
        let mut fleet = Fleet::default();
        for pod in 0..PROXIES {
            let name = WorkloadKey { namespace: "n0".into(), name: format!("s0-{pod}").into() };
            let workload = world.workload(&name).unwrap();
            let key = ProxyKey::of(workload, ProxyRole::Sidecar, ProxyFacts::usual(Audience::Envoy));
            black_box(fleet.connect(&world, workload, key).unwrap());
        }
        Self { index, world, fleet }
    }

    fn take_in(&mut self, change: Change) {
        let dirty: DirtySet = self.index.apply(change);
        self.world = self.index.freeze();
        black_box(self.fleet.not_entitled(&self.world, &dirty));
        black_box(self.fleet.update(&self.world, &dirty));
    }
}

/// A service, its pods and their slice; every tenth service has a rule with a subset.
fn objects_of(service: usize) -> Vec<Object> {
    let mut objects = vec![Object::Service(Arc::new(self::service(service))), slice(service, true)];
    objects.extend((0..PODS_OF_A_SERVICE).map(|pod| self::pod(service, pod)));
    objects.extend(service.is_multiple_of(10).then(|| rule(service, ClientTlsMode::IstioMutual)));
    objects
}

fn namespace(service: usize) -> String {
    format!("n{}", service / SERVICES_OF_A_NAMESPACE)
}

fn meta(kind: Kind, namespace: &str, name: &str, labels: Labels) -> Meta {
    Meta {
        object: ObjectRef::new(kind, namespace, name),
        created: Created(0),
        labels: Arc::new(labels),
        annotations: Arc::default(),
        origin: Origin::default(),
    }
}

fn app(service: usize) -> (eastwest_model::Name, eastwest_model::Name) {
    ("app".into(), format!("s{service}").into())
}

fn ip(first: u8, number: usize) -> IpAddr {
    let [.., b, c, d] = u32::try_from(number).unwrap().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(first, b, c, d))
}

fn service(number: usize) -> Service {
    let protocol = match number % 10 {
        0..7 => Protocol::Http,
        7..9 => Protocol::Tcp,
        _ => Protocol::Undeclared,
    };
    let port = ServicePort { name: "main".into(), number: 80, protocol, target: TargetPort::Number(8080) };
    Service {
        families: Vec::new(),
        publish_not_ready: false,
        meta: meta(Kind::Service, &namespace(number), &format!("s{number}"), Labels::new()),
        cluster_ips: vec![ip(20, number)],
        headless: false,
        external_name: None,
        ports: vec![port],
        selector: Some(Selector([app(number)].into())),
        export_to: ExportTo::Default,
    }
}

fn address(service: usize, pod: usize) -> IpAddr {
    ip(10, service * PODS_OF_A_SERVICE + pod)
}

fn pod(service: usize, pod: usize) -> Object {
    let labels: Labels = [app(service), (TLS_MODE_LABEL.into(), "istio".into())].into();
    Object::Workload(Arc::new(Workload {
        service_account: Some(format!("s{service}").into()),
        addresses: vec![address(service, pod)],
        ..Workload::new(meta(Kind::Pod, &namespace(service), &format!("s{service}-{pod}"), labels))
    }))
}

/// The slice of a service; `ready` says whether its first endpoint is.
fn slice(service: usize, ready: bool) -> Object {
    let endpoint = |pod| SliceEndpoint {
        ports: None,
        addresses: vec![address(service, pod)],
        ready: ready || pod > 0,
        pod: Some(format!("s{service}-{pod}").into()),
    };
    Object::EndpointSlice(Arc::new(EndpointSlice {
        meta: meta(Kind::EndpointSlice, &namespace(service), &format!("s{service}-x"), Labels::new()),
        service: format!("s{service}").into(),
        endpoints: (0..PODS_OF_A_SERVICE).map(endpoint).collect(),
        ports: BTreeMap::from([("main".into(), 8080)]),
    }))
}

fn policy(namespace: &str, mode: MutualTlsMode) -> Object {
    Object::PeerAuthentication(Arc::new(PeerAuthentication {
        meta: meta(Kind::PeerAuthentication, namespace, "default", Labels::new()),
        selector: Selector::default(),
        mode: Some(mode),
        ports: BTreeMap::new(),
    }))
}

fn rule(service: usize, mode: ClientTlsMode) -> Object {
    let host = Host::of_service(&format!("s{service}"), &namespace(service), "cluster.local");
    let tls = ClientTls {
        mode,
        sni: None,
        subject_alt_names: Vec::new(),
        client_certificate: None,
        private_key: None,
        ca_certificates: None,
        credential_name: None,
        insecure_skip_verify: false,
    };
    let traffic_policy = TrafficPolicy {
        blocks: PolicyBlocks { tls: Some(tls), ..PolicyBlocks::default() },
        ..TrafficPolicy::default()
    };
    let subset = Subset { name: "v1".into(), labels: [app(service)].into(), traffic_policy: None };
    Object::DestinationRule(Arc::new(DestinationRule {
        meta: meta(Kind::DestinationRule, &namespace(service), &format!("s{service}"), Labels::new()),
        written_host: host.as_str().into(),
        host,
        export_to: ExportTo::Set(BTreeSet::from(["*".into()])),
        workload_selector: None,
        traffic_policy: Some(traffic_policy),
        subsets: vec![subset],
    }))
}
