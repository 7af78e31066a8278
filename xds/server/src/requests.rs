//! The requests of a stream, read from the HTTP body.
//!
//! tonic's decoder keeps a buffer as large as the largest request for as long as the stream lives. A proxy names its
//! endpoints once, in 50 KB or more, and sends small ACKs from then on; here the buffer is given back when it is empty.

use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message;
use tonic::{Status, body::Body};

use crate::status;

/// The largest request that is read, in bytes (XDS.md X55).
const MAX_REQUEST: usize = 4 * 1024 * 1024;
/// Flag and length before each message.
const HEADER: usize = 5;

/// The requests of one stream.
pub(crate) struct Requests<M> {
    body: Body,
    buffer: BytesMut,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Requests<M> {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), message: PhantomData }
    }

    /// The next request; `None` when the client has closed its side. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` for a request that is too large, `UNIMPLEMENTED` for a compressed one, `INTERNAL` for bytes that are
    /// no request, and what the transport reports.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.decode()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                // Trailers of a request mean nothing.
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
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
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        message.map(Some).map_err(|error| Status::internal(format!("the request does not decode: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eastwest_proto::envoy::service::discovery::v3::DiscoveryRequest;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

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
        Requests::new(Body::new(StreamBody::new(stream::iter(frames))))
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
