//! A real Kubernetes API: unmodified etcd and kube-apiserver, with RBAC and tokens as in any cluster.
//!
//! There is no kubelet and no scheduler: a test makes the objects that those would make. Both programs are in the one
//! that `cargo xtask tools` builds from `tests/kubernetes`.

mod credentials;
mod manifests;
mod relay;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use self::credentials::Credentials;
pub use self::manifests::{complete, path, read as read_manifests};
pub use self::relay::{Mode, TcpRelay};
use crate::{
    process::{Process, run, until},
    programs,
};

/// How long both programs may take to be ready.
const START: Duration = Duration::from_secs(180);
/// Seconds that an answer may take.
const ANSWER: &str = "10";

/// A running API with nothing in it. Killed when dropped.
#[derive(Debug)]
pub struct Kubernetes {
    // Ended in this order.
    controllers: Option<Process>,
    apiserver: Process,
    etcd: Process,
    /// Where etcd serves its clients.
    etcd_port: u16,
    port: u16,
    credentials: Credentials,
    dir: PathBuf,
}

/// How often it is started until one finds its ports free: between the choice of a port and its use, somebody else may take
/// it.
const ATTEMPTS: usize = 3;

impl Kubernetes {
    /// Starts one on free ports of loopback with its files in `dir`, and waits until it is ready.
    ///
    /// # Errors
    /// The program was not built, or one of the two does not become ready; the error has the end of its output.
    pub fn start(dir: &Path) -> Result<Self> {
        for _ in 1..ATTEMPTS {
            match Self::begin(dir) {
                Err(error) if format!("{error:#}").contains("address already in use") => {}
                outcome => return outcome,
            }
        }
        Self::begin(dir)
    }

    fn begin(dir: &Path) -> Result<Self> {
        let (client, peer, port) = (free_port()?, free_port()?, free_port()?);
        let credentials = Credentials::make(dir)?;
        let etcd = start("etcd", &etcd_flags(dir, client, peer), dir)?;
        let apiserver = start("kube-apiserver", &apiserver_flags(&credentials, client, port), dir)?;
        let mut kubernetes = Self {
            controllers: None,
            apiserver,
            etcd,
            etcd_port: client,
            port,
            credentials,
            dir: dir.to_owned(),
        };
        kubernetes.wait_until_ready()?;
        Ok(kubernetes)
    }

    /// Where it is, `https://127.0.0.1:PORT`; the issuer of its tokens has the same name.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The root of its serving certificate, PEM.
    pub fn ca(&self) -> &Path {
        &self.credentials.ca
    }

    /// The process of kube-apiserver, to be stopped and continued.
    pub fn apiserver(&self) -> &Process {
        &self.apiserver
    }

    /// Kills kube-apiserver with SIGKILL.
    ///
    /// # Errors
    /// It has ended already.
    pub fn kill_apiserver(&mut self) -> Result<()> {
        self.apiserver.kill()
    }

