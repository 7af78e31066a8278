//! A TCP stream that sends small writes together. The gRPC port with TLS uses it, no other.
//!
//! HTTP/2 flushes the beginning of a response before it writes the trailers, and flushes each of several responses. A
//! write to a socket costs as much as the rest of HTTP/2 for that response, so bytes that a task writes in one poll are
//! held until its next poll (`docs/BENCHMARKS.md`).
//!
//! A flush returns before the bytes are sent. That is correct only for a task that reads after each flush until there
//! is nothing to read, in that poll or in the next one, for which the flush wakes it. HTTP/2 does so; the test
//! `http2_reads_after_each_flush` holds it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Most bytes that are held.
const MOST: usize = 32 * 1024;
/// Capacity that is kept while nothing is held: there are many idle connections.
const ROOM: usize = 4 * 1024;

/// Holds written bytes until the next poll of its task. A flush wakes the task; the bytes are sent by the read of that
/// poll that finds nothing.
#[derive(Debug)]
pub(crate) struct Corked {
    stream: TcpStream,
    held: Vec<u8>,
    /// Bytes of `held` that are written.
    written: usize,
    flush: Flush,
    /// Whether the last read found nothing.
    dry: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// Not requested.
    None,
    /// Requested in a poll that is still reading, so it may write more.
    Requested,
    /// The next read that finds nothing sends the bytes.
    Due,
    /// Begun; the socket did not take everything.
    Begun,
}

impl Corked {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, held: Vec::new(), written: 0, flush: Flush::None, dry: false }
    }

    /// Continues a requested flush, after a read that found nothing.
    fn continue_flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.flush {
            Flush::None => Ok(()),
            Flush::Requested => {
                self.flush = Flush::Due;
                cx.waker().wake_by_ref();
                Ok(())
            }
            Flush::Due | Flush::Begun => match self.poll_drain(cx) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => Ok(()), // the socket wakes the task
            },
        }
    }

    /// Sends everything that is held.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.held.len() {
            self.flush = Flush::Begun;
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held[self.written..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
        }
        self.held.clear();
        self.held.shrink_to(ROOM);
        self.written = 0;
        self.flush = Flush::None;
        Poll::Ready(Ok(()))
    }

    /// Makes room for at least one byte.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.len() < MOST && self.flush != Flush::Begun {
            return Poll::Ready(Ok(()));
        }
        self.poll_drain(cx)
    }

    /// Holds as much of `bytes` as there is room for. Returns how much.
    fn hold(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(MOST.saturating_sub(self.held.len()));
        self.held.extend_from_slice(&bytes[..n]);
        n
    }
}

impl AsyncRead for Corked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.dry = read.is_pending();
        if this.dry {
            this.continue_flush(cx)?;
        }
        read
    }
}

