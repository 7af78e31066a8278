//! Pages over HTTP/1: connections with deadlines, and with a place in a limit.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
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
    net::TcpListener,
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tower::Service;

use crate::{accept::accept, limits::AcceptLimits};

/// Connections of one peer at a time. Further ones are closed.
const PER_PEER: usize = 128;
/// Connections at a time. A further one takes the place of the oldest.
const TOTAL: usize = 512;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// After this time a connection ends with the answer that is being sent.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// How long that answer may take. A client that does not read it holds no page for longer.
const LAST_ANSWER: Duration = Duration::from_secs(60);

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
    let places = Arc::new(Places::default());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD);
    let handle = |stream, _| {
        let serving = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages.clone()));
        let task = tokio::spawn(until_stopped(serving, stopped.clone()));
        let place = places.take(task.abort_handle());
        async move {
            // A connection that gave up its place to another has been cancelled.
            let _ = task.await;
            drop(place);
        }
    };
    // The places bound the number of all connections.
    let limits = AcceptLimits { total: TOTAL * 2, per_peer: PER_PEER };
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

/// The connections that are open, the oldest first.
#[derive(Debug, Default)]
struct Places {
    open: Mutex<(u64, BTreeMap<u64, AbortHandle>)>,
}

/// The place of one connection.
struct Place {
    places: Arc<Places>,
    number: u64,
}

impl Places {
    /// Gives a place to a connection: if all are taken, that of the oldest one, which is cut off.
    fn take(self: &Arc<Self>, connection: AbortHandle) -> Place {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, open) = &mut *open;
        *last += 1;
        open.insert(*last, connection);
        if open.len() > TOTAL
            && let Some((_, oldest)) = open.pop_first()
        {
            oldest.abort();
        }
        Place { places: Arc::clone(self), number: *last }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.1.remove(&self.number);
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

    #[tokio::test]
    async fn one_peer_cannot_take_all_places_and_what_ends_gives_its_place_back() {
        let (address, _stop, _) = server().await;
        let mut held = Vec::new();
        for _ in 0..PER_PEER {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
            held.push(stream);
        }
        // The next one of this peer is closed at once.
        let mut refused = TcpStream::connect(address).await.unwrap();
        assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0);
        drop(held);
        let answered =
            timeout(Duration::from_secs(20), async { while !get(address).await.contains("page") {} });
        answered.await.expect("places are given back");
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

    #[tokio::test]
    async fn the_oldest_connection_gives_its_place_to_a_new_one() {
        let places = Arc::new(Places::default());
        let tasks: Vec<_> = (0..=TOTAL).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        let held: Vec<_> = tasks.iter().map(|task| places.take(task.abort_handle())).collect();
        let mut tasks = tasks.into_iter();
        assert!(tasks.next().unwrap().await.unwrap_err().is_cancelled());
        assert!(tasks.all(|task| !task.is_finished()));
        drop(held);
        assert!(places.open.lock().unwrap().1.is_empty());
    }
}
