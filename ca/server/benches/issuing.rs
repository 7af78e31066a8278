//! What a certificate costs the server: full requests over TLS on loopback, authenticated, with the ledger on disk.
//!
//! `cargo bench -p eastwest-ca-server --bench issuing`. Counted is the CPU time of the server's threads alone, so that
//! neither clients nor other load matter much; each row is also told as a multiple of the bare cryptography (verifying
//! the request's signature and making the certificate's), measured in the same run. Latencies are those that clients
//! see, on whatever cores are left.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]

#[path = "issuing/bare.rs"]
mod bare;
#[path = "../tests/wire/kubernetes_api.rs"]
mod kubernetes_api;
#[path = "issuing/review.rs"]
mod review;
#[allow(dead_code, reason = "tests use more of it")]
#[path = "../tests/wire/web.rs"]
mod web;

use std::{
    collections::HashMap,
    fs,
    hint::black_box,
    net::SocketAddr,
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use eastwest_ca::{Lifetimes, NewRoot, ServingNames, pem, rate_limit::Rate};
use eastwest_ca_server::{
    CertificateAuthority, CertificateAuthorityConfig, LedgerConfig, Limits, ProofConfig, StateDir,
    default_serving_names,
    operations::{self, IssuedKey},
    server_config,
};
use eastwest_identity::TrustDomain;
use eastwest_io::{Incoming, grpc_server};
use eastwest_proto::istio::v1::auth::{
    IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient,
};
use hyper_util::rt::TokioIo;
use nix::time::{ClockId, clock_gettime};
use ring::{
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, KeyPair as _},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring as provider};
use rustls_pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _};
use time::OffsetDateTime;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests in flight, on how many connections where they stay open.
const IN_FLIGHT: usize = 64;
const CONNECTIONS: usize = 16;
const IN_FLIGHT_NEW: usize = 64;
/// Names of the server's threads begin so; the kernel keeps 15 letters.
const SERVER_THREADS: [&str; 2] = ["server", "ca-"];

fn main() {
    // One line each, as in production, to nowhere.
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::sink).init();
    let scale: usize = std::env::var("ISSUING_REQUESTS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let bench = Bench::start(None);
    println!("{:<52}{:>9}{:>9}{:>8}{:>9}{:>9}", "", "per s", "CPU us", "floor", "p50 ms", "p99 ms");
    let floors = [("p256", floor(Key::P256)), ("rsa2048", floor(Key::Rsa))];
    for (key, floor) in &floors {
        println!(
            "{:<52}{:>9.0}{:>9.1}{:>8}",
            format!("floor: verify {key}, sign P-256"),
            1e6 / floor,
            floor,
            "1.0x"
        );
    }
    bench.bare(scale / 4, floors[0].1);
    for (key, floor) in floors {
        let rows: [Row; 3] = [
            ("client certificate", scale, |_, _| Proofs::Certificate),
            ("token seen before", scale, |bench, _| Proofs::Tokens(bench.tokens(IN_FLIGHT))),
            ("token first seen", scale, |bench, n| Proofs::Tokens(bench.tokens(n))),
        ];
        for (name, requests, proofs) in rows {
            bench.row(
                &format!("warm, {key}, {name}"),
                key,
                requests,
                floor,
                &proofs(&bench, requests),
                false,
            );
        }
        for (name, requests, proofs) in rows.into_iter().take(2) {
            let requests = requests / 4;
            let name = format!("new connection each, {key}, {name}");
            bench.row(&name, key, requests, floor, &proofs(&bench, requests), true);
        }
    }
    let floor = floors[0].1;
    for milliseconds in [0, 5, 50] {
        let bench = Bench::start(Some(Duration::from_millis(milliseconds)));
        for (name, requests, number) in
            [("seen before", scale, IN_FLIGHT), ("first seen", scale / 8, scale / 8)]
        {
            let tokens =
                (0..number).map(|n| format!("Bearer {}", review::token(n)).parse().unwrap()).collect();
            let name = format!("warm, p256, TokenReview {milliseconds} ms, {name}");
            bench.row(&name, "p256", requests, floor, &Proofs::Tokens(tokens), false);
        }
    }
}

