//! Standard output and error of a process that serves: writing there never blocks and never fails.
//!
//! A thread for each stream writes what waits in a bounded queue. If the reader does not read, or is gone, or the disk is
//! full, texts are dropped and counted, and the process goes on. `println!` and `eprintln!` would wait for the reader, or
//! panic.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The most bytes that wait for a reader.
const LIMIT: usize = 1 << 20;

static STDOUT: OnceLock<&LossyStream> = OnceLock::new();
static STDERR: OnceLock<&LossyStream> = OnceLock::new();
/// Of all streams.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Standard output.
pub fn stdout() -> &'static LossyStream {
    STDOUT.get_or_init(|| LossyStream::start("stdout", duplicate(io::stdout().as_fd())))
}

/// Standard error.
pub fn stderr() -> &'static LossyStream {
    STDERR.get_or_init(|| LossyStream::start("stderr", duplicate(io::stderr().as_fd())))
}

/// Waits until both streams have written what they have, at most for `patience`.
pub fn flush(patience: Duration) {
    let deadline = Instant::now() + patience;
    for stream in [STDOUT.get(), STDERR.get()].into_iter().flatten() {
        stream.flush_until(deadline);
    }
}

/// How many texts this process could not write.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// A descriptor of its own, so that no lock of the standard library is held while a write waits.
fn duplicate(stream: BorrowedFd<'_>) -> io::Result<File> {
    stream.try_clone_to_owned().map(File::from)
}

/// A stream to which writing never blocks and never fails.
#[derive(Debug, Default)]
pub struct LossyStream {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What waits.
#[derive(Debug, Default)]
struct Queue {
    texts: VecDeque<Vec<u8>>,
    /// The bytes of `texts`.
    bytes: usize,
    /// A text is being written.
    busy: bool,
    /// Nobody writes: there is no descriptor or no thread.
    closed: bool,
    /// Texts that were dropped since the stream last said so.
    dropped: u64,
}

impl LossyStream {
    fn start(name: &str, file: io::Result<File>) -> &'static Self {
        let stream: &'static Self = Box::leak(Box::default());
        let thread = |file| thread::Builder::new().name(name.to_owned()).spawn(move || stream.run(file));
        if file.and_then(thread).is_err() {
            stream.lock().closed = true;
        }
        stream
    }

    /// Takes in a text, which is written as a whole or dropped.
    pub fn take(&self, text: &[u8]) {
        let mut queue = self.lock();
        if queue.closed || queue.bytes + text.len() > LIMIT {
            queue.dropped += 1;
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += text.len();
        queue.texts.push_back(text.to_vec());
        self.changed.notify_all();
    }

    /// Takes in a line; the end of the line is added.
    pub fn line(&self, line: &str) {
        self.take(format!("{line}\n").as_bytes());
    }

    fn run(&self, mut file: File) {
        let mut queue = self.lock();
        loop {
            let Some(text) = queue.texts.pop_front() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.bytes -= text.len();
            queue.busy = true;
            // What was dropped came after all that waits.
            let dropped = if queue.texts.is_empty() { queue.dropped } else { 0 };
            drop(queue);
            let written = file.write_all(&text).is_ok();
            let note = format!("({dropped} lines were dropped: nobody took them)\n");
            let noted = written && dropped > 0 && file.write_all(note.as_bytes()).is_ok();
            queue = self.lock();
            queue.busy = false;
            queue.dropped -= if noted { dropped } else { 0 };
            if !written {
                queue.dropped += 1;
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
            self.changed.notify_all();
        }
    }

    fn flush_until(&self, deadline: Instant) {
        let mut queue = self.lock();
        while !queue.closed && (queue.busy || !queue.texts.is_empty()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No write waits under this lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each call of `write` is one text.
impl Write for &LossyStream {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.take(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// A stream into a pipe, and the end that is read.
    fn pipe() -> (&'static LossyStream, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (LossyStream::start("test", Ok(File::from(std::os::fd::OwnedFd::from(writer)))), reader)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        let (stream, mut reader) = pipe();
        let line = "x".repeat(1023);
        // A pipe holds 64 KiB, the queue a MiB.
        for _ in 0..2_000 {
            stream.line(&line);
        }
        let lost = stream.lock().dropped;
        assert!((800..1_000).contains(&lost), "{lost}");
        assert!(dropped() >= lost);
        let mut seen = String::new();
        let mut bytes = [0; 4096];
        while !seen.contains("lines were dropped") {
            let length = reader.read(&mut bytes).unwrap();
            seen.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        assert!(seen.starts_with(&format!("{line}\n{line}\n")));
    }

    #[test]
    fn a_reader_that_is_gone_costs_lines_alone() {
        let (stream, reader) = pipe();
        drop(reader);
        for _ in 0..10 {
            stream.line("nobody hears this");
        }
        stream.flush_until(soon());
        assert_eq!(stream.lock().dropped, 10);
    }

    #[test]
    fn a_full_disk_costs_lines_alone() {
        let stream = LossyStream::start("test", File::options().write(true).open("/dev/full"));
        stream.line("there is no room");
        stream.flush_until(soon());
        assert_eq!(stream.lock().dropped, 1);
        let closed = LossyStream::start("test", Err(io::Error::other("no descriptor")));
        closed.line("there is no stream");
        closed.flush_until(soon());
        assert_eq!(closed.lock().dropped, 1);
    }

    #[test]
    fn what_is_read_arrives_whole_and_in_order() {
        let (stream, mut reader) = pipe();
        (0..5).for_each(|number| stream.line(&format!("line {number}")));
        stream.flush_until(soon());
        let mut text = [0; 35];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"line 0\nline 1\nline 2\nline 3\nline 4\n");
    }
}
