//! Requests whose `:authority` is the path of the socket.
//!
//! HTTP/2 requires a host there (RFC 9113 §8.3.1), and the HTTP library refuses a request with any other value. But
//! over a unix socket gRPC for Python, C++, Ruby and Java sends the path, percent-encoded or not. The value is not used
//! here, so it is corrected while it is read: characters are replaced in place, one by one, which leaves every length
//! and the header tables of both sides unchanged.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Length of the connection preface of a client (RFC 9113 §3.4), in bytes.
const PREFACE: usize = 24;
/// Length of the header of a frame (RFC 9113 §4.1), in bytes.
const HEAD: usize = 9;
/// Largest frame that clients may send, because no larger ones are announced.
const MAX_FRAME: usize = 1 << 14;
/// Bytes read at a time.
const CHUNK: usize = 16 << 10;

const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A connection whose incoming requests all have an acceptable `:authority`.
#[derive(Debug)]
pub(crate) struct AnyAuthority<S> {
    stream: S,
    /// Read from the stream, not yet passed on.
    bytes: BytesMut,
    /// How many of them may be passed on.
    released: usize,
    /// How many more may be passed on before the next header of a frame.
    passing: usize,
}

impl<S> AnyAuthority<S> {
    /// Reads from `stream`, at its very beginning.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, bytes: BytesMut::new(), released: 0, passing: PREFACE }
    }

    /// Releases what is complete: HEADERS frames as a whole, all others byte by byte.
    fn release(&mut self) {
        loop {
            let step = self.passing.min(self.bytes.len() - self.released);
            self.released += step;
            self.passing -= step;
            let rest = &mut self.bytes[self.released..];
            let (0, Some(head)) = (self.passing, rest.first_chunk::<HEAD>()) else { return };
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            if kind == HEADERS && flags & END_HEADERS != 0 && length <= MAX_FRAME {
                let Some(payload) = rest.get_mut(HEAD..HEAD + length) else { return };
                // The HTTP library refuses a malformed one.
                let _ = correct(payload, flags);
            }
            self.passing = HEAD + length;
        }
    }
}

/// Corrects `:authority` in the payload of a HEADERS frame (RFC 9113 §6.2); `None` if it is malformed.
fn correct(payload: &mut [u8], flags: u8) -> Option<()> {
    let mut block = payload;
    if flags & PADDED != 0 {
        let padding = usize::from(*block.first()?);
        let end = block.len().checked_sub(padding)?;
        block = block.get_mut(1..end)?;
    }
    if flags & PRIORITY != 0 {
        block = block.get_mut(5..)?;
    }
    let mut rest = Block(block);
    while !rest.0.is_empty() {
        rest.field()?;
    }
    Some(())
}

/// The rest of a header block (RFC 7541).
struct Block<'a>(&'a mut [u8]);

impl<'a> Block<'a> {
    /// One field, corrected if it is `:authority` in plain text (RFC 7541 §6).
    fn field(&mut self) -> Option<()> {
        let prefix = match *self.0.first()? {
            0x80.. => return self.integer(7).map(drop),
            0x40.. => 6,
            0x20.. => return self.integer(5).map(drop),
            _ => 4,
        };
        // Entry 1 of the static table is `:authority` (RFC 7541 appendix A).
        let authority = match self.integer(prefix)? {
            0 => self.string()?.1 == b":authority",
            index => index == 1,
        };
        let (coded, value) = self.string()?;
        if authority && !coded && Authority::try_from(&*value).is_err() {
            value.iter_mut().filter(|byte| !byte.is_ascii_alphanumeric()).for_each(|byte| *byte = b'-');
        }
        Some(())
    }

