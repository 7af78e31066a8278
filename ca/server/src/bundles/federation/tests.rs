//! Endpoints and relationships on loopback (CA.md S36, S45 to S48 and S65).

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use eastwest_ca::{
    Authorizer, Caller, Issuer as _, Lifetimes, NewRoot, PrivateKey, Proof, ServingNames, VerifiedCsr, chain,
    peer, pem,
};
use eastwest_identity::SpiffeId;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{
    CertificateAuthority, CertificateAuthorityConfig, LedgerConfig, Limits, OwnBundle, ProofConfig, StateDir,
    bundles::endpoint::{self, Certificate},
};

const LIMIT: Duration = Duration::from_secs(20);

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A trust domain with its CA and its state.
struct Domain {
    name: TrustDomain,
    dir: tempfile::TempDir,
    ca: Arc<CertificateAuthority>,
    own: Arc<OwnBundle>,
}

impl Domain {
    fn new(name: &str) -> Self {
        let (name, dir) = (domain(name), tempfile::tempdir().unwrap());
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let keys = state.load_or_create(&NewRoot::of(name.clone()), now()).unwrap();
        let config = CertificateAuthorityConfig {
            trust_domain: name.clone(),
            cluster_id: "Kubernetes".to_owned(),
            lifetimes: Lifetimes::default(),
            allowed_names: Default::default(),
            serving_names: ServingNames::Usual(vec!["localhost".parse().unwrap()]),
            serving_lifetime: LIMIT,
            proofs: ProofConfig::default(),
            ledger: Some(LedgerConfig::of(&dir.path().join("state"))),
            limits: Limits::default(),
        };
        let ca = CertificateAuthority::new(config, keys, now()).unwrap();
        let own = Arc::new(OwnBundle::new(ca.clone(), state, Duration::from_secs(7)).unwrap());
        Self { name, dir, ca, own }
    }

    fn id(&self) -> SpiffeId {
        SpiffeId::workload(&self.name, "istio-system", "eastwest").unwrap()
    }

    fn bundle(&self) -> SpiffeBundle {
        self.own.newest(now())
    }

    /// A leaf for `identity`, of whatever domain, below this domain's root: what only a CA that was taken over signs.
    fn leaf(&self, identity: &SpiffeId) -> CertificateDer<'static> {
        let material = StateDir::open_existing(&self.dir.path().join("state")).unwrap().load(now()).unwrap();
        let anybody = Authorizer::new(identity.trust_domain(), Lifetimes::default());
        let grant = anybody.authorize(&Caller::new(identity.clone(), Proof::Operator), 0).unwrap();
        let csr = VerifiedCsr::of(&PrivateKey::generate().unwrap()).unwrap();
        let leaf = material.issuer.issue(&grant, &csr, now()).unwrap();
        let chain = chain::elements(&leaf, &*material.issuer, &material.roots);
        pem::certificates(&chain[0]).unwrap().remove(0)
    }

    /// Serves the bundle with an X509-SVID.
    async fn serve(&self) -> (SocketAddr, JoinHandle<()>) {
        self.serve_with(Certificate::of_ca(self.ca.clone(), "istio-system").unwrap()).await
    }

    async fn serve_with(&self, certificate: Certificate) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, tokio::spawn(endpoint::serve(listener, certificate, self.own.clone())))
    }
}

fn url(address: SocketAddr, path: &str) -> EndpointUrl {
    format!("https://{address}{path}").parse().unwrap()
}

async fn fetch(url: &EndpointUrl, profile: &Profile, known: &Foreign) -> Result<SpiffeBundle, FetchError> {
    timeout(LIMIT, client::fetch(url, profile, known)).await.expect("in time")
}

#[test]
fn endpoints_are_https_without_user_information() {
    for (text, problem) in [
        ("http://b.example/bundle", "https://"),
        ("ftp://b.example/bundle", "https://"),
        ("b.example/bundle", "https://"),
        ("https://user@b.example/bundle", "user information"),
        ("https://user:password@b.example", "user information"),
        ("https://@b.example", "user information"),
        ("https:///bundle", "https://HOST"),
        ("https://b example/", "https://HOST"),
    ] {
        let error = text.parse::<EndpointUrl>().expect_err(text).to_string();
        assert!(error.contains(problem), "{text}: {error}");
        let named = format!("b.example={text}").parse::<Relationship>();
        assert!(!text.contains("://") || named.is_err(), "{text}");
    }
    let good: EndpointUrl = "https://[::1]:8443/a/b?c=d".parse().unwrap();
    assert_eq!(good.to_string(), "https://[::1]:8443/a/b?c=d");
}

