//! Answers of the debug pages that their clients have not read yet: in pieces, and bounded in bytes.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
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
use eastwest_io::{accept::network, http::Ends};
use eastwest_xds_server::{Budget, Exhausted, Limits, Share};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};

/// Bytes of unread answers to clients of one address.
const PER_ADDRESS: usize = 64 << 20;
/// Of all unread answers together with them. One answer may be larger if it is the only one.
const UNREAD: Limits = Limits { free: 0, per_address: PER_ADDRESS, total: 2 * PER_ADDRESS, alone: true };
/// An answer of this size is not counted, so that a client that reads is never refused for those that do not.
const FREE: usize = 64 << 10;
/// Bytes that the connection gets at a time: what it has not sent stays here, and is counted.
const PIECE: usize = 64 << 10;

/// Where a client is of which nothing is known.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// What is told when there is no room.
const REFUSED: &str = "answers that nobody has read take all the room: read them, or ask again in a moment\n";

/// What a server's unread answers may take.
pub(super) fn budget() -> Arc<Budget> {
    Arc::new(Budget::new(UNREAD))
}

/// Refuses the answer of a debug page for which there is no room, with the status 503.
pub(super) async fn bounded(State(unread): State<Arc<Budget>>, request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/debug/") {
        return next.run(request).await;
    }
    let ends = request.extensions().get::<Ends>();
    let mut room = unread.share(Some(ends.map_or(UNKNOWN, |ends| network(ends.remote))));
    let (head, body) = next.run(request).await.into_parts();
    let Ok(body) = body.collect().await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let bytes = body.to_bytes();
    if bytes.len() <= FREE {
        return Response::from_parts(head, Body::from(bytes));
    }
    match room.set(bytes.len()) {
        Ok(()) => Response::from_parts(head, Body::new(Pieces { rest: bytes, _room: room })),
        Err(Exhausted) => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")], REFUSED).into_response(),
    }
}

/// An answer that is given in pieces.
struct Pieces {
    rest: Bytes,
    _room: Share,
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
        let unread = budget();
        let of = |last| unread.share(Some(IpAddr::from([10, 0, 0, last])));
        let mut large = of(1);
        assert_eq!(large.set(6 * PER_ADDRESS), Ok(()), "the only one may be large");
        assert_eq!(of(2).set(1), Err(Exhausted), "there is no room beside it");
        drop(large);
        let (mut first, mut other) = (of(1), of(2));
        assert_eq!(first.set(PER_ADDRESS), Ok(()), "there is room");
        assert_eq!(of(1).set(1), Err(Exhausted));
        assert_eq!(other.set(PER_ADDRESS), Ok(()), "another address has room");
        assert_eq!(of(3).set(1), Err(Exhausted), "all of it is taken");
        drop((first, other));
        assert_eq!(of(1).set(PER_ADDRESS), Ok(()));
    }

    /// Clients that do not read take a bounded part of the memory, and one that reads is answered when they are gone.
    #[tokio::test]
    async fn answers_that_nobody_reads_are_bounded() {
        const SIZE: usize = 8 << 20;
        let page = || async { Bytes::from(vec![b'x'; SIZE]) };
        let pages = Router::new().route("/debug/page", get(page));
        let pages = pages.layer(from_fn_with_state(budget(), bounded));
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
