//! The response side of a stream as an HTTP body that shares the resources' bytes.
//!
//! tonic's own encoder copies every message into a buffer that the stream keeps. Here the frames are the shared
//! bytes themselves, and the session is polled only when the transport can take more: no
//! response is made before the client has read the ones before it, so a slow client costs bounded memory and delays
//! no other stream (XDS.md X46).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::sync::mpsc;
use tonic::Status;

/// A running session: it sends messages to the body that polls it, and ends with a status.
pub(crate) type SessionFuture = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// The pieces of one gRPC message.
pub(crate) type Message = VecDeque<Bytes>;

/// Runs a session and yields what it sends. Dropping it, as the transport does when the client goes, ends the session.
pub(crate) struct SessionBody {
    session: Option<SessionFuture>,
    inbox: mpsc::Receiver<Message>,
    message: Message,
    end: Option<Status>,
}

impl SessionBody {
    /// The session must send to the other end of `inbox`.
    pub(crate) fn new(session: SessionFuture, inbox: mpsc::Receiver<Message>) -> Self {
        Self { session: Some(session), inbox, message: Message::new(), end: None }
    }

    /// The next piece that is ready to go.
    fn next_piece(&mut self) -> Option<Bytes> {
        if self.message.is_empty()
            && let Ok(message) = self.inbox.try_recv()
        {
            self.message = message;
        }
        self.message.pop_front()
    }
}

impl Body for SessionBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.next_piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(session) = &mut self.session else {
                return Poll::Ready(self.end.take().map(|status| trailers(&status)));
            };
            match session.as_mut().poll(cx) {
                Poll::Ready(result) => {
                    self.session = None;
                    self.end = Some(result.err().unwrap_or_else(|| Status::ok("")));
                }
                Poll::Pending => match self.next_piece() {
                    Some(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    None => return Poll::Pending,
                },
            }
        }
    }
}

fn trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

/// Makes a gRPC message of an encoded response: one uncompressed flag, the length, the pieces.
pub(crate) fn frame(pieces: Vec<Bytes>) -> Message {
    let mut pieces = Message::from(pieces);
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let head = pieces.pop_front().unwrap_or_default();
    let mut framed = BytesMut::with_capacity(5 + head.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    framed.extend_from_slice(&head);
    pieces.push_front(framed.freeze());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_flag_length_and_shared_pieces() {
        let shared = Bytes::from_static(b"resource");
        let message = frame(vec![Bytes::from_static(b"head"), shared.clone()]);
        assert_eq!(message[0], &b"\0\0\0\0\x0chead"[..]);
        assert_eq!(message[1].as_ptr(), shared.as_ptr());
    }
}
