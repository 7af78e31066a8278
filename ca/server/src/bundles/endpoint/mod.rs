//! The bundle endpoint: our trust bundle over HTTPS, for control planes of other trust domains (SPIFFE Federation §5).
//!
//! It answers GET on `/` and `/bundle.json` with the newest bundle, asks for no credentials and never redirects. A
//! connection carries one request and lives ten seconds at most.

mod certificate;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    crypto::ring,
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use time::OffsetDateTime;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

pub use self::certificate::{Certificate, CertificateError};
use super::OwnBundle;

/// Most connections at a time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Longest life of a connection, its handshake included.
const LIFE: Duration = Duration::from_secs(10);
/// Longest head of a request in bytes.
const MAX_HEAD: usize = 8 << 10;
/// Wait after accepting failed, for instance for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves `bundle` at `listener` for ever, showing `certificate`.
pub async fn serve(listener: TcpListener, certificate: Certificate, bundle: Arc<OwnBundle>) {
    let tls = TlsAcceptor::from(server_config(&certificate));
    let keeping = certificate.keep();
    let accepting = async {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = Arc::clone(&connections).acquire_owned().await;
            let Ok((stream, remote)) = listener.accept().await else {
                sleep(ACCEPT_RETRY).await;
                continue;
            };
            let (tls, bundle) = (tls.clone(), Arc::clone(&bundle));
            tokio::spawn(async move {
                match timeout(LIFE, answer(tls, stream, bundle)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%remote, %error, "bundle endpoint"),
                    Err(_) => tracing::debug!(%remote, "bundle endpoint: a slow client was cut off"),
                }
                drop(permit);
            });
        }
    };
    tokio::join!(keeping, accepting);
}

fn server_config(certificate: &Certificate) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(certificate.resolver());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}

async fn answer(tls: TlsAcceptor, stream: TcpStream, bundle: Arc<OwnBundle>) -> io::Result<()> {
    let stream = tls.accept(stream).await?;
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(&request, &bundle);
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(MAX_HEAD);
    http.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}

fn respond(request: &Request<Incoming>, bundle: &OwnBundle) -> Response<Full<Bytes>> {
    let short = |status, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    if !matches!(request.uri().path(), "/" | "/bundle.json") {
        return short(StatusCode::NOT_FOUND, "the trust bundle is at /bundle.json\n");
    }
    if request.method() != Method::GET {
        let mut response = short(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET"));
        return response;
    }
    let mut response = Response::new(Full::from(bundle.newest(OffsetDateTime::now_utc()).to_json()));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
