//! What a sidecar does with each kind of traffic under each mode: the 36 cells of POLICY.md I2,
//! and what a switch of mode costs.

use std::{fmt, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use eastwest_tests::{
    app::{Answer, Talk},
    bookshop::{LEGACY, Member, STOREFRONT},
    mesh::{Mesh, Pod, nothing_was_refused},
    process::{Process, run, until},
    sidecar::DRAIN_SECONDS,
};

use Mode::{Disable, Permissive, Strict};

/// How long a switch may take until the old chains are gone.
const PATIENCE: Duration = Duration::from_secs(10 + DRAIN_SECONDS);

/// How long a sidecar inspects plaintext in vain; inside mutual TLS nothing waits for it.
const INSPECTION: Duration = Duration::from_secs(1);

/// A server of this test alone. Each way of declaring a port has one port whose application answers
/// requests and lines, one where it greets, and one where it speaks TLS of its own.
pub(super) const CELLS: Member = Member {
    namespace: "cells",
    pod: "cells-0",
    app: "cells",
    version: "v1",
    address: "10.77.0.70",
    more_addresses: &[],
    ports: &[8080, 6080, 7080],
    greeting_ports: &[8081, 6081, 7081],
};

pub(super) const SERVER: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: cells}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cells, namespace: cells}
---
apiVersion: v1
kind: Service
metadata: {name: cells, namespace: cells}
spec:
  clusterIP: 10.96.1.70
  selector: {app: cells}
  ports:
    - {name: http-echo, port: 8080}
    - {name: http-greet, port: 8081}
    - {name: http-own-tls, port: 8443}
    - {name: tcp-echo, port: 6080}
    - {name: tcp-greet, port: 6081}
    - {name: tcp-own-tls, port: 6443}
    - {name: some-echo, port: 7080}
    - {name: some-greet, port: 7081}
    - {name: some-own-tls, port: 7443}
---
apiVersion: v1
kind: Pod
metadata:
  name: cells-0
  namespace: cells
  labels: {app: cells, version: v1, security.istio.io/tlsMode: istio}
spec:
  serviceAccountName: cells
  containers: [{name: cells, image: registry.example/cells:v1}]
status:
  phase: Running
  podIP: 10.77.0.70
  podIPs: [{ip: 10.77.0.70}]
  conditions: [{type: Ready, status: \"True\"}]
";

/// Without it, callers in the mesh would follow the server to plaintext under DISABLE.
pub(super) const ALWAYS_MUTUAL: &str = "\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cells, namespace: cells}
spec:
  host: cells.cells.svc.cluster.local
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Strict,
    Permissive,
    Disable,
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Strict => "STRICT",
            Self::Permissive => "PERMISSIVE",
            Self::Disable => "DISABLE",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    Http,
    Tcp,
    Nothing,
}

impl Declared {
    /// The application's port that answers; plus 1: that greets; plus 363: that speaks TLS.
    pub(super) fn port(self) -> u16 {
        match self {
            Self::Http => 8080,
            Self::Tcp => 6080,
            Self::Nothing => 7080,
        }
    }

    fn greeting_port(self) -> u16 {
        self.port() + 1
    }

    fn tls_port(self) -> u16 {
        self.port() + 363
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    PlainHttp,
    ServerFirst,
    MeshTls,
    OwnTls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The application answers; whether it is told the caller's identity.
    Served { identity: bool },
    /// TLS reaches the application untouched.
    PassedThrough,
    /// The application gets nothing.
    Refused,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Served { identity: true } => "served, identity",
            Self::Served { identity: false } => "served",
            Self::PassedThrough => "passed through",
            Self::Refused => "refused",
        })
    }
}

pub(super) const MODES: [Mode; 3] = [Strict, Permissive, Disable];
pub(super) const DECLARED: [Declared; 3] = [Declared::Http, Declared::Tcp, Declared::Nothing];
const TRAFFIC: [Traffic; 4] = [Traffic::PlainHttp, Traffic::ServerFirst, Traffic::MeshTls, Traffic::OwnTls];

