//! TLS that a DestinationRule originates towards servers outside the mesh (POLICY.md O5, O6, O8):
//! what a call meets with right and wrong names, trust anchors and client certificates.

use std::{
    fmt, fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use eastwest_tests::{
    app::{self, Answer},
    bookshop::{LEGACY, Member, STOREFRONT},
    iptables::SIDECAR_ID,
    mesh::{Mesh, Pod},
    process::{Process, until},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use Outcome::{NameRefused, NotTls, RefusedByServer, Served, Untrusted};

/// How long a changed rule may take to be in force.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A machine outside the mesh: no manifest knows it but the ServiceEntries of this test.
const OUTSIDE: Member = Member {
    namespace: "outside",
    pod: "outside",
    app: "outside",
    version: "v1",
    address: "10.77.0.90",
    ports: &[],
    greeting_ports: &[],
};

/// A server outside, called as `http://HOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: &'static str,
    /// Where it speaks TLS.
    pub(crate) port: u16,
    /// What its certificate is for.
    pub(crate) certified: &'static str,
    /// Whether it demands a certificate of its clients.
    pub(crate) demanding: bool,
}

pub(crate) const OPEN: Server =
    Server { host: "external.example.org", port: 8443, certified: "external.example.org", demanding: false };
pub(crate) const DEMANDING: Server =
    Server { host: "demanding.example.org", port: 9443, certified: "demanding.example.org", demanding: true };
/// Its certificate is for somebody else.
const IMPOSTOR: Server =
    Server { host: "impostor.example.org", port: 7443, certified: "external.example.org", demanding: false };
const SERVERS: [Server; 3] = [OPEN, DEMANDING, IMPOSTOR];

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server answers.
    Served,
    /// The sidecar does not trust who signed the server's certificate.
    Untrusted,
    /// The server's certificate names somebody else.
    NameRefused,
    /// The server does not accept the sidecar's certificate, or that it has none.
    RefusedByServer,
    /// The sidecar does not speak TLS; the server hangs up.
    NotTls,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Served => "served",
            Untrusted => "server not trusted",
            NameRefused => "server's name wrong",
            RefusedByServer => "refused by server",
            NotTls => "plaintext, refused",
        })
    }
}

/// A `tls` block, for calls of one server. `DIR` stands for the folder of certificates.
struct Case {
    name: &'static str,
    server: Server,
    tls: &'static str,
    due: Outcome,
}

const fn case(name: &'static str, server: Server, tls: &'static str, due: Outcome) -> Case {
    Case { name, server, tls, due }
}

