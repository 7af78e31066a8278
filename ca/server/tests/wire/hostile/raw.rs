//! A client without manners: any headers and any bytes over HTTP/2.

use std::{io, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};
use rustls::{ClientConfig, version::TLS13};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    super::common::{Ca, client_config},
    PATIENCE,
};

/// Path of the one method.
pub(super) const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// TLS as an ordinary client has it.
pub(super) fn tls_config(ca: &Ca) -> ClientConfig {
    client_config(&ca.certificate_authority.roots_pem(), None, &[&TLS13])
}

/// A TLS connection with this configuration.
pub(super) async fn tls(ca: &Ca, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(ca.tls).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// One call, whatever it is.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Call {
    /// As gRPC wants it, with a token.
    pub(super) fn good(token: &str, body: Vec<u8>) -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let headers = vec![
            header("content-type", "application/grpc"),
            header("te", "trailers"),
            header("authorization", &format!("Bearer {token}")),
        ];
        Self { method: Method::POST, path: CREATE.to_owned(), headers, body }
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(super) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }
}

/// A message with its prefix: compressed or not, length.
pub(super) fn framed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(flag);
    bytes.put_u32(length);
    bytes.put_slice(message);
    bytes.to_vec()
}

/// A message as gRPC wants it.
pub(super) fn message(bytes: &[u8]) -> Vec<u8> {
    framed(0, u32::try_from(bytes.len()).unwrap(), bytes)
}

/// A connection.
pub(super) struct Raw(pub(super) SendRequest<Bytes>);

impl Raw {
    pub(super) async fn connect(ca: &Ca) -> Self {
        let stream = tls(ca, tls_config(ca)).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// The answer in words: `grpc CODE`, `http STATUS`, or how the stream ended.
    pub(super) async fn call(&mut self, call: Call) -> String {
        match tokio::time::timeout(PATIENCE, self.send(call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => match error.reason() {
                Some(reason) => format!("reset {reason:?}"),
                None => format!("broken: {error}"),
            },
            Err(_) => "no answer".to_owned(),
        }
    }

    async fn send(&mut self, call: Call) -> Result<String, h2::Error> {
        let mut request =
            Request::builder().method(call.method).uri(format!("https://localhost{}", call.path));
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        self.0.clone().ready().await?;
        let (response, mut body) = self.0.send_request(request.body(()).unwrap(), call.body.is_empty())?;
        if !call.body.is_empty() {
            body.send_data(call.body.into(), true)?;
        }
        let response = response.await?;
        let status = response.status();
        let of = |headers: &HeaderMap| {
            let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
            Some(format!("grpc {:?}", tonic::Code::from_i32(code)))
        };
        if let Some(code) = of(response.headers()) {
            return Ok(code);
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        let trailers = body.trailers().await?;
        Ok(trailers.as_ref().and_then(of).unwrap_or_else(|| format!("http {}", status.as_u16())))
    }
}
