//! The least that a new connection costs: the handshake, a request and an answer of a certificate's size, the end.

use std::{net::SocketAddr, sync::Arc};

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Bytes of a request with its token, and of an answer.
const REQUEST: usize = 1400;
const ANSWER: usize = 1300;

/// Answers whatever comes, for ever.
pub(crate) async fn serve(tls: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let tls = TlsAcceptor::from(Arc::clone(&tls));
            tokio::spawn(async move {
                let mut stream = tls.accept(stream).await.unwrap();
                exchange::<REQUEST, ANSWER>(&mut stream, false).await;
                let _ = stream.shutdown().await; // the client may be gone
            });
        }
    });
    address
}

/// Makes so many connections, one after the other in each of so many tasks.
pub(crate) async fn connect(address: SocketAddr, tls: Arc<ClientConfig>, connections: usize, tasks: usize) {
    let mut clients = JoinSet::new();
    for _ in 0..tasks {
        let tls = TlsConnector::from(Arc::clone(&tls));
        clients.spawn(async move {
            for _ in 0..connections / tasks {
                let stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let name = ServerName::try_from("istiod.istio-system.svc").unwrap();
                let mut stream = tls.connect(name, stream).await.unwrap();
                exchange::<ANSWER, REQUEST>(&mut stream, true).await;
                stream.shutdown().await.unwrap();
            }
        });
    }
    clients.join_all().await;
}

/// Reads `IN` bytes and writes `OUT`, or the other way round.
async fn exchange<const IN: usize, const OUT: usize>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    first: bool,
) {
    let mut read = [0; IN];
    if !first {
        stream.read_exact(&mut read).await.unwrap();
    }
    stream.write_all(&[7; OUT]).await.unwrap();
    stream.flush().await.unwrap();
    if first {
        stream.read_exact(&mut read).await.unwrap();
    }
}
