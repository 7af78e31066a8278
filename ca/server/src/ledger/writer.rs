//! The thread that writes the ledger, on the disk or in the log.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use eastwest_ca::{
    LocalIssuer,
    ledger::{Event, Issued, JwtSvid, Refusals, Refused, Requester},
};
use eastwest_io::defects;
use thiserror::Error;
use time::OffsetDateTime;

use super::{LedgerConfig, LedgerError, book::Book};

/// The capacity of the queue of records; signing waits when it is full.
const QUEUE: usize = 4096;
/// Most records of one commit.
const BATCH: usize = 1024;
/// How long refusals of one source are counted before the count is written.
const WINDOW: time::Duration = time::Duration::minutes(1);
/// The largest number of sources that are named in that time: unauthenticated ones, and callers.
const MAX_STRANGERS: usize = 64;
const MAX_CALLERS: usize = 1024;
/// Most refusals that are kept while the disk is full.
const MAX_CARRIED: usize = 1024;
/// How long a commit waits for more records under load: the cost of a commit hardly depends on the number of records.
const LINGER: Duration = Duration::from_millis(2);
/// How often writing is tried again while it fails.
const RETRY: Duration = Duration::from_secs(5);

/// The record was not written, so its certificate or token must not be returned. The log has the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the ledger cannot be written")]
pub struct Unwritten;

/// Returns the current issuer, which certifies the key of the ledger.
pub(crate) type IssuerInForce = Box<dyn Fn() -> Arc<LocalIssuer> + Send>;

/// What to do when a record is on the disk, or could not be written.
type Done = Box<dyn FnOnce(Result<Event, Unwritten>) + Send>;

enum Message {
    /// A request waits for it.
    Awaited(Event, Done),
    Refused(Box<Refused>),
}

/// State of the ledger, for metrics and readiness.
#[derive(Debug, Default)]
pub(crate) struct LedgerState {
    /// Whether the last commit failed.
    pub(crate) failing: AtomicBool,
    /// Records that wait.
    pub(crate) waiting: AtomicU64,
    /// Commits so far.
    pub(crate) commits: AtomicU64,
    /// Records so far, in the whole ledger.
    pub(crate) records: AtomicU64,
    /// Bytes of the newest segment.
    pub(crate) bytes: AtomicU64,
    /// Number of the newest segment.
    pub(crate) segment: AtomicU64,
    /// Refusals that could not be queued or kept; they are counted in a record of their own.
    pub(crate) uncounted: AtomicU64,
}

/// The ledger as the rest of the CA uses it. Dropping it writes the waiting records.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
    state: Arc<LedgerState>,
    /// Whether the records are kept; else they are in the log.
    kept: bool,
}