/// Table I2. TCP chains see bytes: they have no header to tell an identity in. Where a port is
/// declared HTTP, foreign TLS and a client that waits for a greeting fit no chain that serves them.
fn table(mode: Mode, declared: Declared, traffic: Traffic) -> Outcome {
    let served = Outcome::Served { identity: false };
    let http = declared == Declared::Http;
    match (mode, traffic) {
        (Strict | Permissive, Traffic::MeshTls) => Outcome::Served { identity: declared != Declared::Tcp },
        (Strict, _) => Outcome::Refused,
        (_, Traffic::PlainHttp) => served,
        _ if http => Outcome::Refused,
        (_, Traffic::ServerFirst) => served,
        (_, Traffic::OwnTls) | (Disable, Traffic::MeshTls) => Outcome::PassedThrough,
    }
}

/// Where the server's sidecar inspects first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    InLine,
    Behind,
}

impl Shape {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::InLine => &["--internal-listeners=false"],
            Self::Behind => &["--internal-listeners=true"],
        }
    }
}

/// The server with its TLS applications, a caller in the mesh, and one outside.
pub(super) struct Scene {
    // Dropped in this order: the mesh is last.
    _tls: Vec<Process>,
    pub(super) server: Pod,
    pub(super) client: Pod,
    pub(super) legacy: Pod,
    pub(super) mesh: Mesh,
}

impl Scene {
    pub(super) fn start(manifests: &str, policy: &str, shape: Shape) -> Result<Self> {
        let mesh = Mesh::start()?;
        mesh.manifests.write("cells-policy.yaml", policy)?;
        mesh.manifests.write("cells.yaml", manifests)?;
        let (server, client) = (mesh.lift_with(CELLS, shape.flags())?, mesh.lift(STOREFRONT)?);
        let legacy = mesh.lift_plain(LEGACY)?;
        Ok(Self { _tls: own_tls(&mesh, &server)?, server, client, legacy, mesh })
    }

    /// Switches, and waits until the server's sidecar has the chains of `mode` for `port`, and no
    /// others are draining.
    pub(super) fn switch(&self, policy: &str, port: u16, mode: Mode) -> Result<()> {
        self.mesh.manifests.write("cells-policy.yaml", policy)?;
        until(&format!("{mode} at port {port}"), PATIENCE, || {
            let dump = self.server.admin("/config_dump?resource=dynamic_listeners")?;
            let has = |chain| dump.contains(&format!("virtualInbound-{port}-{chain}\""));
            let mesh = has("mesh") == (mode != Disable);
            let plain = has("plaintext") == (mode != Strict);
            let settled = self.server.stat("listener_manager.total_filter_chains_draining")? == 0;
            Ok((mesh && plain && settled).then_some(()))
        })
    }

    /// A connection in the mesh, kept open, that has carried a line.
    fn talk(&self, port: u16, name: &str) -> Result<Talk> {
        let log = self.mesh.dir().join(format!("{name}.log"));
        let mut talk = Talk::open(&self.client.namespace, &CELLS.cluster_ip(), port, &log)?;
        talk.exchange(&format!("{name}: hello"))?;
        Ok(talk)
    }

    fn observe(&self, declared: Declared, traffic: Traffic) -> Result<Outcome> {
        Ok(match traffic {
            Traffic::PlainHttp => answered(&self.legacy.call_pod(&CELLS, declared.port(), "/")?)?,
            Traffic::ServerFirst => self.server_first(&self.legacy, declared),
            Traffic::MeshTls => self.mesh_tls(declared)?,
            Traffic::OwnTls => self.own_tls(&self.legacy, declared),
        })
    }

    fn mesh_tls(&self, declared: Declared) -> Result<Outcome> {
        let port = declared.port();
        let counter = format!("cluster.inbound|{port}||.upstream_cx_total");
        let before = self.server.stat(&counter)?;
        let outcome = answered(&self.client.call(&CELLS, port, "/")?)?;
        let reached = self.server.stat(&counter)? > before;
        // The handshake itself has reached an application that does not speak TLS.
        Ok(if outcome == Outcome::Refused && reached { Outcome::PassedThrough } else { outcome })
    }

    /// Answered with the certificate of the application: the caller trusts no other.
    fn own_tls(&self, from: &Pod, declared: Declared) -> Outcome {
        let mut curl = from.namespace.command("curl");
        curl.args(["--silent", "--fail", "--max-time", "5", "--output", "/dev/null", "--cacert"]);
        curl.arg(self.mesh.dir().join("own-cert.pem"));
        curl.arg(format!("https://{}:{}/", CELLS.address, declared.tls_port()));
        if run(curl).is_ok() { Outcome::PassedThrough } else { Outcome::Refused }
    }