/// In this order each switch has to end what the one before has allowed.
const CASES: [Case; 17] = [
    case(
        "SIMPLE, right CA and name",
        OPEN,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem, subjectAltNames: [external.example.org]}",
        Served,
    ),
    case(
        "SIMPLE, wrong CA",
        OPEN,
        "{mode: SIMPLE, caCertificates: DIR/foreign.pem, subjectAltNames: [external.example.org]}",
        Untrusted,
    ),
    case("SIMPLE, names from Host header", OPEN, "{mode: SIMPLE, caCertificates: DIR/servers.pem}", Served),
    case(
        "SIMPLE, wrong name",
        OPEN,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem, subjectAltNames: [elsewhere.example.org]}",
        NameRefused,
    ),
    case("SIMPLE, CAs of the system", OPEN, "{mode: SIMPLE}", Untrusted),
    case(
        "SIMPLE, CAs of the system, right name",
        OPEN,
        "{mode: SIMPLE, subjectAltNames: [external.example.org]}",
        Untrusted,
    ),
    case("SIMPLE, insecureSkipVerify", OPEN, "{mode: SIMPLE, insecureSkipVerify: true}", Served),
    case("ISTIO_MUTUAL", OPEN, "{mode: ISTIO_MUTUAL}", Untrusted),
    case(
        "MUTUAL, server does not ask",
        OPEN,
        "{mode: MUTUAL, caCertificates: DIR/servers.pem, clientCertificate: DIR/client.pem, privateKey: DIR/client-key.pem}",
        Served,
    ),
    case("DISABLE", OPEN, "{mode: DISABLE}", NotTls),
    case(
        "SIMPLE, another host's certificate",
        IMPOSTOR,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem}",
        NameRefused,
    ),
    case(
        "SIMPLE, that host's name in the rule",
        IMPOSTOR,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem, subjectAltNames: [external.example.org]}",
        Served,
    ),
    case(
        "MUTUAL, trusted client certificate",
        DEMANDING,
        "{mode: MUTUAL, caCertificates: DIR/servers.pem, clientCertificate: DIR/client.pem, privateKey: DIR/client-key.pem}",
        Served,
    ),
    case(
        "MUTUAL, foreign client certificate",
        DEMANDING,
        "{mode: MUTUAL, caCertificates: DIR/servers.pem, clientCertificate: DIR/stranger.pem, privateKey: DIR/stranger-key.pem}",
        RefusedByServer,
    ),
    case(
        "SIMPLE, client certificate asked for",
        DEMANDING,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem}",
        RefusedByServer,
    ),
    case(
        "MUTUAL, trusted again",
        DEMANDING,
        "{mode: MUTUAL, caCertificates: DIR/servers.pem, clientCertificate: DIR/client.pem, privateKey: DIR/client-key.pem}",
        Served,
    ),
    case(
        "MUTUAL, wrong CA of the server",
        DEMANDING,
        "{mode: MUTUAL, caCertificates: DIR/foreign.pem, clientCertificate: DIR/client.pem, privateKey: DIR/client-key.pem}",
        Untrusted,
    ),
];

/// A server of somebody else, called in plaintext on a port of its own and reached with TLS.
pub(crate) fn entry(server: Server) -> String {
    let name = server.host.split('.').next().unwrap_or_default();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: bookshop}}\nspec:\n  hosts: [{host}]\n  location: MESH_EXTERNAL\n  \
         resolution: STATIC\n  endpoints: [{{address: {address}}}]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]\n",
        host = server.host,
        address = OUTSIDE.address,
        port = server.port,
    )
}

