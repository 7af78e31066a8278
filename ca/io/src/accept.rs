//! The accept loop of all ports, and the connections of the gRPC ports. Tonic could accept connections itself, but not
//! with a certificate that is renewed and client certificates that are optional.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::AbortHandle,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::{
    closer::{Closing, ConnectionCloser},
    corked::Corked,
    descriptors::connections_of_port,
    limits::{AcceptLimits, Places},
    open::{OpenCalls, OpenConnections, Place},
    peer_certificates::PeerCertificates,
};

/// Longest time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Limits of the handshakes of a gRPC port.
const HANDSHAKES: AcceptLimits = AcceptLimits { total: 1024, per_peer: 256 };
/// How long a client may take for the first bytes of HTTP/2.
const OPENING: Duration = Duration::from_secs(10);
/// Its first bytes: the preface, and the head of the frame after it (RFC 9113 §3.4).
const PREFACE: usize = 24 + 9;
/// Wait after accepting failed, for instance for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What one peer controls: an IPv4 address, or a /64 of IPv6.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Accepts connections until it is dropped. Each call of `handle` becomes a task, so a slow peer delays no other; the
/// connection counts against `limits` until that task ends. Beyond them the oldest ones are cut off.
pub async fn accept<F>(
    listener: TcpListener,
    limits: AcceptLimits,
    handle: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Places::new(limits));
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        places.handle(network(remote.ip()), handle(stream, remote));
    }
}

/// What is known of the peer of a connection; an extension of each of its requests.
#[derive(Debug, Clone)]
pub struct PeerConnection {
    /// Its address.
    pub remote: Option<SocketAddr>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The certificates that the peer presented. It holds the leaf's key; nothing else is verified.
    pub certificates: PeerCertificates,
    /// Closes the connection, if certificates were presented on it.
    pub closer: ConnectionCloser,
    /// The calls that are open on it.
    pub calls: OpenCalls,
}

/// The connections of one port, for `serve_with_incoming_shutdown`. Dropping it closes the port.
#[derive(Debug)]
pub struct Incoming {
    ready: mpsc::Receiver<io::Result<Connection>>,
    accepting: AbortHandle,
}

impl Incoming {
    /// A port without encryption. Call it inside a tokio runtime.
    pub fn plain(listener: TcpListener) -> Self {
        Self::start(listener, None)
    }

    /// A port with TLS. Call it inside a tokio runtime.
    pub fn tls(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        Self::start(listener, Some(config.into()))
    }

    fn start(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let (sender, ready) = mpsc::channel(HANDSHAKES.total);
        let total = connections_of_port();
        let open = Arc::new(OpenConnections::new(AcceptLimits { total, per_peer: total / 2 }));
        let handshake = move |stream, remote| {
            let (tls, sender, open) = (tls.clone(), sender.clone(), Arc::clone(&open));
            async move {
                let Some(mut connection) = establish(stream, remote, tls).await else { return };
                connection.place = open.admit(network(remote.ip()), &connection.peer.calls);
                if connection.place.is_none() {
                    tracing::warn!(%remote, "closed at once: too many connections are open");
                    return;
                }
                let _ = sender.send(Ok(connection)).await; // fails when the port has been closed
            }
        };
        let accepting = tokio::spawn(accept(listener, HANDSHAKES, handshake)).abort_handle();
        Self { ready, accepting }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context)
    }
}

async fn establish(stream: TcpStream, remote: SocketAddr, tls: Option<TlsAcceptor>) -> Option<Connection> {
    let _ = stream.set_nodelay(true); // without it the connection is only slower
    let Some(tls) = tls else { return Some(Connection::new(remote, Transport::Plain(stream))) };
    match timeout(HANDSHAKE, tls.accept(Corked::new(stream))).await {
        Ok(Ok(stream)) => Some(Connection::new(remote, Transport::Tls(Box::new(stream)))),
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%remote, "TLS handshake took too long");
            None
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    stream: Transport,
    peer: PeerConnection,
    /// `None` if the peer presented no certificate.
    closing: Option<Closing>,
    /// Its place among those of the port.
    place: Option<Place>,
    /// Until the client has begun to speak.
    opening: Option<Opening>,
    /// The end of the stream has been reported, whatever the peer sends.
    over: bool,
}

/// A connection on which the client has not begun to speak.
#[derive(Debug)]
struct Opening {
    deadline: Pin<Box<Sleep>>,
    /// How many of its first bytes are missing.
    missing: usize,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<Corked>>),
}

impl Connected for Connection {
    type ConnectInfo = PeerConnection;

    fn connect_info(&self) -> PeerConnection {
        self.peer.clone()
    }
}

impl Connection {
    fn new(remote: SocketAddr, stream: Transport) -> Self {
        let (tls, certificates) = match &stream {
            Transport::Plain(_) => (false, None),
            Transport::Tls(stream) => (true, stream.get_ref().1.peer_certificates()),
        };
        let certificates = PeerCertificates::new(certificates.unwrap_or_default());
        let (closer, calls) = (ConnectionCloser::default(), OpenCalls::default());
        let peer = PeerConnection { remote: Some(remote), tls, certificates, closer, calls };
        let closing = (!peer.certificates.is_empty()).then(|| peer.closer.closing());
        let opening = Some(Opening { deadline: Box::pin(sleep(OPENING)), missing: PREFACE });
        Self { stream, peer, closing, place: None, opening, over: false }
    }

    /// Whether the connection ends before the peer ends it.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.over = self.over
            || self.closing.as_mut().is_some_and(|closing| closing.poll_closed(cx).is_ready())
            || self.place.as_mut().is_some_and(|place| place.poll_cut(cx).is_ready());
        self.over
    }
}

/// Calls a method of a transport.
macro_rules! delegate {
    ($stream:expr, $call:ident ( $($argument:expr),* )) => {
        match &mut $stream {
            Transport::Plain(stream) => Pin::new(stream).$call($($argument),*),
            Transport::Tls(stream) => Pin::new(stream.as_mut()).$call($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return Poll::Ready(Ok(())); // reading nothing is the end of the stream
        }
        let before = buf.filled().len();
        let polled = delegate!(self.stream, poll_read(cx, buf));
        if let Some(opening) = &mut self.opening {
            opening.missing = opening.missing.saturating_sub(buf.filled().len() - before);
            if opening.missing == 0 {
                self.opening = None;
            } else if polled.is_pending() && opening.deadline.as_mut().poll(cx).is_ready() {
                tracing::debug!(remote = ?self.peer.remote, "closed: the client does not speak HTTP/2");
                self.over = true;
                return Poll::Ready(Ok(()));
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut().stream, poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut().stream, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut().stream, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut().stream, poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("10.1.2.3"), "10.1.2.3");
        assert_eq!(network("::ffff:10.1.2.3"), "10.1.2.3");
    }
}