    fn server_first(&self, from: &Pod, declared: Declared) -> Outcome {
        let log = self.mesh.dir().join("server-first.log");
        match greeting(from, CELLS.address, declared.greeting_port(), &log) {
            Some(_) => Outcome::Served { identity: false },
            None => Outcome::Refused,
        }
    }

    /// Without the sidecar everything works: each refusal in a cell comes from the sidecar.
    fn applications_work(&self) -> Result<()> {
        for declared in DECLARED {
            let served = Outcome::Served { identity: false };
            assert_eq!(answered(&self.server.call_pod(&CELLS, declared.port(), "/")?)?, served);
            assert_eq!(self.server_first(&self.server, declared), served, "{declared:?}");
            assert_eq!(self.own_tls(&self.server, declared), Outcome::PassedThrough, "{declared:?}");
        }
        Ok(())
    }
}

/// Applications that speak TLS with a certificate of their own, not of the mesh.
fn own_tls(mesh: &Mesh, server: &Pod) -> Result<Vec<Process>> {
    let (cert, key) = (mesh.dir().join("own-cert.pem"), mesh.dir().join("own-key.pem"));
    let mut request = Command::new("openssl");
    request.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    request.args(["-subj", "/CN=own", "-addext", &format!("subjectAltName=IP:{}", CELLS.address)]);
    request.arg("-keyout").arg(&key).arg("-out").arg(&cert);
    run(request)?;
    let serve = |declared: Declared| {
        let port = declared.tls_port().to_string();
        let mut command = server.namespace.command("openssl");
        command.args(["s_server", "-4", "-www", "-accept", &port]);
        command.arg("-cert").arg(&cert).arg("-key").arg(&key);
        let mut process = Process::spawn("s_server", command, &mesh.dir().join(format!("own-{port}.log")))?;
        process.wait_for_line("ACCEPT", PATIENCE)?;
        Ok(process)
    };
    DECLARED.into_iter().map(serve).collect()
}

fn answered(answer: &Answer) -> Result<Outcome> {
    if !answer.is_ok() {
        return Ok(Outcome::Refused);
    }
    let told = answer.header("x-forwarded-client-cert")?;
    let identity = told.as_ref().is_some_and(|told| told.contains(&STOREFRONT.spiffe_id()));
    ensure!(identity || told.is_none(), "somebody else's identity: {told:?}");
    Ok(Outcome::Served { identity })
}

/// The delay until the greeting of a server arrives, if it does.
fn greeting(from: &Pod, address: &str, port: u16, log: &Path) -> Option<Duration> {
    let mut talk = Talk::open(&from.namespace, address, port, log).ok()?;
    talk.greeting().ok().map(|(_, waited)| waited)
}

