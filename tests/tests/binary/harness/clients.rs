//! Clients of the gRPC ports: connections and the certificate service.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use eastwest_proto::istio::v1::auth::{
    IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient,
};
use hyper_util::rt::TokioIo;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

use super::{Bench, PATIENCE, Server};

/// The name that istio's clients expect of a control plane.
const SERVER_NAME: &str = "istiod.istio-system.svc";

/// A private key and the chain that goes with it, PEM.
#[derive(Debug, Clone)]
pub(crate) struct Svid {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// A connection to a plaintext port.
pub(crate) fn plain(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// A connection to the TLS port, which must prove to be [`SERVER_NAME`] of the mesh whose root is `root`.
pub(crate) async fn tls(address: SocketAddr, root: &str, svid: Option<&Svid>) -> io::Result<Channel> {
    tls_to(SERVER_NAME, address, root, svid).await
}

/// The same, for a server of another name.
pub(crate) async fn tls_to(
    name: &'static str,
    address: SocketAddr,
    root: &str,
    svid: Option<&Svid>,
) -> io::Result<Channel> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(root));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let mut config = match svid {
        None => config.with_no_client_auth(),
        Some(svid) => {
            let key = PrivateKeyDer::from_pem_slice(svid.key.as_bytes()).unwrap();
            config.with_client_auth_cert(certificates(&svid.chain), key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name.try_into().unwrap(), stream).await?;
    let stream = Mutex::new(Some(TokioIo::new(stream)));
    let once = tower::service_fn(move |_| {
        let stream = stream.lock().unwrap().take();
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector(once).await.map_err(io::Error::other)
}

pub(crate) fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|one| one.unwrap()).collect()
}

/// A new key, and a certification request for it without names.
pub(crate) fn signing_request() -> (rcgen::KeyPair, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

/// `CreateCertificate` with a good request.
pub(crate) async fn certify(
    channel: Channel,
    token: Option<&str>,
    seconds: i64,
) -> Result<(Svid, Vec<String>), Status> {
    let (key, csr) = signing_request();
    let chain = create_certificate(channel, token, csr, seconds).await?;
    let svid = Svid { chain: chain[..chain.len() - 1].concat(), key: key.serialize_pem() };
    Ok((svid, chain))
}

pub(crate) async fn create_certificate(
    channel: Channel,
    token: Option<&str>,
    csr: String,
    seconds: i64,
) -> Result<Vec<String>, Status> {
    let request = IstioCertificateRequest { csr, validity_duration: seconds, metadata: None };
    let call = IstioCertificateServiceClient::new(channel);
    let answer = soon(async move {
        let mut call = call;
        call.create_certificate(bearing(request, token)).await
    });
    Ok(answer.await?.into_inner().cert_chain)
}

/// A request with a bearer token.
pub(crate) fn bearing<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

/// An SVID for a service account, requested as an agent does.
pub(crate) async fn svid(bench: &Bench, server: &Server, account: &str) -> Svid {
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    certify(channel, Some(&bench.token(account)), 0).await.unwrap().0
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened for 20 s")
}

/// The token with other claims, signed with the mesh's own key.
pub(crate) fn altered(bench: &Bench, token: &str, changes: &[(&str, Value)]) -> String {
    let [header, claims, _] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let mut claims: Value = serde_json::from_slice(&BASE64.decode(claims).unwrap()).unwrap();
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    let signed = format!("{header}.{}", BASE64.encode(claims.to_string()));
    let key = PrivatePkcs8KeyDer::from_pem_file(bench.state().join("token-key.pem")).unwrap();
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der(), &random);
    let signature = key.unwrap().sign(&random, signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64.encode(signature))
}