    /// An integer in the lower `prefix` bits and the bytes that follow (RFC 7541 §5.1).
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let mask = (1_usize << prefix) - 1;
        let mut value = usize::from(self.take(1)?[0]) & mask;
        if value < mask {
            return Some(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.take(1)?[0]);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A string and whether it is Huffman-coded (RFC 7541 §5.2).
    fn string(&mut self) -> Option<(bool, &'a mut [u8])> {
        let coded = *self.0.first()? & 0x80 != 0;
        let length = self.integer(7)?;
        Some((coded, self.take(length)?))
    }

    fn take(&mut self, length: usize) -> Option<&'a mut [u8]> {
        let (taken, rest) = std::mem::take(&mut self.0).split_at_mut_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.released == 0 {
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut chunk))?;
            this.bytes.extend_from_slice(chunk.filled());
            if chunk.filled().is_empty() {
                this.released = this.bytes.len(); // the end, perhaps within a frame
                break;
            }
            this.release();
        }
        let step = this.released.min(buffer.remaining());
        buffer.put_slice(&this.bytes[..step]);
        this.bytes.advance(step);
        this.released -= step;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: Connected> Connected for AnyAuthority<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What comes out when `sent` comes in, `step` bytes at a time.
    async fn through(sent: &[u8], step: usize) -> Vec<u8> {
        let (mut near, far) = tokio::io::duplex(step);
        let sent = sent.to_vec();
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut near, &sent).await });
        let mut received = Vec::new();
        AnyAuthority::new(far).read_to_end(&mut received).await.unwrap();
        received
    }

    /// A connection with `block` as the headers of its one request, between other frames.
    fn connection(flags: u8, block: &[u8]) -> Vec<u8> {
        let settings = frame(4, 0, &[0; 6]);
        let data = frame(0, 1, b"\x40\x0a:authority\x06a%2F/b");
        [&[b'P'; PREFACE][..], &settings, &frame(HEADERS, flags, block), &data].concat()
    }

    #[tokio::test]
    async fn a_path_becomes_a_name_of_the_same_length_and_all_else_stays() {
        for (block, amended) in [
            (&b"\x40\x0a:authority\x0c%2Frun%2Fx.s"[..], &b"\x40\x0a:authority\x0c-2Frun-2Fx-s"[..]),
            (b"\x83\x41\x06/run/x\x86", b"\x83\x41\x06-run-x\x86"),
            (b"\x3f\xe1\x1f\x01\x06/run/x", b"\x3f\xe1\x1f\x01\x06-run-x"),
            (b"\x11\x06/run/x", b"\x11\x06-run-x"),
            (b"\x41\x09localhost", b"\x41\x09localhost"),
            (b"\x41\x0e127.0.0.1:8080", b"\x41\x0e127.0.0.1:8080"),
            (b"\x44\x06/run/x", b"\x44\x06/run/x"),
            // Huffman-coded, malformed, endless: as it came.
            (b"\x41\x86/run/x", b"\x41\x86/run/x"),
            (b"\x41\x7f\xff\xff\xff\xff\xff/run", b"\x41\x7f\xff\xff\xff\xff\xff/run"),
            (b"\x41\x20/run", b"\x41\x20/run"),
        ] {
            for step in [1, 7, 4096] {
                let received = through(&connection(END_HEADERS, block), step).await;
                assert_eq!(received, connection(END_HEADERS, amended), "{block:?} by {step}");
            }
        }
    }

    #[tokio::test]
    async fn padding_and_priority_are_passed_over() {
        let block = [&[3, 0, 0, 0, 0, 9][..], b"\x41\x02//", b"/%/"].concat();
        let received = through(&connection(END_HEADERS | PADDED | PRIORITY, &block), 3).await;
        let amended = [&[3, 0, 0, 0, 0, 9][..], b"\x41\x02--", b"/%/"].concat();
        assert_eq!(received, connection(END_HEADERS | PADDED | PRIORITY, &amended));
        for block in [&b""[..], b"\xff", b"\x01"] {
            let sent = connection(END_HEADERS | PADDED | PRIORITY, block);
            assert_eq!(through(&sent, 64).await, sent, "malformed");
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_arrives_as_far_as_it_came() {
        let sent = connection(END_HEADERS, b"\x41\x06/run/x");
        for end in 0..sent.len() {
            assert_eq!(through(&sent[..end], 16).await.len(), end);
        }
    }
}