pub(super) fn whole_namespace(mode: Mode) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: cells, namespace: cells}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn each_kind_of_traffic_fares_as_the_table_says() -> Result<()> {
    the_table(Shape::Behind)
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn each_kind_of_traffic_fares_as_the_table_says_where_inspection_is_in_line() -> Result<()> {
    the_table(Shape::InLine)
}

fn the_table(shape: Shape) -> Result<()> {
    let scene = Scene::start(&format!("{SERVER}{ALWAYS_MUTUAL}"), &whole_namespace(Strict), shape)?;
    scene.applications_work()?;
    let mut wrong = Vec::new();
    for mode in MODES {
        scene.switch(&whole_namespace(mode), 6080, mode)?;
        if mode == Strict {
            until("callers to know the server", PATIENCE, || {
                Ok(scene.client.call(&CELLS, 8080, "/")?.is_ok().then_some(()))
            })?;
        }
        println!("{mode:<11} {:<17}{:<17}{:<17}own TLS", "plain HTTP", "server first", "mesh TLS");
        for declared in DECLARED {
            let mut row = format!("  {:<10}", format!("{declared:?}"));
            for traffic in TRAFFIC {
                let (seen, due) = (scene.observe(declared, traffic)?, table(mode, declared, traffic));
                row += &format!("{seen:<17}");
                if seen != due {
                    wrong.push(format!("{mode} {declared:?} {traffic:?}: {seen}, not {due}"));
                }
            }
            println!("{row}");
        }
        server_first_waits(&scene, mode, shape)?;
    }
    assert_eq!(wrong, Vec::<String>::new());
    nothing_was_refused(&scene.mesh, &[&scene.server, &scene.client])
}

/// Inside mutual TLS a greeting comes at once, and in plaintext under DISABLE too, if inspection is behind the first
/// listener; elsewhere in plaintext after a bounded wait. Where no protocol is declared, the caller's sidecar waits for
/// the first bytes of its own application, whatever the server asks.
fn server_first_waits(scene: &Scene, mode: Mode, shape: Shape) -> Result<()> {
    let log = scene.mesh.dir().join("greeting.log");
    for declared in [Declared::Tcp, Declared::Nothing] {
        let port = declared.greeting_port();
        if mode != Strict {
            let plain = greeting(&scene.legacy, CELLS.address, port, &log).context("no greeting")?;
            println!("  {declared:?}: a greeting in plaintext is heard after {plain:.2?}");
            let at_once = mode == Disable && shape == Shape::Behind;
            let most = if at_once { INSPECTION.mul_f32(0.8) } else { 4 * INSPECTION };
            assert!(plain < most, "{mode} {declared:?}: {plain:?}");
        }
        if mode != Disable {
            let mutual = greeting(&scene.client, &CELLS.cluster_ip(), port, &log).context("no greeting")?;
            println!("  {declared:?}: a greeting inside mutual TLS is heard after {mutual:.2?}");
            let most = if declared == Declared::Tcp { INSPECTION.mul_f32(0.8) } else { 4 * INSPECTION };
            assert!(mutual < most, "{mode} {declared:?}: {mutual:?}");
        }
    }
    Ok(())
}

/// All ports STRICT, but for 6080.
fn one_port(mode: Mode) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: cells, namespace: cells}}\nspec:\n  selector: {{matchLabels: {{app: cells}}}}\n  \
         mtls: {{mode: STRICT}}\n  portLevelMtls: {{6080: {{mode: {mode}}}}}\n"
    )
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_switch_costs_at_most_connections_of_its_port_and_none_that_stays_legal() -> Result<()> {
    // Behind `virtualInbound` a switch between STRICT and PERMISSIVE changes one listener, any other two.
    the_six_switches(Shape::Behind, 2 + 2 * 4)
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_switch_costs_at_most_connections_of_its_port_where_inspection_is_in_line() -> Result<()> {
    the_six_switches(Shape::InLine, 6)
}

fn the_six_switches(shape: Shape, updates: u64) -> Result<()> {
    let scene = Scene::start(SERVER, &one_port(Strict), shape)?;
    scene.switch(&one_port(Strict), 6080, Strict)?;
    until("callers to know the server", PATIENCE, || {
        Ok(scene.client.call(&CELLS, 8080, "/")?.is_ok().then_some(()))
    })?;
    let mut elsewhere = scene.talk(6081, "elsewhere")?;
    let in_place = || scene.server.stat("listener_manager.listener_in_place_updated");
    let before = in_place()?;

    let path = [Strict, Permissive, Disable, Permissive, Strict, Disable, Strict];
    for (number, step) in path.windows(2).enumerate() {
        let (from, to) = (step[0], step[1]);
        let handshakes = scene.server.stats("ssl.handshake")?;
        let mut here = scene.talk(6080, &format!("{number}-held"))?;
        let mutual = scene.server.stats("ssl.handshake")? > handshakes;
        assert_eq!(mutual, from != Disable, "how callers in the mesh connect under {from}");

        scene.switch(&one_port(to), 6080, to)?;
        elsewhere.exchange(&format!("{from} to {to}"))?;
        let lives = here.exchange(&format!("{from} to {to}")).is_ok();
        println!("{from:<10} to {to:<10}: the port's connection {}", if lives { "lives" } else { "is cut" });
        assert!(lives || from == Disable || to == Disable, "{from} to {to} cut a legal connection");
        // Callers get the change too; the next step begins with a new connection.
        until("callers to follow", PATIENCE, || {
            let before = scene.server.stats("ssl.handshake")?;
            let connects = scene.talk(6080, &format!("{number}-new")).is_ok();
            let mutual = scene.server.stats("ssl.handshake")? > before;
            Ok((connects && mutual == (to != Disable)).then_some(()))
        })?;
    }
    assert_eq!(in_place()? - before, updates, "updates that keep the listener");
    nothing_was_refused(&scene.mesh, &[&scene.server, &scene.client])
}
