//! Connections for tonic: accepted here, so that TLS can renew its certificate and client certificates are optional.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use crate::{
    corked::Corked,
    hang_up::{HangUp, Line},
    shown::Shown,
};

/// Longest time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most handshakes at the same time; further connections wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 1024;
/// Most of them of one peer: whoever floods the port leaves room for others.
const MAX_HANDSHAKES_OF_ONE: usize = 256;
/// Wait after accepting failed, for instance for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What one peer has under its control: an IPv4 address, or a /64 of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What is known of the peer of a connection; an extension of each of its requests.
#[derive(Debug, Clone)]
pub struct PeerConnection {
    /// Where it comes from.
    pub remote: Option<SocketAddr>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The certificates that the peer showed. It holds the leaf's key; nothing else is established.
    pub certificates: Shown,
    /// Ends the connection, if certificates were shown on it.
    pub hang_up: HangUp,
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
        let (sender, ready) = mpsc::channel(MAX_HANDSHAKES);
        let accepting = tokio::spawn(accept(listener, tls, sender)).abort_handle();
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

/// Accepts for ever; each handshake is a task of its own, so a slow peer delays nobody.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let peers = Arc::new(Peers::default());
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(handshake) = peers.begin(network(remote.ip())) else {
            tracing::debug!(%remote, "closed at once: too many connections of this peer are being set up");
            continue;
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            if let Some(connection) = establish(stream, remote, tls).await {
                let _ = ready.send(Ok(connection)).await; // fails when the port has been closed
            }
            drop((permit, handshake));
        });
    }
}

/// How many connections of each peer are being set up.
#[derive(Debug, Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// A connection that is being set up.
struct Handshake {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Peers {
    /// Counts one more of `peer`, unless they are too many.
    fn begin(self: &Arc<Self>, peer: IpAddr) -> Option<Handshake> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        (*count < MAX_HANDSHAKES_OF_ONE).then(|| {
            *count += 1;
            Handshake { peers: Arc::clone(self), peer }
        })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = peers.entry(self.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

async fn establish(stream: TcpStream, remote: SocketAddr, tls: Option<TlsAcceptor>) -> Option<Connection> {
    let _ = stream.set_nodelay(true); // slower without, no worse
    let stream = Corked::new(stream);
    let Some(tls) = tls else { return Some(Connection::new(remote, Transport::Plain(stream))) };
    match timeout(HANDSHAKE, tls.accept(stream)).await {
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
    /// `None` for those who showed no certificate.
    line: Option<Line>,
}

#[derive(Debug)]
enum Transport {
    Plain(Corked),
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
        let certificates = Shown::new(certificates.unwrap_or_default());
        let peer = PeerConnection { remote: Some(remote), tls, certificates, hang_up: HangUp::default() };
        let line = (!peer.certificates.is_empty()).then(|| peer.hang_up.line());
        Self { stream, peer, line }
    }
}

/// Passes a call on to whichever stream it is.
macro_rules! delegate {
    ($self:ident, $call:ident ( $($argument:expr),* )) => {
        match &mut $self.get_mut().stream {
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
        if self.line.as_mut().is_some_and(|line| line.poll_dead(cx).is_ready()) {
            return Poll::Ready(Ok(())); // nothing read is the end
        }
        delegate!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown(cx))
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

    #[test]
    fn one_peer_cannot_take_all_handshakes() {
        let peers = Arc::new(Peers::default());
        let [flood, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut held: Vec<Handshake> = std::iter::from_fn(|| peers.begin(flood)).collect();
        assert_eq!(held.len(), MAX_HANDSHAKES_OF_ONE);
        assert!(peers.begin(other).is_some());
        held.pop();
        assert!(peers.begin(flood).is_some());
        drop(held);
        assert!(peers.0.lock().unwrap().is_empty(), "nothing is kept of those who are done");
    }
}
