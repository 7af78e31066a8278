//! Answers of the debug pages that their clients have not read yet: in pieces, and bounded in bytes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use eastwest_io::http::Ends;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};

/// An answer of this size is not counted, so that a client that reads is never refused for those that do not.
const FREE: usize = 64 << 10;
/// Bytes of unread answers to clients of one address. One answer may be larger if it is the only one.
const PER_ADDRESS: usize = 64 << 20;
/// Bytes of all unread answers.
const TOTAL: usize = 128 << 20;
/// Bytes that the connection gets at a time: what it has not sent stays here, and is counted.
const PIECE: usize = 64 << 10;

/// What is told when there is no room.
const REFUSED: &str = "answers that nobody has read take all the room: read them, or ask again in a moment\n";

/// The bytes of unread answers, by address.
#[derive(Debug, Default)]
pub(super) struct Unread(Mutex<BTreeMap<IpAddr, usize>>);

impl Unread {
    /// Room for an answer of `bytes` to a client at `address`, until it is dropped.
    fn room(self: &Arc<Self>, address: IpAddr, bytes: usize) -> Option<Room> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = held.get(&address).copied().unwrap_or_default();
        let all: usize = held.values().sum();
        let fits = here + bytes <= PER_ADDRESS && all + bytes <= TOTAL;
        (fits || all == 0).then(|| {
            *held.entry(address).or_default() += bytes;
            Room { unread: Arc::clone(self), address, bytes }
        })
    }
}

/// Room that an answer takes.
#[derive(Debug)]
struct Room {
    unread: Arc<Unread>,
    address: IpAddr,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut held = self.unread.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = held.get_mut(&self.address) {
            *here -= self.bytes;
            if *here == 0 {
                held.remove(&self.address);
            }
        }
    }
}

/// Refuses the answer of a debug page for which there is no room, with the status 503.
pub(super) async fn bounded(State(unread): State<Arc<Unread>>, request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/debug/") {
        return next.run(request).await;
    }
    let ends = request.extensions().get::<Ends>();
    let address = ends.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ends| ends.remote.to_canonical());
    let (head, body) = next.run(request).await.into_parts();
    let Ok(body) = body.collect().await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let bytes = body.to_bytes();
    if bytes.len() <= FREE {
        return Response::from_parts(head, Body::from(bytes));
    }
    match unread.room(address, bytes.len()) {
        Some(room) => Response::from_parts(head, Body::new(Pieces { rest: bytes, _room: room })),
        None => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")], REFUSED).into_response(),
    }
}

/// An answer that is given in pieces.
struct Pieces {
    rest: Bytes,
    _room: Room,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.rest.len().min(PIECE);
        Poll::Ready((size > 0).then(|| Ok(Frame::data(self.rest.split_to(size)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Router, middleware::from_fn_with_state, routing::get};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn one_address_leaves_room_for_others_and_all_is_given_back() {
        let unread = Arc::new(Unread::default());
        let [one, two] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let large = unread.room(one, 3 * TOTAL).expect("the only one may be large");
        assert!(unread.room(two, 1).is_none(), "there is no room beside it");
        drop(large);
        let first = unread.room(one, PER_ADDRESS).expect("there is room");
        assert!(unread.room(one, 1).is_none());
        let other = unread.room(two, PER_ADDRESS).expect("another address has room");
        assert!(unread.room(IpAddr::from([10, 0, 0, 3]), 1).is_none(), "all of it is taken");
        drop((first, other));
        assert!(unread.0.lock().unwrap().is_empty());
        assert!(unread.room(one, PER_ADDRESS).is_some());
    }

    /// Clients that do not read take a bounded part of the memory, and one that reads is answered when they are gone.
    #[tokio::test]
    async fn answers_that_nobody_reads_are_bounded() {
        const SIZE: usize = 8 << 20;
        let page = || async { Bytes::from(vec![b'x'; SIZE]) };
        let pages = Router::new().route("/debug/page", get(page));
        let pages = pages.layer(from_fn_with_state(Arc::default(), bounded));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(eastwest_io::http::serve(listener, pages, std::future::pending()));
        let ask = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /debug/page HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            (String::from_utf8_lossy(&status).into_owned(), stream)
        };
        let mut unread = Vec::new();
        for _ in 0..PER_ADDRESS / SIZE {
            let (status, stream) = ask().await;
            assert_eq!(status, "HTTP/1.1 200");
            unread.push(stream);
        }
        let (status, _) = ask().await;
        assert_eq!(status, "HTTP/1.1 503", "{} answers are unread", unread.len());
        drop(unread);
        let patience = tokio::time::timeout(Duration::from_secs(30), async {
            loop {
                let (status, mut stream) = ask().await;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await.unwrap();
                if status == "HTTP/1.1 200" {
                    break rest.len();
                }
            }
        });
        assert!(patience.await.expect("there is room again") > SIZE);
        serving.abort();
    }
}
