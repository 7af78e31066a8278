//! The requests of a stream, read from the HTTP body.
//!
//! tonic's decoder keeps a buffer as large as the largest request for as long as the stream lives. A proxy names its
//! endpoints once, in 50 KB or more, and sends small ACKs from then on; here the buffer is given back when it is empty.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body};

use crate::budget::Share;
use crate::status;

/// The largest request that is read, in bytes (XDS.md X55).
const MAX_REQUEST: usize = 4 * 1024 * 1024;
/// Flag and length before each message.
const HEADER: usize = 5;
/// How long the rest of a request may take that has begun (XDS.md X63).
const WHOLE: Duration = Duration::from_secs(30);

/// The requests of one stream.
pub(crate) struct Requests<M> {
    body: Body,
    buffer: BytesMut,
    /// When the request began that has not arrived whole.
    begun: Option<Instant>,
    unread: Share,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Requests<M> {
    /// What has arrived of a request that is not whole counts against `unread`.
    pub(crate) fn new(body: Body, unread: Share) -> Self {
        Self { body, buffer: BytesMut::new(), begun: None, unread, message: PhantomData }
    }

    /// The next request; `None` when the client has closed its side. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` for a request that is too large, `UNIMPLEMENTED` for a compressed one, `INTERNAL` for bytes that are
    /// no request, `DEADLINE_EXCEEDED` for one that does not become whole, `RESOURCE_EXHAUSTED` if too many wait to become
    /// whole, and what the transport reports.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.decode()? {
                return Ok(Some(message));
            }
            let frame = match self.begun {
                Some(begun) => timeout_at(begun + WHOLE, self.body.frame()).await,
                None => Ok(self.body.frame().await),
            };
            match frame.map_err(|_| status::unfinished(WHOLE))? {
                // Trailers of a request mean nothing.
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        let size = self.buffer.len() + data.len();
                        self.unread.set(size).map_err(|_| status::too_much_unread())?;
                        self.buffer.extend_from_slice(&data);
                        self.begun.get_or_insert_with(Instant::now);
                    }
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::internal("the client closed the stream within a request")),
            }
        }
    }

    /// The next request, if all of it has arrived.
    fn decode(&mut self) -> Result<Option<M>, Status> {
        let Some((head, _)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [flag, length @ ..] = *head;
        match flag {
            0 => {}
            1 => return Err(status::compressed()),
            _ => return Err(Status::internal(format!("{flag} is no flag of a gRPC message"))),
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_REQUEST {
            return Err(Status::out_of_range(format!(
                "the request has {length} bytes; the limit is {MAX_REQUEST} bytes"
            )));
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let message = M::decode(self.buffer.split_to(length));
        self.begun = (!self.buffer.is_empty()).then(Instant::now);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        // Less than before is always granted.
        let _ = self.unread.set(self.buffer.len());
        message.map(Some).map_err(|error| Status::internal(format!("the request does not decode: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eastwest_proto::envoy::service::discovery::v3::DiscoveryRequest;
    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use std::sync::Arc;

    use super::*;
    use crate::budget::{Budget, Limits};

    fn wire(type_url: &str) -> Vec<u8> {
        let request = DiscoveryRequest { type_url: type_url.to_owned(), ..DiscoveryRequest::default() };
        let body = request.encode_to_vec();
        let mut wire = vec![0];
        wire.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        wire.extend(body);
        wire
    }

    fn requests(pieces: Vec<Vec<u8>>) -> Requests<DiscoveryRequest> {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Status>(Frame::data(Bytes::from(piece))));
        Requests::new(Body::new(StreamBody::new(stream::iter(frames))), share(usize::MAX))
    }

    fn share(total: usize) -> Share {
        Arc::new(Budget::new(Limits { free: 0, per_address: total, total, alone: false })).share(None)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_become_whole_ends_the_stream() {
        let half = Bytes::from(wire(&"b".repeat(1000))[..500].to_vec());
        let waits = || stream::iter([Ok::<_, Status>(Frame::data(half.clone()))]);
        let body = || Body::new(StreamBody::new(waits().chain(stream::pending())));
        let mut requests = Requests::<DiscoveryRequest>::new(body(), share(500));
        let start = Instant::now();
        assert_eq!(requests.next().await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
        assert_eq!(start.elapsed().as_secs(), WHOLE.as_secs());
        // A stream that says nothing waits for as long as it likes.
        let silent = Body::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Status>>()));
        let mut silent = Requests::<DiscoveryRequest>::new(silent, share(0));
        assert!(tokio::time::timeout(10 * WHOLE, silent.next()).await.is_err());
        let mut requests = Requests::<DiscoveryRequest>::new(body(), share(499));
        assert_eq!(requests.next().await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn requests_are_read_however_the_transport_cuts_them() {
        let whole = [wire("a"), wire(&"b".repeat(100_000)), wire("")].concat();
        for cut in [1, 3, 7, 100, 99_999, whole.len()] {
            let mut requests = requests(whole.chunks(cut).map(<[u8]>::to_vec).collect());
            let mut lengths = Vec::new();
            while let Some(request) = requests.next().await.unwrap() {
                lengths.push(request.type_url.len());
            }
            assert_eq!(lengths, [1, 100_000, 0], "cut to {cut}");
            assert_eq!(requests.buffer.capacity(), 0, "the buffer is given back");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_ends_the_stream() {
        let code = async |wire: Vec<u8>| requests(vec![wire]).next().await.unwrap_err().code();
        assert_eq!(code(vec![0, 0, 0x40, 0, 1]).await, tonic::Code::OutOfRange);
        assert_eq!(code(vec![1, 0, 0, 0, 0]).await, tonic::Code::Unimplemented);
        assert_eq!(code(vec![7, 0, 0, 0, 0]).await, tonic::Code::Internal);
        assert_eq!(code(vec![0, 0, 0, 0, 1, 0xff]).await, tonic::Code::Internal);
        assert_eq!(code(vec![0, 0, 0]).await, tonic::Code::Internal);
    }
}
