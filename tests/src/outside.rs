//! Servers outside the mesh, and a caller in it whose sidecar originates TLS to them.

use std::{
    fmt, fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use Outcome::{NameRefused, NotTls, RefusedByServer, Served, Untrusted};

use crate::{
    app::{self, Answer},
    bookshop::{LEGACY, Member, STOREFRONT},
    mesh::{Mesh, Pod},
    process::{Process, until},
    redirection::SIDECAR_ID,
};

/// How long a changed rule may take to be in force.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A machine outside the mesh: no manifest knows it but the ServiceEntries of this test.
const OUTSIDE: Member = Member {
    namespace: "outside",
    pod: "outside",
    app: "outside",
    version: "v1",
    address: "10.77.0.90",
    more_addresses: &[],
    ports: &[],
    greeting_ports: &[],
};

/// A server outside, called as `http://HOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub host: &'static str,
    /// Where it speaks TLS.
    pub port: u16,
    /// The host in its certificate.
    pub certified: &'static str,
    /// Whether it demands a certificate of its clients.
    pub demanding: bool,
}

/// A server that asks for no client certificate.
pub const OPEN: Server =
    Server { host: "external.example.org", port: 8443, certified: "external.example.org", demanding: false };
/// A server that requires a client certificate.
pub const DEMANDING: Server =
    Server { host: "demanding.example.org", port: 9443, certified: "demanding.example.org", demanding: true };
/// A server whose certificate is for another host.
pub const MISNAMED: Server =
    Server { host: "misnamed.example.org", port: 7443, certified: "external.example.org", demanding: false };
/// All servers.
pub const SERVERS: [Server; 3] = [OPEN, DEMANDING, MISNAMED];

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server answers.
    Served,
    /// The sidecar does not trust the CA of the server's certificate.
    Untrusted,
    /// The server's certificate has another name.
    NameRefused,
    /// The server refuses the sidecar's certificate, or requires one.
    RefusedByServer,
    /// The sidecar does not speak TLS; the server closes the connection.
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

/// The ServiceEntry of a server: applications call port 80 in plaintext, the sidecar dials the TLS port.
pub fn entry(server: Server) -> String {
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
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
}

impl TestCa {
    /// Makes one, with its certificate in `DIR/NAME.pem`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        fs::write(dir.join(format!("{name}.pem")), params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    /// A certificate for `host` in `DIR/NAME.pem`, its key, which the sidecar may read, beside it.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn certify(&self, dir: &Path, name: &str, host: &str) -> Result<()> {
        let mut params = CertificateParams::new([host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        fs::write(dir.join(format!("{name}.pem")), params.signed_by(&key, &self.issuer)?.pem())?;
        let file = dir.join(format!("{name}-key.pem"));
        fs::write(&file, key.serialize_pem())?;
        Ok(chown(&file, Some(SIDECAR_ID), Some(SIDECAR_ID))?)
    }
}

/// Makes the certificates of servers and clients, each below a CA of its own, and one of a CA that no peer trusts. Returns
/// the CA of the clients.
fn certificates(dir: &Path) -> Result<TestCa> {
    fs::create_dir(dir)?;
    let servers = TestCa::new(dir, "servers")?;
    for server in SERVERS {
        servers.certify(dir, server.host, server.certified)?;
    }
    TestCa::new(dir, "foreign")?.certify(dir, "stranger", "client.example.org")?;
    let clients = TestCa::new(dir, "clients")?;
    clients.certify(dir, "client", "client.example.org")?;
    Ok(clients)
}

/// The servers outside, a caller in the mesh, and a pod that has nothing to do with them.
pub struct Scene {
    // Dropped in this order: the mesh is last.
    _servers: Vec<Process>,
    /// The caller, with a sidecar.
    pub client: Pod,
    /// The machine of the servers.
    pub outside: Pod,
    _legacy: Pod,
    /// The folder with all certificates and keys.
    pub certificates: PathBuf,
    /// The CA that the demanding server trusts.
    pub clients: TestCa,
    /// The mesh.
    pub mesh: Mesh,
}

impl Scene {
    /// Starts the mesh, the servers and the caller.
    ///
    /// # Errors
    /// A program that does not start.
    pub fn start() -> Result<Self> {
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
    ///
    /// # Errors
    /// Envoy does not answer.
    pub fn cluster(&self, server: Server) -> Result<Option<Value>> {
        let dump: Value =
            serde_json::from_str(&self.client.admin("/config_dump?resource=dynamic_active_clusters")?)?;
        let clusters = dump["configs"].as_array().context("a dump has configs")?;
        let named = |one: &&Value| one["cluster"]["name"] == cluster_name(server);
        Ok(clusters.iter().find(named).map(|one| one["cluster"].clone()))
    }

    /// Writes the rules of the test, a host and its `tls` block each, in place of the previous ones.
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
    ///
    /// # Errors
    /// The cluster stays as it was.
    pub fn switch(&self, server: Server, rules: &[(&str, &str)]) -> Result<()> {
        let before = self.cluster(server)?;
        self.write_rules(rules)?;
        until(&format!("a new cluster for {}", server.host), PATIENCE, || {
            Ok((self.cluster(server)? != before).then_some(()))
        })
    }

    /// Calls a server from the caller's application.
    ///
    /// # Errors
    /// `curl` cannot run.
    pub fn call(&self, server: Server) -> Result<Answer> {
        app::curl(&self.client.namespace, server.host, OUTSIDE.address, 80, "/")
    }

    /// The outcome of a call by its answer and Envoy's counters, and the answer that the caller gets.
    ///
    /// # Errors
    /// Envoy does not answer, or its counters contradict the answer.
    pub fn observe(&self, server: Server) -> Result<(Outcome, String)> {
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