impl AsyncWrite for Corked {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        Poll::Ready(Ok(this.hold(bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_room(cx))?;
        Poll::Ready(Ok(parts.iter().map(|part| this.hold(part)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.flush {
            Flush::None if !this.held.is_empty() => {
                this.flush = if this.dry { Flush::Due } else { Flush::Requested };
                cx.waker().wake_by_ref();
                Poll::Ready(Ok(()))
            }
            Flush::None | Flush::Requested | Flush::Due => Poll::Ready(Ok(())),
            Flush::Begun => this.poll_drain(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// Sends what is held when the stream fails, for example the alert of a failed handshake.
impl Drop for Corked {
    fn drop(&mut self) {
        if self.written < self.held.len() {
            let _ = self.stream.try_write(&self.held[self.written..]); // if this fails, the peer receives nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Ready, poll_fn},
        sync::{Arc, Mutex},
        time::Duration,
    };

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::mpsc,
        time::timeout,
    };
    use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
    use tonic::{
        body::Body,
        server::NamedService,
        transport::{Server, server::Connected},
    };
    use tower::Service;

    use super::*;

    async fn pair() -> (Corked, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Corked::new(listener.accept().await.unwrap().0), peer)
    }

    /// What the peer receives.
    async fn received(peer: &mut TcpStream) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        let n = timeout(Duration::from_secs(5), peer.read(&mut bytes)).await.unwrap().unwrap();
        bytes.truncate(n);
        bytes
    }

    /// One poll of a task: reads until there is nothing, then writes each part and flushes it.
    async fn turn(stream: &mut Corked, parts: &[&[u8]]) {
        poll_fn(|cx| {
            let mut bytes = [0; 64];
            assert!(Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut bytes)).is_pending());
            for part in parts {
                assert!(Pin::new(&mut *stream).poll_write(cx, part).is_ready());
                assert!(Pin::new(&mut *stream).poll_flush(cx).is_ready());
            }
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_flushed_in_one_turn_leaves_together_in_the_next() {
        let (mut stream, mut peer) = pair().await;
        turn(&mut stream, &[b"answer", b" and ", b"trailers"]).await;
        let mut none = [0];
        assert_eq!(peer.try_read(&mut none).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        turn(&mut stream, &[]).await;
        assert_eq!(received(&mut peer).await, b"answer and trailers");
    }

    #[tokio::test]
    async fn a_flush_between_reads_waits_for_what_the_turn_writes_later() {
        let (mut stream, mut peer) = pair().await;
        peer.write_all(b"preface").await.unwrap();
        stream.read_exact(&mut [0; 7]).await.unwrap();
        stream.write_all(b"settings").await.unwrap();
        stream.flush().await.unwrap();
        turn(&mut stream, &[b", acknowledged"]).await;
        turn(&mut stream, &[]).await;
        assert_eq!(received(&mut peer).await, b"settings, acknowledged");
    }

    #[tokio::test]
    async fn a_flush_is_sent_without_another_wake_up() {
        let (mut stream, mut peer) = pair().await;
        let asking = tokio::spawn(async move {
            stream.write_all(b"question").await.unwrap();
            stream.flush().await.unwrap();
            stream.read_exact(&mut [0; 6]).await.unwrap();
        });
        assert_eq!(received(&mut peer).await, b"question");
        peer.write_all(b"answer").await.unwrap();
        timeout(Duration::from_secs(5), asking).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_slow_peer_holds_the_writer_up_and_misses_nothing() {
        let (mut stream, mut peer) = pair().await;
        let sent: Vec<u8> = (0..8_000_000_u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            for part in sent.chunks(16_384) {
                stream.write_all(part).await.unwrap();
                stream.flush().await.unwrap();
            }
            stream.shutdown().await.unwrap();
        });
        tokio::task::yield_now().await;
        assert!(!writing.is_finished(), "the socket cannot have taken it all");
        let mut received = Vec::new();
        timeout(Duration::from_secs(30), peer.read_to_end(&mut received)).await.unwrap().unwrap();
        writing.await.unwrap();
        assert!(received == expected);
    }

    #[tokio::test]
    async fn what_is_held_is_sent_on_drop() {
        let (mut stream, mut peer) = pair().await;
        stream.write_all(b"alert").await.unwrap();
        drop(stream);
        assert_eq!(received(&mut peer).await, b"alert");
    }

    #[tokio::test]
    async fn little_memory_is_kept_while_nothing_is_held() {
        let (mut stream, mut peer) = pair().await;
        stream.write_all(&[7; 20_000]).await.unwrap();
        assert!(stream.held.capacity() >= 20_000);
        stream.flush().await.unwrap();
        turn(&mut stream, &[]).await;
        turn(&mut stream, &[]).await;
        peer.read_exact(&mut [0; 20_000]).await.unwrap();
        assert!(stream.held.capacity() <= ROOM);
    }

    impl Connected for Corked {
        type ConnectInfo = ();

        fn connect_info(&self) {}
    }

    /// Answers every call with a stream of the messages that it is given.
    #[derive(Clone)]
    struct Pushes(Arc<Mutex<Option<mpsc::Receiver<Bytes>>>>);

    impl NamedService for Pushes {
        const NAME: &'static str = "test.Pushes";
    }

    impl Service<Request<Body>> for Pushes {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let messages = ReceiverStream::new(self.0.lock().unwrap().take().unwrap());
            let frames = messages.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
            std::future::ready(Ok(Response::new(Body::new(StreamBody::new(frames)))))
        }
    }

    /// The assumption of this module: HTTP/2 reads after each flush, also while its peer sends nothing. Otherwise a
    /// message of the server would stay here.
    #[tokio::test]
    async fn http2_reads_after_each_flush() {
        let (server, peer) = pair().await;
        let (push, messages) = mpsc::channel(1);
        let service = Pushes(Arc::new(Mutex::new(Some(messages))));
        let connections = tokio_stream::once(Ok::<_, io::Error>(server)).chain(tokio_stream::pending());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(connections));
        let (mut client, connection) = h2::client::handshake(peer).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("http://test/test.Pushes/Follow").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let wait = Duration::from_secs(5);
        let mut body = timeout(wait, response).await.expect("the head arrives").unwrap().into_body();
        for message in [&b"first"[..], b"second", b"third"] {
            tokio::time::sleep(Duration::from_millis(50)).await; // until the connection is idle
            push.send(Bytes::from_static(message)).await.unwrap();
            let data = timeout(wait, body.data()).await.expect("the message arrives");
            assert_eq!(data.unwrap().unwrap(), message);
        }
        drop(push);
        let end = timeout(wait, body.data()).await.expect("the end arrives");
        assert!(end.is_none_or(|last| last.unwrap().is_empty()) && body.is_end_stream());
    }
}