impl Writer {
    /// Opens the ledger and starts the thread; without `config`, records go to the log. The issuer that `issuer` gives certifies its key.
    ///
    /// # Errors
    /// The ledger cannot be used or written.
    pub(crate) fn start(config: Option<&LedgerConfig>, issuer: IssuerInForce) -> Result<Self, LedgerError> {
        let mut book = Book::open(config)?;
        book.commit(&[], &issuer(), OffsetDateTime::now_utc())?;
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        let state = Arc::new(LedgerState::default());
        let scribe = Scribe {
            book,
            issuer,
            state: Arc::clone(&state),
            strangers: Refusals::new(WINDOW, MAX_STRANGERS),
            callers: Refusals::new(WINDOW, MAX_CALLERS),
            carried: Vec::new(),
        };
        scribe.note_size();
        let thread = thread::Builder::new().name("ca-ledger".to_owned()).spawn(move || {
            // Half a commit may be written: only a start finds out what is on the disk.
            defects::vital("the thread that writes the ledger", || scribe.run(&messages));
        });
        let thread = thread.map_err(|source| thread_error(config, source))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), state, kept: config.is_some() })
    }

    /// Whether the records are kept; else each of them is in the log.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Writes that a certificate was issued, then calls `done`. Waits while too many records wait.
    pub(crate) fn issued(
        &self,
        issued: Issued,
        done: impl FnOnce(Result<Issued, Unwritten>) + Send + 'static,
    ) {
        self.write(Event::Issued(Box::new(issued)), |written| {
            done(written.and_then(|event| match event {
                Event::Issued(issued) => Ok(*issued),
                _ => Err(Unwritten),
            }));
        });
    }

    /// The same for a JWT-SVID.
    pub(crate) fn jwt_svid(
        &self,
        svid: JwtSvid,
        done: impl FnOnce(Result<JwtSvid, Unwritten>) + Send + 'static,
    ) {
        self.write(Event::JwtSvid(Box::new(svid)), |written| {
            done(written.and_then(|event| match event {
                Event::JwtSvid(svid) => Ok(*svid),
                _ => Err(Unwritten),
            }));
        });
    }

    /// Writes `event`, then calls `done` with that same one.
    fn write(&self, event: Event, done: impl FnOnce(Result<Event, Unwritten>) + Send + 'static) {
        count(&self.state.waiting);
        let Some(queue) = &self.queue else { return };
        if let Err(mpsc::SendError(Message::Awaited(_, done))) =
            queue.send(Message::Awaited(event, Box::new(done)))
        {
            done(Err(Unwritten)); // the thread has ended, which must not happen
        }
    }

    /// Writes a refusal. No request waits for it.
    pub(crate) fn refused(&self, refused: Refused) {
        count(&self.state.waiting);
        let message = Message::Refused(Box::new(refused));
        if self.queue.as_ref().is_none_or(|queue| queue.try_send(message).is_err()) {
            self.state.waiting.fetch_sub(1, Ordering::Relaxed);
            count(&self.state.uncounted);
        }
    }

    /// The state of the ledger.
    pub(crate) fn state(&self) -> &LedgerState {
        &self.state
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // errors are in the log
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn thread_error(config: Option<&LedgerConfig>, source: io::Error) -> LedgerError {
    let path = config.map(|config| config.dir.clone()).unwrap_or_default();
    LedgerError::Io { action: "start the thread that writes", path, source }
}

/// The writing thread.
struct Scribe {
    book: Book,
    issuer: IssuerInForce,
    state: Arc<LedgerState>,
    strangers: Refusals,
    callers: Refusals,
    /// Refusals of commits that failed.
    carried: Vec<Event>,
}

impl Scribe {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut crowded = false;
        loop {
            let first = match messages.recv_timeout(self.patience()) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if crowded {
                thread::sleep(LINGER);
            }
            let batch: Vec<Message> = first.into_iter().chain(messages.try_iter().take(BATCH)).collect();
            crowded = batch.len() > 1;
            self.commit(batch);
        }
        let counts = self.strangers.take().into_iter().chain(self.callers.take());
        self.carried.extend(counts.map(|refused| Event::Refused(Box::new(refused))));
        self.commit(Vec::new());
        self.book.close();
    }

    /// How long to wait for a message: until counts are due, or until a failing disk is tried again.
    fn patience(&self) -> Duration {
        if self.state.failing.load(Ordering::Relaxed) {
            return RETRY;
        }
        let due = self.strangers.due().into_iter().chain(self.callers.due()).min();
        let left = due.map(|due| due - OffsetDateTime::now_utc());
        left.map_or(Duration::MAX, |left| Duration::try_from(left).unwrap_or_default())
    }

    fn commit(&mut self, messages: Vec<Message>) {
        if !messages.is_empty() {
            defects::fault("ledger");
        }
        let now = OffsetDateTime::now_utc();
        let mut events = std::mem::take(&mut self.carried);
        let mut answers: VecDeque<Done> = VecDeque::new();
        for message in messages {
            self.state.waiting.fetch_sub(1, Ordering::Relaxed);
            match message {
                Message::Awaited(event, done) => {
                    events.push(event);
                    answers.push_back(done);
                }
                Message::Refused(refused) => {
                    let class = match refused.requester.caller {
                        Some(_) => &mut self.callers,
                        None => &mut self.strangers,
                    };
                    events.extend(class.note(*refused, now).map(|now| Event::Refused(Box::new(now))));
                }
            }
        }
        events.extend(self.crowd());
        let counts = self.strangers.take_due(now).into_iter().chain(self.callers.take_due(now));
        events.extend(counts.map(|refused| Event::Refused(Box::new(refused))));
        let failing = self.state.failing.load(Ordering::Relaxed);
        if events.is_empty() && !failing {
            return;
        }
        let written = self.book.commit(&events, &(self.issuer)(), now);
        if let Err(error) = &written {
            tracing::error!(%error, "the ledger cannot be written: no certificate is issued until it can");
        } else if failing {
            tracing::info!("the ledger can be written again");
        }
        self.state.failing.store(written.is_err(), Ordering::Relaxed);
        count(&self.state.commits);
        self.note_size();
        for event in events {
            match event {
                awaited @ (Event::Issued(_) | Event::JwtSvid(_)) => {
                    if let Some(done) = answers.pop_front() {
                        done(if written.is_ok() { Ok(awaited) } else { Err(Unwritten) });
                    }
                }
                refused if written.is_err() => self.carry(refused),
                _ => {}
            }
        }
    }

    /// Keeps a refusal for the next commit, unless too many are kept already.
    fn carry(&mut self, event: Event) {
        if self.carried.len() < MAX_CARRIED {
            self.carried.push(event);
        } else {
            count(&self.state.uncounted);
        }
    }

    /// One record that counts the refusals that were not kept.
    fn crowd(&self) -> Option<Event> {
        let count = self.state.uncounted.swap(0, Ordering::Relaxed);
        let reason = "more refusals at once than the ledger takes in";
        let refused = Refused { count, ..Refused::new("Unknown", reason, Requester::default()) };
        (count > 0).then(|| Event::Refused(Box::new(refused)))
    }

    fn note_size(&self) {
        let (bytes, segment, records) = self.book.size();
        if records > 0 {
            self.state.bytes.store(bytes, Ordering::Relaxed);
            self.state.segment.store(segment, Ordering::Relaxed);
            self.state.records.store(records, Ordering::Relaxed);
        }
    }
}
