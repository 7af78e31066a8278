//! Asking a running control plane over HTTP.

use std::{io, time::Duration};

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::{names::TargetName, query::Question, request};

/// Longest time for a response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What to do where a server cannot be reached.
const SERVED: &str =
    "is `eastwest serve` or `eastwest ca serve` running? Name its HTTP address with --server";
/// The same where something else could be asked.
const ASKED: &str = "is `eastwest serve` running? Name its HTTP address with --server, ask a directory with --config-dir, or a \
                     cluster with --kubeconfig";
/// Largest response, in bytes.
const LIMIT: usize = 256 << 20;

impl Question {
    /// The debug page that answers it.
    fn path(&self) -> String {
        match self {
            Self::Tls(workload) => format!("/debug/tls?workload={}", encode(workload)),
            Self::Explain { client, target: TargetName { host, port } } => {
                format!("/debug/explain?client={}&host={}&port={port}", encode(client), encode(host))
            }
            Self::Route { client, request } => {
                let headers: Vec<_> =
                    request.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let mut path = format!(
                    "/debug/route?client={}&url={}&method={}",
                    encode(client),
                    encode(&request::url(request)),
                    encode(&request.method)
                );
                if let Some(authority) = &request.authority {
                    path += &format!("&host={}", encode(authority));
                }
                if !headers.is_empty() {
                    path += &format!("&headers={}", encode(&headers.join("\n")));
                }
                path
            }
            Self::Can(_) => "/debug/can".to_owned(),
            Self::Check => "/debug/check".to_owned(),
            Self::Render { workload, types, internal_listeners } => {
                let types: Vec<_> = types.iter().map(ToString::to_string).collect();
                let (workload, types) = (encode(workload), types.join(","));
                format!(
                    "/debug/config_dump?workload={workload}&types={types}&internal_listeners={internal_listeners}"
                )
            }
            Self::Config { workload, types, internal_listeners, diff } => {
                let types: Vec<_> = types.iter().map(ToString::to_string).collect();
                let (workload, types) = (encode(workload), types.join(","));
                format!(
                    "/debug/proxy_config?workload={workload}&types={types}&internal_listeners={internal_listeners}&diff={diff}"
                )
            }
        }
    }
}

impl Question {
    /// What is sent along: a question with a token stays out of the path, which may be logged.
    fn body(&self) -> Option<Bytes> {
        match self {
            Self::Can(question) => serde_json::to_vec(question).ok().map(Bytes::from),
            _ => None,
        }
    }
}

fn encode(text: &impl ToString) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~*:/".contains(&b);
    let text = text.to_string();
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A server that cannot be reached.
#[derive(Debug, Error)]
#[error("cannot reach {server}: {source}; {remedy}")]
pub(crate) struct Unreachable {
    server: String,
    source: io::Error,
    remedy: &'static str,
}

impl Unreachable {
    fn new(server: &str, source: io::Error, remedy: &'static str) -> Self {
        Self { server: server.to_owned(), source, remedy }
    }

    /// Why, without a word on what to do.
    pub(crate) fn cause(&self) -> &io::Error {
        &self.source
    }
}

/// Asks the control plane whose HTTP address is `server`.
///
/// # Errors
/// The address cannot be reached, or the server answers another status than 200.
pub(crate) async fn ask(server: &str, question: &Question) -> anyhow::Result<Value> {
    let path = question.path();
    let body = fetch_or(server, &path, question.body(), ASKED).await?;
    serde_json::from_slice(&body).with_context(|| format!("{server}{path} is not an eastwest control plane"))
}

/// The page `path` of the control plane whose HTTP address is `server`.
///
/// # Errors
/// The address cannot be reached, or the server answers another status than 200.
pub(crate) async fn fetch(server: &str, path: &str) -> anyhow::Result<Bytes> {
    fetch_or(server, path, None, SERVED).await
}

async fn fetch_or(
    server: &str,
    path: &str,
    body: Option<Bytes>,
    remedy: &'static str,
) -> anyhow::Result<Bytes> {
    let late =
        |_| Unreachable::new(server, io::Error::other(format!("no answer within {TIMEOUT:?}")), remedy);
    let answer = tokio::time::timeout(TIMEOUT, send(server, path, body, remedy));
    let (status, body) = answer.await.map_err(late)??;
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&body);
        bail!("{} (from {server})", text.trim());
    }
    Ok(body)
}

/// Whether the server whose HTTP address is `server` is ready, and if not, what it says.
///
/// # Errors
/// An address that cannot be reached, or that is none.
pub(crate) async fn ready(server: &str) -> anyhow::Result<Result<(), String>> {
    let (status, body) = send(server, "/readyz", None, SERVED).await?;
    Ok(match status {
        StatusCode::OK => Ok(()),
        status => Err(format!("{status}: {}", String::from_utf8_lossy(&body).trim())),
    })
}

/// Gets a page, or posts `body` to it.
async fn send(
    server: &str,
    path: &str,
    body: Option<Bytes>,
    remedy: &'static str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let uri: Uri = server
        .parse()
        .with_context(|| format!("--server: {server:?} is not a URL: write http://HOST:PORT"))?;
    let authority = uri
        .authority()
        .ok_or_else(|| anyhow!("--server: {server:?} is not a URL: write http://HOST:PORT"))?;
    if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
        bail!("--server: only http:// is spoken, not {server:?}");
    }
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(15014));
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|source| Unreachable::new(server, source, remedy))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let request = Request::builder().method(method).uri(path).header("host", authority.as_str());
    let request = request.body(Full::new(body.unwrap_or_default()))?;
    let response =
        sender.send_request(request).await.with_context(|| format!("{server} does not speak HTTP"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|error| anyhow!(error))?;
    Ok((status, body.to_bytes()))
}
