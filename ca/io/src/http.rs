//! Pages over HTTP/1: connections with deadlines, and with a place in a limit.

use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use bytes::Buf;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tower::{Service, ServiceExt as _};

use crate::{accept::accept, limits::AcceptLimits};

/// Connections of one peer at a time. A further one takes the place of its oldest.
const PER_PEER: usize = 128;
/// Connections at a time. A further one takes the place of the oldest of the peer with most.
const TOTAL: usize = 512;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// After this time a connection ends with the answer that is being sent.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// How long that answer may take. A client that does not read it holds no page for longer.
const LAST_ANSWER: Duration = Duration::from_secs(60);

/// The ends of the connection of a request; an extension of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client's.
    pub remote: IpAddr,
    /// Ours.
    pub local: IpAddr,
}

impl Ends {
    /// Whether the client is on this machine, or in this pod: it came by the loopback interface.
    pub fn are_of_one_machine(&self) -> bool {
        let remote = self.remote.to_canonical();
        remote.is_loopback() || remote == self.local.to_canonical()
    }
}

/// Serves `pages` until `stop` completes and the connections have ended.
pub async fn serve<S, B>(listener: TcpListener, pages: S, stop: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (stopping, stopped) = watch::channel(());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD);
    let handle = |stream: TcpStream, remote: SocketAddr| {
        let local = stream.local_addr().map(|local| local.ip());
        let ends = local.ok().map(|local| Ends { remote: remote.ip(), local });
        let pages = pages.clone().map_request(move |mut request: Request<Incoming>| {
            if let Some(ends) = ends {
                request.extensions_mut().insert(ends);
            }
            request
        });
        let serving = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
        until_stopped(serving, stopped.clone())
    };
    let limits = AcceptLimits { total: TOTAL, per_peer: PER_PEER };
    tokio::select! {
        () = accept(listener, limits, handle) => {}
        () = stop => {}
    }
    drop(stopped);
    stopping.send_replace(());
    stopping.closed().await;
}

/// One connection. It ends with the answer that is being sent when the server stops.
async fn until_stopped(
    connection: impl GracefulConnection<Error = hyper::Error>,
    mut stopped: watch::Receiver<()>,
) {
    let mut serving = pin!(connection);
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = sleep(KEEP_ALIVE) => None,
        _ = stopped.changed() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            serving.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http_body_util::Full;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        task::JoinHandle,
    };
    use tower::service_fn;

    use super::*;

    async fn server() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let pages = service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from_static(b"page"))))
        });
        let serving = serve(listener, pages, async { drop(stopped.await) });
        (address, stop, tokio::spawn(serving))
    }

    /// The answer; nothing if the connection was refused.
    async fn get(address: SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut text = String::new();
        if stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.is_ok() {
            let _ = stream.read_to_string(&mut text).await;
        }
        text
    }

    /// A client behind the same address as a flood of half heads is answered at once.
    #[tokio::test]
    async fn half_heads_give_way_to_requests_of_the_same_address() {
        let (address, _stop, _) = server().await;
        let mut held = Vec::new();
        for _ in 0..2 * PER_PEER {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost:").await;
            held.push(stream);
        }
        assert!(get(address).await.contains("page"), "with all places taken by others");
        let first = timeout(HEAD / 2, held[0].read(&mut [0; 1])).await.expect("the oldest has given way");
        assert_eq!(first.unwrap_or(0), 0);
    }

    /// Heads that never end give way within their deadline.
    #[tokio::test]
    async fn a_head_that_does_not_end_is_cut_off() {
        let (address, stop, serving) = server().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(2 * HEAD, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection ends");
        assert!(get(address).await.contains("page"));
        drop(stop);
        timeout(Duration::from_secs(20), serving).await.expect("the server ends").unwrap();
    }
}