    /// Kills kube-apiserver, unless it is, and starts it again, with an empty watch cache.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn restart_apiserver(&mut self) -> Result<()> {
        if self.apiserver.ended()?.is_none() {
            self.apiserver.kill()?;
        }
        self.start_apiserver()
    }

    fn start_apiserver(&mut self) -> Result<()> {
        let flags = apiserver_flags(&self.credentials, self.etcd_port, self.port);
        self.apiserver = start("kube-apiserver", &flags, &self.dir)?;
        self.wait_until_ready()
    }

    /// Starts the controllers that make objects which others read: EndpointSlices, default service accounts.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_controllers(&mut self) -> Result<()> {
        let flags = controller_flags(&self.credentials, &self.admin_kubeconfig()?, free_port()?);
        self.controllers = Some(start("kube-controller-manager", &flags, &self.dir)?);
        Ok(())
    }

    /// Has etcd forget all versions but the present ones.
    ///
    /// # Errors
    /// etcd's refusal.
    pub fn compact(&self) -> Result<()> {
        let etcd = |path: &str, body: &str| {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--fail-with-body", "--max-time", ANSWER, "--data", body]);
            curl.arg(format!("http://127.0.0.1:{}/v3/kv/{path}", self.etcd_port));
            run(curl)
        };
        let answer: Value = serde_json::from_str(&etcd("range", r#"{"key":"AA=="}"#)?)?;
        let revision = answer["header"]["revision"].as_str().context("etcd tells no revision")?;
        etcd("compaction", &json!({"revision": revision, "physical": true}).to_string()).map(drop)
    }

    /// Stops both programs and copies what etcd has to `snapshot`, then starts them again.
    ///
    /// # Errors
    /// A program does not end or start, or the copy fails.
    pub fn save(&mut self, snapshot: &Path) -> Result<()> {
        self.between_runs(|data| copy(data, snapshot))
    }

    /// Puts etcd back to what [`Kubernetes::save`] copied: later versions never were.
    ///
    /// # Errors
    /// As [`Kubernetes::save`].
    pub fn restore(&mut self, snapshot: &Path) -> Result<()> {
        self.between_runs(|data| {
            std::fs::remove_dir_all(data)?;
            copy(snapshot, data)
        })
    }

    fn between_runs(&mut self, act: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.apiserver.kill()?;
        self.etcd.signal(nix::sys::signal::Signal::SIGTERM)?;
        self.etcd.wait(START)?;
        act(&self.dir.join("etcd"))?;
        self.etcd = start("etcd", &etcd_flags(&self.dir, self.etcd_port, free_port()?), &self.dir)?;
        self.start_apiserver()
    }

    /// The client certificate of the administrator and its key, PEM files.
    pub fn admin(&self) -> (&Path, &Path) {
        (&self.credentials.admin, &self.credentials.admin_key)
    }

    /// A kubeconfig file `NAME.kubeconfig` for `user`, a mapping as kubeconfig files have it:
    /// `{"tokenFile": …}` or the like.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig(&self, name: &str, user: &Value) -> Result<PathBuf> {
        self.kubeconfig_at(&self.url(), name, user)
    }

    /// As [`Kubernetes::kubeconfig`], for a relay at `server`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig_at(&self, server: &str, name: &str, user: &Value) -> Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "clusters": [{"name": "test",
                "cluster": {"server": server, "certificate-authority": self.ca()}}],
            "users": [{"name": name, "user": user}],
        });
        let path = self.dir.join(format!("{name}.kubeconfig"));
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// The kubeconfig file of the administrator, who has a client certificate.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn admin_kubeconfig(&self) -> Result<PathBuf> {
        self.admin_kubeconfig_at(&self.url())
    }

    /// As [`Kubernetes::admin_kubeconfig`], for a relay at `server`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn admin_kubeconfig_at(&self, server: &str) -> Result<PathBuf> {
        let (certificate, key) = self.admin();
        self.kubeconfig_at(server, "admin", &json!({"client-certificate": certificate, "client-key": key}))
    }

    /// Makes an object in a collection such as `/api/v1/namespaces/shop/pods`, and returns it as the API has it.
    ///
    /// # Errors
    /// The API's refusal.
    pub fn create(&self, collection: &str, object: &Value) -> Result<Value> {
        self.ask("POST", collection, Some(object))
    }

    /// Deletes an object, at once.
    ///
    /// # Errors
    /// The API's refusal.
    pub fn delete(&self, object: &str) -> Result<()> {
        let at_once = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        self.ask("DELETE", object, Some(&at_once)).map(drop)
    }

    /// A token of a service account as kubelets get them (TokenRequest): for `audience`, else for the API itself; bound
    /// to a pod if one is given.
    ///
    /// # Errors
    /// The API's refusal.
    pub fn token(
        &self,
        account: (&str, &str),
        audience: Option<&str>,
        pod: Option<&Value>,
    ) -> Result<String> {
        let (namespace, name) = account;
        let mut spec =
            json!({"audiences": audience.into_iter().collect::<Vec<_>>(), "expirationSeconds": 3600});
        if let Some(pod) = pod {
            let metadata = &pod["metadata"];
            spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": "Pod",
                "name": metadata["name"], "uid": metadata["uid"]});
        }
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.create(&path, &request)?;
        let token = answer["status"]["token"].as_str().context("a TokenRequest without a token")?;
        Ok(token.to_owned())
    }

    /// What the API answers to its administrator.
    ///
    /// # Errors
    /// Any other answer than success, with its text.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send(method, path, "application/json", body)
    }

    fn send(&self, method: &str, path: &str, content_type: &str, body: Option<&Value>) -> Result<Value> {
        let mut curl = self.curl(path);
        curl.args(["--request", method]);
        if let Some(body) = body {
            // Definitions are larger than an argument may be.
            let file = tempfile::NamedTempFile::new()?;
            std::fs::write(file.path(), body.to_string())?;
            curl.args(["--header", &format!("content-type: {content_type}"), "--data-binary"]);
            curl.arg(format!("@{}", file.path().display()));
            return self.answer(method, path, curl);
        }
        self.answer(method, path, curl)
    }

    fn answer(&self, method: &str, path: &str, mut curl: Command) -> Result<Value> {
        let output = curl.output().context("curl")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{method} {path}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).with_context(|| format!("{method} {path} answers no JSON: {text}"))
    }

    fn curl(&self, path: &str) -> Command {
        let Credentials { ca, admin, admin_key, .. } = &self.credentials;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body", "--max-time", ANSWER, "--cacert"]);
        curl.arg(ca).arg("--cert").arg(admin).arg("--key").arg(admin_key).arg(self.url() + path);
        curl
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let ready = until("the Kubernetes API", START, || {
            for process in [&mut self.etcd, &mut self.apiserver] {
                if let Some(status) = process.ended()? {
                    bail!("it ended: {status}");
                }
            }
            Ok(self.curl("/readyz").output()?.status.success().then_some(()))
        });
        ready.with_context(|| {
            let said = [&self.etcd, &self.apiserver].map(|process| crate::process::tail(&process.output()));
            said.join("\n")
        })
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    run(command).map(drop)
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

/// A free port.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start(program: &str, flags: &[String], dir: &Path) -> Result<Process> {
    let mut command = Command::new(programs::kubernetes()?);
    command.arg(program).args(flags);
    Process::spawn(program, command, &dir.join(format!("{program}.log")))
}