#[test]
fn relationships_are_read_and_mistakes_named() {
    let read = |text: &str| text.parse::<Relationship>();
    let file = read("b.example=/etc/b.json").unwrap();
    assert_eq!(file.source, Source::File(domain("b.example"), "/etc/b.json".into()));
    assert_eq!(read("/etc/all.json").unwrap().source, Source::Map("/etc/all.json".into()));
    let web = read("b.example=https://b.example/x,ca=/ca.pem").unwrap();
    let Source::Endpoint { profile, .. } = web.source else { panic!("{web:?}") };
    assert_eq!(profile, Profile::Web { roots: Some("/ca.pem".into()) });
    let spiffe = read("b.example=https://b.example/x,id=spiffe://b.example/server,bundle=/b.json").unwrap();
    assert_eq!(spiffe.bootstrap, Some(PathBuf::from("/b.json")));
    let Source::Endpoint { profile, .. } = spiffe.source else { panic!("{:?}", spiffe.source) };
    assert_eq!(profile, Profile::Spiffe(SpiffeId::parse("spiffe://b.example/server").unwrap()));
    for (text, problem) in [
        ("", "neither"),
        ("b.example=", "neither"),
        ("B.example=/b.json", "trust domain"),
        ("b.example=https://b/x,id=b", "id=b"),
        ("b.example=https://b/x,bundle=/b.json", "id="),
        ("b.example=https://b/x,id=spiffe://b/s,ca=/ca.pem", "ca="),
        ("b.example=https://b/x,mode=lax", "mode=lax"),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[tokio::test]
async fn anybody_gets_the_newest_bundle() {
    let b = Domain::new("b.example");
    let (address, _serving) = b.serve().await;
    let known = Foreign::from([(b.name.clone(), b.bundle())]);
    let profile = Profile::Spiffe(b.id());
    for path in ["", "/", "/bundle.json", "/bundle.json?x=y"] {
        let bundle = fetch(&url(address, path), &profile, &known).await.unwrap();
        assert_eq!(bundle, b.bundle(), "{path}");
        assert_eq!(bundle.refresh_hint(), Some(Duration::from_secs(7)));
    }
    let missing = fetch(&url(address, "/other"), &profile, &known).await.unwrap_err();
    assert!(matches!(missing, FetchError::Status(status) if status == 404), "{missing}");

    let first = b.bundle().sequence();
    b.ca.set_trust_domain(&domain("b2.example"));
    assert_eq!(fetch(&url(address, "/"), &profile, &known).await.unwrap().sequence(), first, "same content");

    let get = talk(address, &b, "GET / HTTP/1.1\r\nhost: b\r\n\r\n").await;
    assert!(get.starts_with("HTTP/1.1 200 ") && get.contains("content-type: application/json\r\n"), "{get}");
    let post = talk(address, &b, "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 0\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET"), "{post}");
    let nonsense = talk(address, &b, "no HTTP at all\r\n\r\n").await;
    assert!(!nonsense.contains(" 200 "), "{nonsense}");
    let long = talk(address, &b, &format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "b".repeat(20 << 10))).await;
    assert!(!long.contains(" 200 "), "{long}");
    assert_eq!(fetch(&url(address, "/"), &profile, &known).await.unwrap(), b.bundle(), "and it still serves");
}

