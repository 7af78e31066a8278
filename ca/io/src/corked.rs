//! A TCP stream whose small writes leave together.
//!
//! HTTP/2 flushes the beginning of an answer before it writes the trailers, and each of several answers for itself.
//! Every write to a socket costs as much as the rest of HTTP/2 for that answer, so what is written in one turn of a
//! task is held until its next.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Bytes that are held at most before they are written whatever comes.
const MOST: usize = 32 * 1024;
/// Bytes for which room is kept while nothing is held: idle connections are many.
const ROOM: usize = 4 * 1024;

/// Holds what is written until its task has had a turn more. A flush is a promise, and wakes the task to keep it: it is
/// kept by the read that finds nothing in that turn. HTTP/2 reads in each of its turns until there is nothing.
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
    /// Nobody asked for it.
    Unasked,
    /// Asked for in a turn that is still reading, so there may be more to write in it.
    Promised,
    /// The next read that finds nothing writes.
    Due,
    /// Begun; the socket took not everything.
    Begun,
}

impl Corked {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, held: Vec::new(), written: 0, flush: Flush::Unasked, dry: false }
    }

    /// What a read that found nothing does about a flush.
    fn keep_promise(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.flush {
            Flush::Unasked => Ok(()),
            Flush::Promised => {
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

    /// Writes everything that is held.
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
        self.flush = Flush::Unasked;
        Poll::Ready(Ok(()))
    }

    /// Makes room for at least one byte.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.len() < MOST && self.flush != Flush::Begun {
            return Poll::Ready(Ok(()));
        }
        self.poll_drain(cx)
    }

    /// Holds as much of `bytes` as there is room for, and says how much.
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
            this.keep_promise(cx)?;
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
            Flush::Unasked if !this.held.is_empty() => {
                this.flush = if this.dry { Flush::Due } else { Flush::Promised };
                cx.waker().wake_by_ref();
                Poll::Ready(Ok(()))
            }
            Flush::Unasked | Flush::Promised | Flush::Due => Poll::Ready(Ok(())),
            Flush::Begun => this.poll_drain(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

/// A stream that fails leaves something behind that its peer should hear, for instance why a handshake failed.
impl Drop for Corked {
    fn drop(&mut self) {
        if self.written < self.held.len() {
            let _ = self.stream.try_write(&self.held[self.written..]); // or else it hears nothing, as without us
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    async fn pair() -> (Corked, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Corked::new(listener.accept().await.unwrap().0), peer)
    }

    /// What the peer hears within a moment.
    async fn heard(peer: &mut TcpStream) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        let n = timeout(Duration::from_secs(5), peer.read(&mut bytes)).await.unwrap().unwrap();
        bytes.truncate(n);
        bytes
    }

    /// One turn of a task: reads until there is nothing, then writes each part and flushes it.
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
        assert_eq!(heard(&mut peer).await, b"answer and trailers");
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
        assert_eq!(heard(&mut peer).await, b"settings, acknowledged");
    }

    /// Also with nobody else to wake it.
    #[tokio::test]
    async fn whoever_waits_for_an_answer_has_its_question_sent() {
        let (mut stream, mut peer) = pair().await;
        let asking = tokio::spawn(async move {
            stream.write_all(b"question").await.unwrap();
            stream.flush().await.unwrap();
            stream.read_exact(&mut [0; 6]).await.unwrap();
        });
        assert_eq!(heard(&mut peer).await, b"question");
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
    async fn last_words_are_heard() {
        let (mut stream, mut peer) = pair().await;
        stream.write_all(b"alert").await.unwrap();
        drop(stream);
        assert_eq!(heard(&mut peer).await, b"alert");
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
}
