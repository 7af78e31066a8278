//! A relay in front of the API that speaks HTTP: it answers some requests itself and spoils the answers to others.
//!
//! Clients speak plain HTTP to it, and it is the administrator to the API, so that it sees every request.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use eastwest_tests::kubernetes::Kubernetes;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::TlsConnector;

/// What happens to a request that contains some text in its path or query.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This answer, instead of the API's: status line and body.
    Answer(&'static str, String),
    /// The API's answer up to so many bytes of it.
    Truncate(usize),
    /// No answer at all.
    Silence,
    /// The API's answer, with one text in place of another of the same length.
    Replace(&'static str, &'static str),
}

#[derive(Debug, Clone)]
struct Rule {
    /// All of these stand in the request line.
    words: Vec<String>,
    fault: Fault,
    /// How many more times.
    times: usize,
}

/// The relay.
pub(crate) struct HttpRelay {
    _runtime: Runtime,
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: u16,
    tls: TlsConnector,
    rules: Mutex<Vec<Rule>>,
    /// Every request line.
    requests: Mutex<Vec<String>>,
}

impl HttpRelay {
    pub(crate) fn start(programs: &Kubernetes) -> Self {
        let (certificate, key) = programs.admin();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(programs.ca()).unwrap()).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(certificate).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap();
        let shared = Arc::new(Shared {
            upstream: crate::watching::port(programs),
            tls: TlsConnector::from(Arc::new(tls)),
            rules: Mutex::default(),
            requests: Mutex::default(),
        });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(accept(listener, shared.clone()));
        Self { _runtime: runtime, port, shared }
    }

    /// A kubeconfig for the relay.
    pub(crate) fn kubeconfig(&self, dir: &std::path::Path) -> std::path::PathBuf {
        let path = dir.join("http-relay.kubeconfig");
        let config = serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "relay",
            "contexts": [{"name": "relay", "context": {"cluster": "relay", "user": "relay"}}],
            "clusters": [{"name": "relay", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "relay", "user": {}}]});
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// From now on, the next `times` requests whose line contains all `words` meet this fault.
    pub(crate) fn spoil(&self, words: &[&str], times: usize, fault: Fault) {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        self.shared.rules.lock().unwrap().push(Rule { words, fault, times });
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    /// How many faults are still to come.
    pub(crate) fn left(&self) -> usize {
        self.shared.rules.lock().unwrap().iter().map(|rule| rule.times).sum()
    }

    /// How many requests had all of these words so far.
    pub(crate) fn asked(&self, words: &[&str]) -> usize {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

impl Shared {
    fn fault(&self, line: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let meets = |rule: &&mut Rule| rule.times > 0 && rule.words.iter().all(|word| line.contains(word));
        let rule = rules.iter_mut().find(meets)?;
        rule.times -= 1;
        Some(rule.fault.clone())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            // A broken connection is what these tests are about.
            let _ = serve(client, &shared).await;
        });
    }
}

/// One request and its answer.
async fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    shared.requests.lock().unwrap().push(line.clone());
    let fault = shared.fault(&line);
    match &fault {
        Some(Fault::Answer(status, body)) => {
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            client.write_all(answer.as_bytes()).await?;
            return client.shutdown().await;
        }
        Some(Fault::Silence) => {
            let mut ignored = [0; 64];
            while client.read(&mut ignored).await? > 0 {}
            return Ok(());
        }
        _ => {}
    }
    let upstream = TcpStream::connect(("127.0.0.1", shared.upstream)).await?;
    let name = ServerName::try_from("127.0.0.1").map_err(std::io::Error::other)?;
    let mut upstream = shared.tls.connect(name, upstream).await?;
    let mut head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    if matches!(fault, Some(Fault::Replace(..))) {
        // HTTP/1.0 has no chunks, whose lengths could stand within the text to replace.
        head = head.replacen(" HTTP/1.1\r\n", " HTTP/1.0\r\n", 1);
    }
    upstream.write_all(head.as_bytes()).await?;
    let lengths = head
        .lines()
        .filter_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; lengths.max().unwrap_or(0)];
    client.read_exact(&mut body).await?;
    upstream.write_all(&body).await?;
    let mut left = if let Some(Fault::Truncate(bytes)) = fault { bytes } else { usize::MAX };
    let mut buffer = vec![0; 64 << 10];
    let mut closed = [0];
    // The beginning of a text to replace whose end has not been read yet.
    let mut held = Vec::new();
    loop {
        let read = tokio::select! {
            read = upstream.read(&mut buffer) => read?,
            // The client hung up.
            _ = client.read(&mut closed) => return Ok(()),
        };
        if read == 0 {
            client.write_all(&held).await?;
            return client.shutdown().await;
        }
        let bytes = match &fault {
            Some(Fault::Replace(from, to)) => {
                held.extend_from_slice(&buffer[..read]);
                replace(&mut held, from, to)
            }
            _ => buffer[..read.min(left)].to_vec(),
        };
        client.write_all(&bytes).await?;
        left -= bytes.len().min(left);
        if left == 0 {
            return client.shutdown().await;
        }
    }
}

/// Takes from `held` what can be sent, with the text replaced. A beginning of the text at the end of `held` stays there.
fn replace(held: &mut Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "the length of the answer stays");
    let places: Vec<_> =
        held.windows(from.len()).enumerate().filter(|(_, part)| *part == from.as_bytes()).collect();
    let places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
    for place in places {
        held[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    let begun = (1..from.len()).rev().find(|length| held.ends_with(&from.as_bytes()[..*length]));
    let rest = held.split_off(held.len() - begun.unwrap_or(0));
    std::mem::replace(held, rest)
}