/// One test CA with the certificates it has signed.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one, with its certificate in `DIR/NAME.pem`.
    pub(crate) fn new(dir: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        fs::write(dir.join(format!("{name}.pem")), params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    /// A certificate for `host` in `DIR/NAME.pem`, its key, which the sidecar may read, beside it.
    pub(crate) fn certify(&self, dir: &Path, name: &str, host: &str) -> Result<()> {
        let mut params = CertificateParams::new([host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        fs::write(dir.join(format!("{name}.pem")), params.signed_by(&key, &self.issuer)?.pem())?;
        let file = dir.join(format!("{name}-key.pem"));
        fs::write(&file, key.serialize_pem())?;
        Ok(chown(&file, Some(SIDECAR_ID), Some(SIDECAR_ID))?)
    }
}

/// Servers and clients have CAs of their own, and that of the clients is returned; nobody trusts the foreign one.
fn certificates(dir: &Path) -> Result<Authority> {
    fs::create_dir(dir)?;
    let servers = Authority::new(dir, "servers")?;
    for server in SERVERS {
        servers.certify(dir, server.host, server.certified)?;
    }
    Authority::new(dir, "foreign")?.certify(dir, "stranger", "client.example.org")?;
    let clients = Authority::new(dir, "clients")?;
    clients.certify(dir, "client", "client.example.org")?;
    Ok(clients)
}

/// The servers outside, a caller in the mesh, and a call that has nothing to do with them.
pub(crate) struct Scene {
    // Dropped in this order: the mesh is last.
    _servers: Vec<Process>,
    pub(crate) client: Pod,
    outside: Pod,
    _legacy: Pod,
    pub(crate) certificates: PathBuf,
    /// The CA that the demanding server trusts.
    pub(crate) clients: Authority,
    pub(crate) mesh: Mesh,
}

impl Scene {
    pub(crate) fn start() -> Result<Self> {
        let mesh = Mesh::start()?;
        let dir = mesh.dir().join("certificates");
        let clients = certificates(&dir)?;
        let outside = mesh.lift_plain(OUTSIDE)?;
        let serving = SERVERS.into_iter().map(|server| serve(&mesh, &outside, &dir, server));
        let servers = serving.collect::<Result<_>>()?;
        mesh.manifests.write("external.yaml", &SERVERS.map(entry).concat())?;
        let (client, legacy) = (mesh.lift(STOREFRONT)?, mesh.lift_plain(LEGACY)?);
        let scene =
            Self { _servers: servers, client, outside, _legacy: legacy, certificates: dir, clients, mesh };
        for server in SERVERS {
            until("the servers to be known", PATIENCE, || scene.cluster(server))?;
        }
        Ok(scene)
    }

    /// The cluster that Envoy uses for a server, as it was sent.
    pub(crate) fn cluster(&self, server: Server) -> Result<Option<Value>> {
        let dump: Value =
            serde_json::from_str(&self.client.admin("/config_dump?resource=dynamic_active_clusters")?)?;
        let clusters = dump["configs"].as_array().context("a dump has configs")?;
        let named = |one: &&Value| one["cluster"]["name"] == cluster_name(server);
        Ok(clusters.iter().find(named).map(|one| one["cluster"].clone()))
    }

    /// The rules of the test: a host and its `tls` block each. Those of before are gone.
    fn write_rules(&self, rules: &[(&str, &str)]) -> Result<()> {
        let dir = self.certificates.display().to_string();
        let rule = |(number, (host, tls)): (usize, &(&str, &str))| {
            format!(
                "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                 metadata: {{name: originate-{number}, namespace: bookshop}}\n\
                 spec:\n  host: {host}\n  trafficPolicy:\n    tls: {}\n",
                tls.replace("DIR", &dir)
            )
        };
        let text: String = rules.iter().enumerate().map(rule).collect();
        self.mesh.manifests.write("external-rules.yaml", &text)
    }

    /// Replaces the rules, and waits until Envoy uses another cluster for `server`.
    fn switch(&self, server: Server, rules: &[(&str, &str)]) -> Result<()> {
        let before = self.cluster(server)?;
        self.write_rules(rules)?;
        until(&format!("a new cluster for {}", server.host), PATIENCE, || {
            Ok((self.cluster(server)? != before).then_some(()))
        })
    }

    pub(crate) fn call(&self, server: Server) -> Result<Answer> {
        app::curl(&self.client.namespace, server.host, OUTSIDE.address, 80, "/")
    }

    /// What a call meets, by its answer and Envoy's figures, and what the caller is told.
    pub(crate) fn observe(&self, server: Server) -> Result<(Outcome, String)> {
        let figures = ["upstream_cx_total", "ssl.fail_verify_error", "ssl.fail_verify_san"];
        let figures = figures.into_iter().chain(["ssl.connection_error", "ssl.handshake"]);
        let name = |figure| format!("cluster.{}.{figure}", cluster_name(server));
        let read = || figures.clone().map(|one| self.client.stat(&name(one))).collect::<Result<Vec<_>>>();
        let before = read()?;
        let answer = self.call(server)?;
        let grown: Vec<_> = read()?.iter().zip(before).map(|(now, before)| *now > before).collect();
        let [connected, untrusted, misnamed, broken, shaken] = grown[..] else {
            anyhow::bail!("five figures are read");
        };
        let outcome = match (answer.is_ok(), connected) {
            (true, _) if shaken => Served,
            (false, true) if untrusted => Untrusted,
            (false, true) if misnamed => NameRefused,
            (false, true) if broken || shaken => RefusedByServer,
            (false, true) => NotTls,
            _ => anyhow::bail!("neither served nor refused: {answer:?}, {grown:?}"),
        };
        let told =
            if outcome == Served { String::new() } else { format!("{} {}", answer.status, answer.body) };
        Ok((outcome, told))
    }
}

fn cluster_name(server: Server) -> String {
    format!("outbound|80||{}", server.host)
}

/// A web server that speaks TLS only.
fn serve(mesh: &Mesh, outside: &Pod, dir: &Path, server: Server) -> Result<Process> {
    let mut command = outside.namespace.command("openssl");
    command.args(["s_server", "-4", "-www", "-accept", &server.port.to_string()]);
    command.arg("-cert").arg(dir.join(format!("{}.pem", server.host)));
    command.arg("-key").arg(dir.join(format!("{}-key.pem", server.host)));
    if server.demanding {
        command.args(["-Verify", "1", "-verify_return_error", "-CAfile"]).arg(dir.join("clients.pem"));
    }
    let log = mesh.dir().join(format!("{}.log", server.host));
    let mut process = Process::spawn("s_server", command, &log)?;
    process.wait_for_line("ACCEPT", PATIENCE)?;
    Ok(process)
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_rule_decides_whom_outside_the_mesh_is_called_and_how() -> Result<()> {
    let scene = Scene::start()?;
    let mut wrong = Vec::new();
    for Case { name, server, tls, due } in CASES {
        scene.switch(server, &[(server.host, tls)])?;
        let (seen, told) = scene.observe(server)?;
        println!("{name:<38}{seen:<21}{told}");
        if seen != due {
            wrong.push(format!("{name}: {seen}, not {due}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    the_host_header_names_the_server(&scene)?;
    crate::nothing_was_refused(&scene.mesh, &[&scene.client])?;
    a_missing_file_costs_nobody_else(&scene)
}

/// Without SNI in the rule the server hears the name that the application called.
fn the_host_header_names_the_server(scene: &Scene) -> Result<()> {
    scene.switch(OPEN, &[(OPEN.host, "{mode: SIMPLE, caCertificates: DIR/servers.pem}")])?;
    let (wire, answer) = scene.mesh.capture(&scene.outside, || scene.call(OPEN))?;
    ensure!(answer.is_ok(), "{answer:?}");
    let names: Vec<_> = wire.client_hellos(OPEN.port)?.into_iter().map(|hello| hello.sni).collect();
    assert_eq!(names, [OPEN.host]);
    Ok(())
}

/// A rule that names a file which is not there: connections to that host fail, none goes out in plaintext, and
/// everything else goes on. The file counts as soon as it is there, and again when it changes.
fn a_missing_file_costs_nobody_else(scene: &Scene) -> Result<()> {
    const LATE: &str =
        "{mode: SIMPLE, caCertificates: DIR/late.pem, subjectAltNames: [external.example.org]}";
    const SKIP: &str = "{mode: SIMPLE, insecureSkipVerify: true}";
    let late = scene.certificates.join("late.pem");
    let write = |from: &str| -> Result<()> {
        let draft = scene.certificates.join("draft.pem");
        fs::copy(scene.certificates.join(from), &draft)?;
        Ok(fs::rename(draft, &late)?)
    };
    let becomes = |due: Outcome| {
        until(&due.to_string(), PATIENCE, || Ok((scene.observe(OPEN)?.0 == due).then_some(())))
    };
    // What was in force must not stay: in plaintext it would be.
    scene.switch(OPEN, &[(OPEN.host, "{mode: DISABLE}")])?;
    assert_eq!(scene.observe(OPEN)?.0, NotTls);
    scene.switch(OPEN, &[(OPEN.host, LATE), (IMPOSTOR.host, SKIP)])?;
    let answer = scene.call(OPEN)?;
    println!("without its file: {} {}", answer.status, answer.body);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(scene.observe(IMPOSTOR)?.0, Served, "the rest of the same change is in force");
    assert_eq!(scene.client.call(&LEGACY, 80, "/")?.seen()?["pod"], "legacy-0", "others are called as ever");

    write("servers.pem")?;
    becomes(Served)?;
    write("foreign.pem")?;
    becomes(Untrusted)?;
    write("servers.pem")?;
    becomes(Served)?;
    fs::remove_file(&late)?;
    assert_eq!(scene.observe(OPEN)?.0, Served, "what was good once stays");
    crate::nothing_was_refused(&scene.mesh, &[&scene.client])
}
