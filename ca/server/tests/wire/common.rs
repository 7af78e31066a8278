//! A CA on loopback, and clients for it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eastwest_ca::{
    AllowedNames, Authorizer, Caller, CertificateSummary, Issuer as _, Lifetimes, NewRoot, PrivateKey, Proof,
    ServingNames, VerifiedCsr, chain, pem,
};
use eastwest_ca_server::{
    CertificateAuthority, CertificateAuthorityConfig, LedgerConfig, Limits, OwnBundle, ProofConfig, StateDir,
    bundles::{IdentityService, federation, publish},
    default_serving_names,
    operations::{self, IssuedKey},
    server_config,
};
use eastwest_identity::{SpiffeId, TrustDomain};
use eastwest_io::{Incoming, grpc_server};
use eastwest_proto::{
    eastwest::v1::{CreateJwtSvidRequest, workload_identity_client::WorkloadIdentityClient},
    istio::v1::auth::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_client::IstioCertificateServiceClient,
    },
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring, version};
use rustls_pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

pub(crate) const REVIEWS: &str = "spiffe://cluster.local/ns/shop/sa/reviews";
pub(crate) const CSR: &str = "p256";

/// A request of the pure crate's collection.
pub(crate) fn csr(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/csr").join(format!("{name}.pem"));
    std::fs::read_to_string(path).unwrap()
}

pub(crate) fn request() -> IstioCertificateRequest {
    IstioCertificateRequest { csr: csr(CSR), ..Default::default() }
}

pub(crate) fn summary(answer: &IstioCertificateResponse) -> CertificateSummary {
    CertificateSummary::of(&pem::certificates(&answer.cert_chain[0]).unwrap()[0]).unwrap()
}

/// The one identity in the answer's leaf.
pub(crate) fn identity(answer: &IstioCertificateResponse) -> String {
    let [name] = &summary(answer).names[..] else { panic!("one name: {answer:?}") };
    name.clone()
}

pub(crate) fn not_after(answer: &IstioCertificateResponse) -> OffsetDateTime {
    OffsetDateTime::parse(&summary(answer).not_after, &Rfc3339).unwrap()
}

/// A running CA with a TLS port and a plaintext port.
pub(crate) struct Ca {
    dir: tempfile::TempDir,
    pub(crate) certificate_authority: Arc<CertificateAuthority>,
    pub(crate) tls: SocketAddr,
    pub(crate) plaintext: SocketAddr,
    /// Ends with this value.
    tasks: tokio::task::JoinSet<()>,
}

impl Ca {
    /// Its metrics in the text format of Prometheus.
    pub(crate) fn metrics(&self) -> String {
        let registry = prometheus::Registry::new();
        self.certificate_authority.register_metrics(&registry).unwrap();
        prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    pub(crate) async fn start() -> Self {
        Self::start_with(ProofConfig::default()).await
    }

    /// Tokens are for `istio-ca`, whatever else is asked of proofs.
    pub(crate) async fn start_with(proofs: ProofConfig) -> Self {
        Self::start_within(Limits::default(), proofs).await
    }

    pub(crate) async fn start_within(limits: Limits, proofs: ProofConfig) -> Self {
        Self::start_all(limits, proofs, true, AllowedNames::default()).await
    }

    /// One that allows these names in certificates.
    pub(crate) async fn start_allowing(names: AllowedNames) -> Self {
        Self::start_all(Limits::default(), ProofConfig::default(), true, names).await
    }

    /// One whose ledger is not kept.
    pub(crate) async fn start_without_ledger() -> Self {
        Self::start_all(Limits::default(), ProofConfig::default(), false, AllowedNames::default()).await
    }

    async fn start_all(limits: Limits, proofs: ProofConfig, ledger: bool, names: AllowedNames) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let trust_domain = TrustDomain::parse("cluster.local").unwrap();
        let keys = StateDir::open(&state(&dir))
            .unwrap()
            .load_or_create(&NewRoot::of(trust_domain.clone()), now)
            .unwrap();
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let [tls, plaintext] = [0, 1].map(|i: usize| listeners[i].local_addr().unwrap());
        let config = CertificateAuthorityConfig {
            trust_domain,
            cluster_id: "Kubernetes".to_owned(),
            lifetimes: Lifetimes::default(),
            allowed_names: names,
            serving_names: ServingNames::Usual(default_serving_names("istio-system", &[tls.ip()])),
            serving_lifetime: Duration::from_secs(24 * 3600),
            proofs: ProofConfig { audiences: vec!["istio-ca".to_owned()], ..proofs },
            ledger: ledger.then(|| LedgerConfig::of(&state(&dir))),
            limits,
        };
        let certificate_authority = CertificateAuthority::new(config, keys, now).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(Arc::clone(&certificate_authority).follow_proofs());
        let own = OwnBundle::new(
            certificate_authority.clone(),
            StateDir::open(&state(&dir)).unwrap(),
            Duration::from_secs(300),
        );
        let own = Arc::new(own.unwrap());
        let (published, publishing) = publish(Arc::clone(&own), federation::nobody());
        tasks.spawn(publishing);
        let [tls_listener, plain_listener] = listeners;
        for incoming in [
            Incoming::tls(tls_listener, server_config(&certificate_authority)),
            Incoming::plain(plain_listener),
        ] {
            let identity = IdentityService::new(
                &certificate_authority,
                published.clone(),
                own.svid_key(),
                CancellationToken::new(),
            );
            let router =
                grpc_server().add_service(certificate_authority.service()).add_service(identity.server());
            tasks.spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });
        }
        Self { dir, certificate_authority, tls, plaintext, tasks }
    }

    /// The state directory.
    pub(crate) fn path(&self) -> PathBuf {
        state(&self.dir)
    }

    /// Ends it, which completes its ledger once the last connection has gone; the state directory is left.
    pub(crate) async fn stop(mut self) -> tempfile::TempDir {
        self.tasks.shutdown().await;
        self.dir
    }

    /// A good token.
    pub(crate) fn token(&self, namespace: &str, account: &str) -> String {
        let now = OffsetDateTime::now_utc();
        operations::token(&self.path(), namespace, account, "istio-ca", Duration::from_secs(60), now).unwrap()
    }

    /// A certificate made at some time.
    pub(crate) fn issue(&self, identity: &str, life: Duration, at: OffsetDateTime) -> IssuedKey {
        let identity = identity.parse().unwrap();
        operations::issue(&self.path(), (&identity, Vec::new()), Some(life), Lifetimes::default(), at)
            .unwrap()
    }

    /// A certificate of our root for an identity of whatever domain: what only a CA that was taken over signs.
    pub(crate) fn issue_foreign(&self, identity: &str) -> IssuedKey {
        let now = OffsetDateTime::now_utc();
        let material = StateDir::open_existing(&self.path()).unwrap().load(now).unwrap();
        let identity: SpiffeId = identity.parse().unwrap();
        let anybody = Authorizer::new(identity.trust_domain(), Lifetimes::default());
        let grant = anybody.authorize(&Caller::new(identity.clone(), Proof::Operator), 60).unwrap();
        let key = PrivateKey::generate().unwrap();
        let leaf = material.issuer.issue(&grant, &VerifiedCsr::of(&key).unwrap(), now).unwrap();
        IssuedKey {
            certificate_chain_pem: chain::elements(&leaf, &*material.issuer, &material.roots)[0].clone(),
            private_key_pem: key.to_pem(),
            roots_pem: material.roots.pem().to_owned(),
            serial: String::new(),
            not_after: now,
        }
    }

    pub(crate) fn client(&self) -> Connector {
        Connector { to: self.tls, roots: self.certificate_authority.roots_pem(), certificate: None }
    }
}

