//! A whole agent in this process, against a fake CA.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::server::{FakeCa, Serving};
use crate::{AgentConfig, AgentError, Shutdown, run};

/// An agent at work, with all that belongs to it.
pub(crate) struct TestAgent {
    pub(crate) ca: Arc<FakeCa>,
    /// Where the CA is, or was.
    pub(crate) address: SocketAddr,
    /// The CA; take it to stop the CA.
    pub(crate) serving: Option<Serving>,
    pub(crate) dir: TempDir,
    pub(crate) status_port: u16,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: JoinHandle<Result<u8, AgentError>>,
}

impl TestAgent {
    /// Starts a CA that issues certificates of `life`, and an agent with the token `first`.
    pub(crate) async fn start(life: Duration) -> Self {
        let ca = FakeCa::new(move |ca, csr| Ok(ca.answer(csr, life)));
        Self::start_with(ca, |_| {}).await
    }

    /// The same with a CA of its own and a changed configuration.
    pub(crate) async fn start_with(ca: Arc<FakeCa>, change: impl FnOnce(&mut AgentConfig)) -> Self {
        let (address, serving) = ca.serve((Ipv4Addr::LOCALHOST, 0).into()).await;
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir, address).await;
        std::fs::write(&config.ca_root, &ca.ca.root_pem).unwrap();
        std::fs::write(&config.token_file, "first\n").unwrap();
        change(&mut config);
        let (status_port, shutdown) = (config.status_port, Shutdown::new());
        let running = tokio::spawn(run(config, shutdown.clone()));
        Self { ca, address, serving: Some(serving), dir, status_port, shutdown, running }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("agent/sds.sock")
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    /// Status and body of a page of the status port; `None` while it does not answer.
    pub(crate) async fn status(&self, path: &str) -> Option<(u16, String)> {
        self.status_at(Ipv4Addr::LOCALHOST.into(), path).await
    }

    /// The same at an address of its machine.
    pub(crate) async fn status_at(&self, address: IpAddr, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect((address, self.status_port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Waits until a page of the status port has this status and contains `text`; answers its body.
    pub(crate) async fn status_becomes(&self, path: &str, status: u16, text: &str) -> String {
        let mut last = None;
        let waiting = async {
            loop {
                match self.status(path).await {
                    Some((found, body)) if found == status && body.contains(text) => return body,
                    other => last = other.or(last.take()),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        found.unwrap_or_else(|_| panic!("{path} has not become {status} {text:?} but {last:?}"))
    }

    /// Asks it to end and answers its exit code.
    pub(crate) async fn end(self) -> u8 {
        self.shutdown.requested.cancel();
        self.running.await.unwrap().unwrap()
    }
}

async fn config(dir: &TempDir, control_plane: SocketAddr) -> AgentConfig {
    AgentConfig {
        certificate_dirs: vec![dir.path().to_owned()],
        control_plane: control_plane.to_string(),
        ca_root: dir.path().join("root-cert.pem"),
        token_file: dir.path().join("token"),
        namespace: "shop".into(),
        pod: "reviews-0".into(),
        service_account: "reviews".into(),
        ips: vec!["10.0.0.7".into()],
        dir: dir.path().join("agent"),
        status_port: free_port().await,
        ..AgentConfig::default()
    }
}

/// A port that was free just now.
pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}
