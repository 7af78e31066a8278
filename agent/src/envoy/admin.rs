//! A client of Envoy's admin interface.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::net::TcpStream;

/// Time for one request.
const DEADLINE: Duration = Duration::from_secs(2);
/// The statistics that show whether Envoy serves.
const READINESS: &str = "/stats?filter=^(server.state|listener_manager.workers_started|\
    listener_manager.lds.update_success|\
    cluster.xds-grpc.ssl.certificate.default.expiration_unix_time_seconds)$";
/// When the certificate expires that Envoy holds, as its connection to the control plane has it; all others that it has
/// from the agent are the same.
const EXPIRY: &str = "cluster.xds-grpc.ssl.certificate.default.expiration_unix_time_seconds";

/// Envoy's admin interface. Clones share what is known of the process.
#[derive(Clone, Debug)]
pub(crate) struct EnvoyAdmin {
    /// On the loopback interface.
    address: SocketAddr,
    /// When the process that should answer there was started; `None` while there is none.
    started: Arc<Mutex<Option<Instant>>>,
}

impl EnvoyAdmin {
    /// The interface at `address` of a process that has yet to be started.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, started: Arc::default() }
    }

    /// Notes that the process was started now, or has ended.
    pub(crate) fn note(&self, running: bool) {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        *started = running.then(Instant::now);
    }

    /// Checks that it is our Envoy that answers. One that a killed agent left behind holds the port of the next one, and
    /// has the certificate of the last.
    ///
    /// # Errors
    /// Who answers, as text.
    async fn is_ours(&self) -> Result<(), String> {
        let port = self.address.port();
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(started) = started else { return Err("Envoy is not running".to_owned()) };
        let page = self.send(Method::GET, "/server_info").await;
        let page = page.map_err(|error| format!("Envoy's admin port {port} does not answer: {error}"))?;
        let ours = started.elapsed();
        match uptime(&page) {
            Some(uptime) if uptime.as_secs() <= ours.as_secs() => Ok(()),
            Some(uptime) => Err(format!(
                "another Envoy answers at the admin port {port}: it has run for {uptime:?}, ours for {ours:.1?}; was it \
                 left behind by an agent that was killed? End it, or choose another --admin-port"
            )),
            None => {
                Err(format!("what answers at the admin port {port} is no Envoy; choose another --admin-port"))
            }
        }
    }

    /// Checks that our Envoy is LIVE, has its listeners, has started its workers, and holds a certificate that is valid
    /// at `now`.
    ///
    /// # Errors
    /// Why it is not ready, as text.
    pub(crate) async fn ready(&self, now: SystemTime) -> Result<(), String> {
        self.is_ours().await?;
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
            (Some(0), Some(1..), Some(1)) => holds_valid_certificate(figure(EXPIRY), now),
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
    /// Our Envoy does not answer.
    pub(crate) async fn drain_inbound(&self) -> io::Result<()> {
        self.is_ours().await.map_err(io::Error::other)?;
        self.send(Method::POST, "/drain_listeners?inboundonly&graceful").await.map(|_| ())
    }

    pub(super) async fn send(&self, method: Method, path: &str) -> io::Result<String> {
        let exchange = tokio::time::timeout(DEADLINE, self.exchange(method, path));
        exchange.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(&self, method: Method, path: &str) -> io::Result<String> {
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

/// How long the Envoy of a page `/server_info` has run, in whole seconds.
fn uptime(page: &str) -> Option<Duration> {
    let page: Value = serde_json::from_str(page).ok()?;
    let seconds = page["uptime_all_epochs"].as_str()?.strip_suffix('s')?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// `expiry`: seconds since the epoch; `None` if Envoy has no certificate from the agent.
fn holds_valid_certificate(expiry: Option<u64>, now: SystemTime) -> Result<(), String> {
    let Some(expiry) = expiry else {
        return Err(
            "Envoy holds no certificate of the agent: was it started with --dir's envoy.yaml?".to_owned()
        );
    };
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(expiry);
    if now < expires {
        return Ok(());
    }
    let at = OffsetDateTime::from(expires).format(&Rfc3339).unwrap_or_default();
    Err(format!("Envoy holds a certificate that expired at {at}: it has taken no newer one from the agent"))
}
