//! Probes of the application. The kubelet's own would come in as plaintext from outside, which a STRICT policy refuses;
//! so the injector points them at a port of the agent, and the agent probes the application.
//!
//! The agent's connections are bound to the address from which Envoy dials the application, so that the redirection
//! leaves them alone (ENVOY.md E1 and E2).

mod probes;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri, header},
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

pub(crate) use self::probes::{AppProbes, parse};
use self::probes::{Probe, Request};

/// Where redirects of the application end, as with the kubelet.
const MAX_REDIRECTS: usize = 10;

/// The probes, and the address of the pod.
#[derive(Clone)]
pub(crate) struct AppHealth {
    pub(crate) probes: Arc<AppProbes>,
    pub(crate) address: IpAddr,
}

/// The routes of the port for probes: the paths of the probes, and no others.
pub(crate) fn routes(health: AppHealth) -> Router {
    Router::new().fallback(answer).with_state(health)
}

async fn answer(State(health): State<AppHealth>, uri: Uri) -> (StatusCode, String) {
    let Some(probe) = health.probes.get(uri.path()) else {
        return (StatusCode::NOT_FOUND, format!("no probe at {}\n", uri.path()));
    };
    match tokio::time::timeout(probe.timeout, health.ask(probe)).await {
        Ok(Ok(status)) => (status, format!("the application: {status}\n")),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("port {}: {error}\n", probe.port)),
        Err(_) => {
            let said = format!("port {}: no answer within {:?}\n", probe.port, probe.timeout);
            (StatusCode::SERVICE_UNAVAILABLE, said)
        }
    }
}

impl AppHealth {
    /// The status of the application's answer; 200 for a connection that is enough.
    async fn ask(&self, probe: &Probe) -> io::Result<StatusCode> {
        let Some(request) = &probe.request else {
            connect(SocketAddr::new(self.address, probe.port)).await?;
            return Ok(StatusCode::OK);
        };
        let (mut port, mut request) = (probe.port, request.clone());
        for _ in 0..MAX_REDIRECTS {
            let target = SocketAddr::new(self.address, port);
            let (status, location) = get(target, &request).await?;
            match location {
                None => return Ok(status),
                // Somebody else answers from here on: the application itself has answered.
                Some(location) => match self.follow(&location, port) {
                    None => return Ok(StatusCode::OK),
                    Some(next) => (port, request.path) = next,
                },
            }
        }
        Err(io::Error::other(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Port and path of a redirect that stays in the pod.
    fn follow(&self, location: &Uri, port: u16) -> Option<(u16, String)> {
        let path = location.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let Some(host) = location.host() else { return Some((port, path)) };
        let is_here = host.trim_matches(['[', ']']).parse() == Ok(self.address);
        let is_plain = location.scheme_str() == Some("http");
        (is_here && is_plain).then(|| (location.port_u16().unwrap_or(80), path))
    }
}

/// The status of an answer, and where it redirects to.
async fn get(target: SocketAddr, request: &Request) -> io::Result<(StatusCode, Option<Uri>)> {
    let stream = connect(target).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let mut built = hyper::Request::get(&request.path).header(header::USER_AGENT, "kube-probe/eastwest");
    if request.headers.iter().all(|(name, _)| name != header::HOST) {
        built = built.header(header::HOST, target.to_string());
    }
    for (name, value) in &request.headers {
        built = built.header(name, value);
    }
    let built = built.header(header::CONNECTION, "close").body(Empty::<Bytes>::new());
    let exchange = async {
        let answer = sender.send_request(built.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        let (head, body) = answer.into_parts();
        drop(body.into_data_stream());
        let location = head.headers.get(header::LOCATION).filter(|_| head.status.is_redirection());
        let location = location.and_then(|location| location.to_str().ok()?.parse().ok());
        Ok((head.status, location))
    };
    tokio::select! {
        done = exchange => done,
        Err(error) = connection => Err(io::Error::other(error)),
    }
}

/// Connects from Envoy's address. Where nobody has set up the redirection it may be missing, and matters nothing.
async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let (socket, source): (_, IpAddr) = match target {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, Ipv4Addr::new(127, 0, 0, 6).into()),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into()),
    };
    if let Err(error) = socket.bind(SocketAddr::new(source, 0)) {
        tracing::debug!(%error, %source, "probes of the application come from another address");
    }
    socket.connect(target).await
}
