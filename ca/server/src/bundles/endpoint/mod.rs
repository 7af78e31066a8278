//! The bundle endpoint: our trust bundle over HTTPS, for control planes of other trust domains (SPIFFE Federation §5).
//!
//! It answers GET on `/` and `/bundle.json` with the newest bundle, asks for no credentials and never redirects. A
//! connection carries one request and lives ten seconds at most.

mod certificate;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use eastwest_io::{AcceptLimits, accept::accept, tls};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, server::NoServerSessionStorage};
use time::OffsetDateTime;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

pub use self::certificate::{Certificate, CertificateError};
use super::OwnBundle;

/// Limits of connections.
const LIMITS: AcceptLimits = AcceptLimits { total: 256, per_peer: 256 };
/// Longest life of a connection, its handshake included.
const LIFE: Duration = Duration::from_secs(10);
/// Longest head of a request in bytes.
const MAX_HEAD: usize = 8 << 10;

/// Serves `bundle` at `listener` for ever, with `certificate`.
pub async fn serve(listener: TcpListener, certificate: Certificate, bundle: Arc<OwnBundle>) {
    let tls = TlsAcceptor::from(server_config(&certificate));
    let answer_in_time = |stream, remote| {
        let answer = timeout(LIFE, answer(tls.clone(), stream, Arc::clone(&bundle)));
        async move {
            match answer.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%remote, %error, "bundle endpoint"),
                Err(_) => tracing::debug!(%remote, "bundle endpoint: a slow client was cut off"),
            }
        }
    };
    tokio::join!(certificate.keep(), accept(listener, LIMITS, answer_in_time));
}

fn server_config(certificate: &Certificate) -> Arc<ServerConfig> {
    let mut config = tls::server_builder().with_no_client_auth().with_cert_resolver(certificate.resolver());
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