fn etcd_flags(dir: &Path, client: u16, peer: u16) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // What a power cut takes away, no test misses.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn controller_flags(credentials: &Credentials, kubeconfig: &Path, port: u16) -> Vec<String> {
    let Credentials { ca, tokens_key, .. } = credentials;
    let controllers = [
        "endpointslice-controller",
        "serviceaccount-controller",
        "serviceaccount-token-controller",
        "root-ca-certificate-publisher-controller",
        "garbage-collector-controller",
        "namespace-controller",
    ];
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--service-account-private-key-file={}", tokens_key.display()),
        format!("--root-ca-file={}", ca.display()),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--controllers={}", controllers.join(",")),
    ]
}

fn apiserver_flags(credentials: &Credentials, etcd: u16, port: u16) -> Vec<String> {
    let Credentials { ca, serving, serving_key, tokens_key, tokens_public, .. } = credentials;
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--client-ca-file={}", ca.display()),
        format!("--tls-cert-file={}", serving.display()),
        format!("--tls-private-key-file={}", serving_key.display()),
        format!("--service-account-issuer={}", url(port)),
        format!("--service-account-key-file={}", tokens_public.display()),
        format!("--service-account-signing-key-file={}", tokens_key.display()),
        // A second family for Services that ask for it; the first one is that of all others.
        "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        // It would write its own address down, which must not be loopback.
        "--endpoint-reconciler-type=none".to_owned(),
    ]
}