fn state(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("state")
}

/// TLS of a client.
pub(crate) fn client_config(
    roots_pem: &str,
    certificate: Option<(&str, &str)>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in pem::certificates(roots_pem).unwrap() {
        roots.add(root).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(pem::certificates(chain).unwrap(), key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// How a client connects.
pub(crate) struct Connector {
    to: SocketAddr,
    roots: String,
    certificate: Option<(String, String)>,
}

impl Connector {
    pub(crate) fn with(mut self, issued: &IssuedKey) -> Self {
        self.certificate = Some((issued.certificate_chain_pem.clone(), issued.private_key_pem.to_string()));
        self
    }

    pub(crate) async fn certificate(self, issued: &IssuedKey) -> Client {
        self.with(issued).anonymous().await
    }

    pub(crate) async fn token(self, token: &str) -> Client {
        self.headers(&[&format!("Bearer {token}")]).await
    }

    pub(crate) async fn anonymous(self) -> Client {
        self.headers(&[]).await
    }

    pub(crate) async fn headers(self, authorization: &[&str]) -> Client {
        let certificate = self.certificate.as_ref().map(|(chain, key)| (chain.as_str(), key.as_str()));
        let config = client_config(&self.roots, certificate, &[&version::TLS13]);
        let (to, tls) = (self.to, TlsConnector::from(Arc::new(config)));
        let connect = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(to).await?;
                let name = ServerName::try_from("istiod.istio-system.svc").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
            }
        });
        let channel = Endpoint::from_static("http://ca").connect_with_connector(connect).await.unwrap();
        Client::new(channel, authorization)
    }
}

/// A client of the CA.
#[derive(Clone)]
pub(crate) struct Client {
    inner: IstioCertificateServiceClient<Channel>,
    tokens: WorkloadIdentityClient<Channel>,
    authorization: Vec<String>,
    /// Further headers.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) clusters: Vec<&'static str>,
}

impl Client {
    fn new(channel: Channel, authorization: &[&str]) -> Self {
        let authorization = authorization.iter().map(|&value| value.to_owned()).collect();
        let tokens = WorkloadIdentityClient::new(channel.clone());
        let inner = IstioCertificateServiceClient::new(channel);
        Self { inner, tokens, authorization, headers: Vec::new(), clusters: Vec::new() }
    }

    pub(crate) async fn plaintext(to: SocketAddr, token: &str) -> Self {
        let channel = Endpoint::from_shared(format!("http://{to}")).unwrap().connect().await.unwrap();
        Self::new(channel, &[&format!("Bearer {token}")])
    }

    pub(crate) async fn create(
        &mut self,
        message: IstioCertificateRequest,
    ) -> Result<IstioCertificateResponse, Status> {
        Ok(self.inner.create_certificate(self.request(message)).await?.into_inner())
    }

    /// A JWT-SVID.
    pub(crate) async fn svid(&mut self, audience: &[&str]) -> Result<String, Status> {
        let audience = audience.iter().map(|&name| name.to_owned()).collect();
        let request = self.request(CreateJwtSvidRequest { audience });
        Ok(self.tokens.create_jwt_svid(request).await?.into_inner().svid)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for value in &self.authorization {
            request.metadata_mut().append("authorization", MetadataValue::try_from(value).unwrap());
        }
        for (name, value) in &self.headers {
            match name.strip_suffix("-bin") {
                Some(_) => drop(
                    request.metadata_mut().append_bin(*name, MetadataValue::from_bytes(value.as_bytes())),
                ),
                None => drop(request.metadata_mut().append(*name, value.parse().unwrap())),
            }
        }
        for cluster in &self.clusters {
            request.metadata_mut().append("clusterid", MetadataValue::from_static(cluster));
        }
        request
    }
}