/// How callers prove who they are, in how many requests, and what they show.
type Row = (&'static str, usize, fn(&Bench, usize) -> Proofs);

/// The kinds of key that clients have.
#[derive(Clone, Copy)]
enum Key {
    P256,
    Rsa,
}

/// Microseconds of bare cryptography: verifying one signature of a request, making one of a certificate.
fn floor(key: Key) -> f64 {
    let random = SystemRandom::new();
    let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let signer = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let message = [7; 400];
    let signed = signer.sign(&random, &message).unwrap();
    let public = signer.public_key().as_ref().to_vec();
    let request = eastwest_ca::VerifiedCsr::from_pem(&csr("rsa2048")).unwrap();
    let rounds = 2000;
    let begin = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    for _ in 0..rounds {
        match key {
            Key::P256 => {
                let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, &public);
                key.verify(&message, signed.as_ref()).unwrap();
            }
            // What a verification costs does not depend on its outcome.
            Key::Rsa => {
                let spki = request.key().spki();
                let algorithm = &signature::RSA_PKCS1_2048_8192_SHA256;
                let key = signature::UnparsedPublicKey::new(algorithm, &spki[24..]);
                black_box(key.verify(&message, &[1; 256]).is_err());
            }
        }
        black_box(signer.sign(&random, &message).unwrap());
    }
    let took = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap() - begin);
    took.as_secs_f64() * 1e6 / f64::from(rounds)
}

/// A request of the pure crate's collection.
fn csr(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/csr").join(format!("{name}.pem"));
    fs::read_to_string(path).unwrap()
}

/// What clients show.
enum Proofs {
    Certificate,
    Tokens(Vec<MetadataValue<Ascii>>),
}

/// A running CA, and clients for it.
struct Bench {
    dir: tempfile::TempDir,
    certificate_authority: Arc<CertificateAuthority>,
    issued: IssuedKey,
    address: SocketAddr,
    clients: Runtime,
    server: Runtime,
    _api: Option<review::Api>,
}

