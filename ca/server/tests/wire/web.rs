//! A small HTTPS server with pages that tests change while it runs.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// On the how-manieth connection.
    pub(crate) connection: usize,
    pub(crate) path: String,
    pub(crate) headers: String,
    pub(crate) body: String,
}

type Answer = dyn Fn(&Asked) -> (u16, String) + Send + Sync;

/// What the server does.
pub(crate) struct Pages {
    answer: Box<Answer>,
    /// How long every answer takes.
    pub(crate) delay: Duration,
    /// Whether connections end after an answer, without a word.
    pub(crate) hangs_up: bool,
    pub(crate) asked: Vec<Asked>,
}

/// A running server.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    dir: tempfile::TempDir,
    pages: Arc<Mutex<Pages>>,
    _serving: JoinSet<()>,
}

impl Web {
    /// A server of `localhost` with a certificate of its own, or without TLS.
    pub(crate) async fn start(tls: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("ca.pem"), certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let acceptor = tls.then(|| TlsAcceptor::from(Arc::new(config)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Arc::new(Mutex::new(Pages {
            answer: Box::new(|_| (404, String::new())),
            delay: Duration::ZERO,
            hangs_up: false,
            asked: Vec::new(),
        }));
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, acceptor, Arc::clone(&pages)));
        Self { address, dir, pages, _serving: serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// The file with its certificate.
    pub(crate) fn roots(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers like this from now on.
    pub(crate) fn answer(&self, answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) {
        self.pages().answer = Box::new(answer);
    }

    /// Has these pages and no others.
    pub(crate) fn serve(&self, pages: impl IntoIterator<Item = (&'static str, String)>) {
        let pages: BTreeMap<_, _> = pages.into_iter().collect();
        self.answer(move |asked| match pages.get(asked.path.as_str()) {
            Some(text) => (200, text.clone()),
            None => (404, String::new()),
        });
    }

    pub(crate) fn count(&self) -> usize {
        self.pages().asked.len()
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, pages: Arc<Mutex<Pages>>) {
    let mut connections = JoinSet::new();
    for number in 1.. {
        let Ok((stream, _)) = listener.accept().await else { return };
        connections.spawn(connection(number, stream, tls.clone(), Arc::clone(&pages)));
    }
}

async fn connection(number: usize, stream: TcpStream, tls: Option<TlsAcceptor>, pages: Arc<Mutex<Pages>>) {
    match tls {
        Some(tls) => {
            if let Ok(mut stream) = tls.accept(stream).await {
                while talk(number, &mut stream, &pages).await.is_some() {}
            }
        }
        None => {
            let mut stream = stream;
            while talk(number, &mut stream, &pages).await.is_some() {}
        }
    }
}

/// One request and its answer; `None` if the connection is over.
async fn talk(
    connection: usize,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    pages: &Mutex<Pages>,
) -> Option<()> {
    let (headers, body) = request(stream).await?;
    let path = headers.split(' ').nth(1).unwrap_or_default().to_owned();
    let asked = Asked { connection, path, headers, body };
    let (status, answer, delay, hangs_up) = {
        let mut pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.asked.push(asked.clone());
        let (status, answer) = (pages.answer)(&asked);
        (status, answer, pages.delay, pages.hangs_up)
    };
    tokio::time::sleep(delay).await;
    let location =
        if (300..400).contains(&status) { format!("location: {answer}\r\n") } else { String::new() };
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{location}content-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    (!hangs_up).then_some(())
}

/// Headers and body of a request.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, String)> {
    let mut text = Vec::new();
    let (head, length) = loop {
        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
            return None;
        }
        let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&text[..end]).into_owned();
        let lower = head.to_lowercase();
        let length = lower
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap_or_default().parse().unwrap_or(0));
        break (head, end + 4 + length);
    };
    while text.len() < length {
        if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let body = String::from_utf8_lossy(&text[head.len() + 4..]).into_owned();
    Some((head, body))
}