/// What the endpoint of `b` answers to these bytes, until it closes.
async fn talk(address: SocketAddr, b: &Domain, bytes: &str) -> String {
    let tls = verifier::spiffe(b.id(), b.bundle().roots().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "b".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("it closes"); // perhaps rudely
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn another_server_than_the_one_named_is_refused() {
    let (b, c) = (Domain::new("b.example"), Domain::new("c.example"));
    let (address, _serving) = b.serve().await;
    let known = |of: &Domain| Foreign::from([(b.name.clone(), of.bundle())]);
    for (id, known) in [
        ("spiffe://b.example/ns/istio-system/sa/other", known(&b)),
        ("spiffe://b.example/ns/istio-system/sa/eastwest", known(&c)),
    ] {
        let profile = Profile::Spiffe(SpiffeId::parse(id).unwrap());
        let error = fetch(&url(address, "/"), &profile, &known).await.unwrap_err();
        assert!(matches!(error, FetchError::Https(_)), "{error}");
    }
    let unknown = fetch(&url(address, "/"), &Profile::Spiffe(c.id()), &known(&b)).await.unwrap_err();
    assert!(unknown.to_string().contains("c.example"), "{unknown}");

    // https_web: the certificate is for localhost, and only those who trust its CA take it.
    let (certificate, key, ca) = web_certificate(b.dir.path());
    let (address, _serving) = b.serve_with(Certificate::of_files(certificate, key).unwrap()).await;
    let named = |host: &str| format!("https://{host}:{}/", address.port()).parse::<EndpointUrl>().unwrap();
    let web = Profile::Web { roots: Some(ca) };
    assert_eq!(fetch(&named("localhost"), &web, &Foreign::new()).await.unwrap(), b.bundle());
    assert!(fetch(&named("127.0.0.1"), &web, &Foreign::new()).await.is_err());
    let other = b.dir.path().join("state/root-cert.pem");
    let other = Profile::Web { roots: Some(other) };
    assert!(fetch(&named("localhost"), &other, &Foreign::new()).await.is_err());
}

/// Files with a certificate for localhost, its key and the CA's certificate.
fn web_certificate(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    (write("web.pem", leaf.pem()), write("web-key.pem", key.serialize_pem()), write("web-ca.pem", ca_pem))
}

/// A web server for localhost that answers `answers` one after the other.
async fn web_server(dir: &Path, answers: Vec<String>) -> (u16, Profile) {
    let (certificate, key, ca) = web_certificate(dir);
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let (listener, tls) =
        (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), TlsAcceptor::from(Arc::new(config)));
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tls.accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(answer.replace("PORT", &port.to_string()).as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (port, Profile::Web { roots: Some(ca) })
}

fn redirect(target: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n")
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn redirects_are_followed_to_https_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let empty = r#"{"keys": []}"#;
    let fetch_from = async |answers: Vec<String>| {
        let (port, profile) = web_server(dir.path(), answers).await;
        fetch(&format!("https://localhost:{port}/").parse().unwrap(), &profile, &Foreign::new()).await
    };
    let followed = fetch_from(vec![redirect("https://localhost:PORT/moved"), ok(empty)]).await.unwrap();
    assert!(followed.certificates().is_empty());
    for target in
        ["http://localhost:PORT/", "https://user@localhost:PORT/", "/elsewhere", "file:///etc/passwd"]
    {
        let error = fetch_from(vec![redirect(target), ok(empty)]).await.unwrap_err();
        assert!(matches!(error, FetchError::Redirect(_)), "{target}: {error}");
    }
    let circle = (0..10).map(|_| redirect("https://localhost:PORT/")).collect();
    assert!(matches!(fetch_from(circle).await, Err(FetchError::Circle)));
    for answer in [ok("[]"), ok("not JSON"), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_owned()] {
        assert!(fetch_from(vec![answer.clone()]).await.is_err(), "{answer}");
    }
    let latin = fetch_from(vec![ok("{\"keys\": [], \"x\": \"\u{fc}\"}")]).await;
    assert!(latin.is_ok(), "UTF-8 it is");
}

/// A store that keeps its bundles below `dir`.
fn store(dir: &Path, domains: &[&str]) -> Store {
    let domains = domains.iter().map(|name| (domain(name), None)).collect();
    Store::open(Some(dir.join("federated")), domains)
}

#[test]
fn the_last_good_bundle_stays_until_a_newer_one_comes() {
    let (b, dir) = (Domain::new("b.example"), tempfile::tempdir().unwrap());
    let (first, second) = (b.bundle().numbered(7), Domain::new("b.example").bundle().numbered(8));
    let kept = store(dir.path(), &["b.example"]);
    let held = |store: &Store| store.bundles().get(&b.name).cloned();
    kept.offer(&b.name, first.clone());
    assert_eq!(held(&kept), Some(first.clone()));
    kept.offer(&b.name, second.clone());
    kept.offer(&b.name, first.clone());
    assert_eq!(held(&kept), Some(second.clone()), "a lower number is an old copy");
    drop(kept);
    let again = store(dir.path(), &["b.example", "c.example"]);
    assert_eq!(again.bundles().len(), 1);
    assert_eq!(held(&again), Some(second.clone()), "kept over the restart");
    again.offer(&b.name, first.clone());
    assert_eq!(held(&again), Some(second), "the number too");
    again.offer(&b.name, SpiffeBundle::from_json(r#"{"keys": []}"#).unwrap());
    assert!(held(&again).unwrap().roots().is_none(), "no keys: the whole domain is distrusted");
    let bare = store(dir.path(), &[]);
    assert!(bare.bundles().is_empty(), "a relationship that ended leaves nothing");
}

#[tokio::test(start_paused = true)]
async fn files_are_followed_each_domain_for_itself() {
    let (b, c, dir) = (Domain::new("b.example"), Domain::new("c.example"), tempfile::tempdir().unwrap());
    let path = dir.path().join("map.json");
    let map = |of: &[&Domain]| {
        let bundles = of.iter().map(|one| (one.name.clone(), one.bundle())).collect();
        fs::write(&path, spiffe_bundle::map_to_json(&bundles)).unwrap();
    };
    map(&[&b, &c]);
    let pem = dir.path().join("d.pem");
    let d = Domain::new("d.example");
    fs::write(&pem, d.bundle().pem()).unwrap();
    let store = Arc::new(store(dir.path(), &[]));
    let mut seen = store.subscribe();
    let named = [path.display().to_string(), format!("d.example={}", pem.display())];
    let relationships = named.map(|text| text.parse::<Relationship>().unwrap());
    tokio::spawn(follow(relationships.to_vec(), store.clone()));
    let until = async |seen: &mut watch::Receiver<Arc<Foreign>>, names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| domain(name)).collect();
        let wanted = |foreign: &Arc<Foreign>| foreign.keys().cloned().collect::<Vec<_>>() == names;
        timeout(LIMIT, seen.wait_for(wanted)).await.expect("in time").unwrap().clone()
    };
    let all = until(&mut seen, &["b.example", "c.example", "d.example"]).await;
    for one in [&b, &c, &d] {
        assert_eq!(all[&one.name].certificates(), one.bundle().certificates(), "{} alone", one.name);
    }
    fs::write(&path, "damaged").unwrap();
    tokio::time::sleep(3 * FILE_POLL).await;
    assert_eq!(store.bundles().len(), 3, "the last good content stays");
    map(&[&c]);
    until(&mut seen, &["c.example", "d.example"]).await;
}

#[test]
fn an_identity_of_one_domain_below_the_roots_of_another_is_refused() {
    let (a, b) = (Domain::new("a.example"), Domain::new("b.example"));
    let stolen = SpiffeId::workload(&b.name, "shop", "reviews").unwrap();
    let forged = [a.leaf(&stolen)];
    let roots = |of: &Domain| of.bundle().roots().unwrap();
    assert!(peer::identify(&forged, &roots(&a), &a.name, now()).is_err(), "our CA: another domain's name");
    assert!(
        peer::identify(&forged, &roots(&b), &b.name, now()).is_err(),
        "by the bundle of the name: forged"
    );
    assert!(peer::verify_server(&forged, &roots(&b), &stolen, now()).is_err());

    // And a good one of B proves nothing to the CA of A, whatever A's workloads have been told about B.
    let good = [b.leaf(&stolen)];
    assert!(peer::verify_server(&good, &roots(&b), &stolen, now()).is_ok());
    assert!(peer::identify(&good, &roots(&a), &a.name, now()).is_err());
}

#[test]
fn hints_are_obeyed_within_bounds() {
    let hinted =
        |seconds| pause(Some(&SpiffeBundle::default().refreshed_every(Duration::from_secs(seconds))));
    assert_eq!([hinted(0), hinted(60), hinted(u64::MAX)], [5, 60, 86_400].map(Duration::from_secs));
    assert_eq!(pause(Some(&SpiffeBundle::default())), Duration::from_secs(300));
    assert_eq!(pause(None), FIRST_RETRY);
}