impl Bench {
    /// With an API for TokenReviews that takes so long for each, or without.
    fn start(review: Option<Duration>) -> Self {
        let clients = runtime("client");
        let api = review.map(|delay| clients.block_on(review::Api::start(delay)));
        let dir = tempfile::tempdir_in(std::env::var("ISSUING_DIR").unwrap_or("target".to_owned())).unwrap();
        let state = dir.path().join("state");
        let trust_domain = TrustDomain::parse("cluster.local").unwrap();
        let now = OffsetDateTime::now_utc();
        let keys =
            StateDir::open(&state).unwrap().load_or_create(&NewRoot::of(trust_domain.clone()), now).unwrap();
        let unlimited = Rate { per_second: NonZeroU32::MAX, burst: NonZeroU32::MAX };
        let config = CertificateAuthorityConfig {
            trust_domain,
            cluster_id: "Kubernetes".to_owned(),
            lifetimes: Lifetimes::default(),
            allowed_names: Default::default(),
            serving_names: ServingNames::Usual(default_serving_names("istio-system", &[])),
            serving_lifetime: Duration::from_secs(24 * 3600),
            proofs: ProofConfig {
                audiences: vec!["istio-ca".to_owned()],
                review: api.as_ref().map(|api| Arc::new(api.client()) as _),
                ..ProofConfig::default()
            },
            ledger: Some(LedgerConfig::of(&state)),
            limits: Limits { requests: unlimited, failures: unlimited, ..Limits::default() },
        };
        let certificate_authority = CertificateAuthority::new(config, keys, now).unwrap();
        let server = runtime("server");
        let service = Arc::clone(&certificate_authority);
        let address = server.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let incoming = Incoming::tls(listener, server_config(&service));
            tokio::spawn(grpc_server().add_service(service.service()).serve_with_incoming(incoming));
            address
        });
        let identity = "spiffe://cluster.local/ns/shop/sa/reviews".parse().unwrap();
        let issued =
            operations::issue(&state, (&identity, Vec::new()), None, Lifetimes::default(), now).unwrap();
        Self { dir, certificate_authority, issued, address, clients, server, _api: api }
    }

    fn tokens(&self, number: usize) -> Vec<MetadataValue<Ascii>> {
        let (state, now) = (self.dir.path().join("state"), OffsetDateTime::now_utc());
        let life = |n: usize| Duration::from_secs(3600 + n as u64);
        let token = |n: usize| {
            let account = format!("account-{}", n % IN_FLIGHT);
            operations::token(&state, "shop", &account, "istio-ca", life(n), now).unwrap()
        };
        (0..number).map(|n| format!("Bearer {}", token(n)).parse().unwrap()).collect()
    }

    fn tls(&self, proofs: &Proofs) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for root in pem::certificates(&self.certificate_authority.roots_pem()).unwrap() {
            roots.add(root).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match proofs {
            Proofs::Certificate => {
                let key = PrivateKeyDer::from_pem_slice(self.issued.private_key_pem.as_bytes()).unwrap();
                let chain = pem::certificates(&self.issued.certificate_chain_pem).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            Proofs::Tokens(_) => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// What a new connection costs without HTTP/2 and without us.
    fn bare(&self, connections: usize, floor: f64) {
        let name = "bare TLS connection, then the floor";
        if std::env::var("ISSUING_ONLY").is_ok_and(|only| !name.contains(&only)) {
            return;
        }
        let address = self.server.block_on(bare::serve(server_config(&self.certificate_authority)));
        let tls = self.tls(&Proofs::Tokens(Vec::new()));
        let before = server_cpu();
        self.clients.block_on(bare::connect(address, tls, connections, IN_FLIGHT_NEW));
        let cpu = (server_cpu() - before).as_secs_f64() * 1e6 / connections as f64 + floor;
        println!("{name:<52}{:>9.0}{cpu:>9.1}{:>8}", 1e6 / cpu, format!("{:.1}x", cpu / floor));
    }

    /// Asks for `requests` certificates and prints what each cost.
    fn row(&self, name: &str, key: &str, requests: usize, floor: f64, proofs: &Proofs, anew: bool) {
        if std::env::var("ISSUING_ONLY").is_ok_and(|only| !name.contains(&only)) {
            return;
        }
        let load = Load {
            address: self.address,
            tls: self.tls(proofs),
            request: IstioCertificateRequest { csr: csr(key), ..Default::default() },
            tokens: match proofs {
                Proofs::Certificate => Vec::new(),
                Proofs::Tokens(tokens) => tokens.clone(),
            },
            next: AtomicUsize::new(0),
            requests,
        };
        let before = server_cpu();
        let mut times = self.clients.block_on(Arc::new(load).run(anew));
        let cpu = (server_cpu() - before).as_secs_f64() * 1e6 / requests as f64;
        times.sort();
        let percentile = |n: usize| times[(times.len() - 1) * n / 100].as_secs_f64() * 1e3;
        println!(
            "{name:<52}{:>9.0}{cpu:>9.1}{:>8}{:>9.2}{:>9.2}",
            1e6 / cpu,
            format!("{:.1}x", cpu / floor),
            percentile(50),
            percentile(99)
        );
    }
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build().unwrap()
}

/// CPU time of the server's threads so far.
fn server_cpu() -> Duration {
    let mut nanoseconds: HashMap<String, u64> = HashMap::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let (Ok(name), Ok(times)) =
            (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        if SERVER_THREADS.iter().any(|prefix| name.starts_with(prefix)) {
            let time: u64 = times.split(' ').next().unwrap().parse().unwrap();
            *nanoseconds.entry(name.trim_end().to_owned()).or_default() += time;
        }
    }
    if std::env::var_os("ISSUING_THREADS").is_some() {
        println!("{nanoseconds:?}");
    }
    Duration::from_nanos(nanoseconds.into_values().sum())
}

/// Clients that ask again as soon as they are answered.
struct Load {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    request: IstioCertificateRequest,
    tokens: Vec<MetadataValue<Ascii>>,
    next: AtomicUsize,
    requests: usize,
}

impl Load {
    async fn run(self: Arc<Self>, anew: bool) -> Vec<Duration> {
        let mut clients = JoinSet::new();
        let mut open = Vec::new();
        for n in 0..if anew { IN_FLIGHT_NEW } else { IN_FLIGHT } {
            if !anew && n < CONNECTIONS {
                open.push(self.connect().await);
            }
            let channel = (!anew).then(|| open[n % CONNECTIONS].clone());
            clients.spawn(Arc::clone(&self).client(channel));
        }
        clients.join_all().await.concat()
    }

    /// One client: how long each of its requests took.
    async fn client(self: Arc<Self>, open: Option<Channel>) -> Vec<Duration> {
        let mut times = Vec::new();
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            if at >= self.requests {
                return times;
            }
            let begin = Instant::now();
            let channel = match &open {
                Some(channel) => channel.clone(),
                None => self.connect().await,
            };
            let mut request = Request::new(self.request.clone());
            if !self.tokens.is_empty() {
                let token = self.tokens[at % self.tokens.len()].clone();
                request.metadata_mut().insert("authorization", token);
            }
            let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await;
            assert_eq!(answer.unwrap().into_inner().cert_chain.len(), 2);
            times.push(begin.elapsed());
        }
    }

    async fn connect(&self) -> Channel {
        let (to, tls) = (self.address, TlsConnector::from(Arc::clone(&self.tls)));
        let connect = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(to).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("istiod.istio-system.svc").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
            }
        });
        Endpoint::from_static("http://ca").connect_with_connector(connect).await.unwrap()
    }
}
