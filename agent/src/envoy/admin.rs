//! A client of Envoy's admin interface.

use std::{io, net::SocketAddr, time::Duration};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Time for one request.
const DEADLINE: Duration = Duration::from_secs(2);
/// The statistics that show whether Envoy serves.
const READINESS: &str =
    "/stats?filter=^(server.state|listener_manager.workers_started|listener_manager.lds.update_success)$";

/// Envoy's admin interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EnvoyAdmin {
    /// On the loopback interface.
    pub(crate) address: SocketAddr,
}

impl EnvoyAdmin {
    /// Checks that Envoy is LIVE, has its listeners and has started its workers.
    ///
    /// # Errors
    /// Why it is not ready, as text.
    pub(crate) async fn ready(self) -> Result<(), String> {
        let figures = self.send(Method::GET, READINESS).await;
        let figures = figures.map_err(|error| {
            format!("Envoy's admin port {} does not answer: {error}", self.address.port())
        })?;
        let figure = |name: &str| {
            let line = figures.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        match (
            figure("server.state"),
            figure("listener_manager.lds.update_success"),
            figure("listener_manager.workers_started"),
        ) {
            (Some(0), Some(1..), Some(1)) => Ok(()),
            (Some(0), None | Some(0), _) => {
                Err("Envoy has accepted no listeners from the control plane yet".into())
            }
            (Some(0), ..) => Err("Envoy's workers have not started".into()),
            (Some(1), ..) => Err("Envoy is draining".into()),
            _ => Err("Envoy waits for its first configuration".into()),
        }
    }

    /// Starts to drain the inbound listeners: no new connections, and open ones are closed gracefully.
    ///
    /// # Errors
    /// Envoy does not answer.
    pub(crate) async fn drain_inbound(self) -> io::Result<()> {
        self.send(Method::POST, "/drain_listeners?inboundonly&graceful").await.map(|_| ())
    }

    pub(super) async fn send(self, method: Method, path: &str) -> io::Result<String> {
        let exchange = tokio::time::timeout(DEADLINE, self.exchange(method, path));
        exchange.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(self, method: Method, path: &str) -> io::Result<String> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        // The sender is dropped after the response, which closes the connection.
        let exchange = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        let (answer, _) = tokio::join!(exchange, connection);
        match answer.map_err(io::Error::other)? {
            (StatusCode::OK, body) => Ok(String::from_utf8_lossy(&body).into_owned()),
            (status, _) => Err(io::Error::other(format!("status {status}"))),
        }
    }
}
