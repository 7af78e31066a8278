//! A ledger that can be appended to, commit by commit.

use std::{fs::File, io, path::Path, sync::Arc};

use eastwest_ca::{
    LocalIssuer, PrivateKey,
    ledger::{Event, Head, LedgerKey},
};
use eastwest_io::files;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    LedgerConfig, LedgerError, io_error,
    segment::{self, Segment, Torn},
};

const KEY: &str = "key.pem";

/// A writer of a ledger. Several processes may each have one; a lock serializes their commits.
#[derive(Debug)]
pub(crate) struct Journal {
    config: LedgerConfig,
    lock: Arc<File>,
    key: LedgerKey,
    segment: Option<Segment>,
}

impl Journal {
    /// Opens the ledger; creates it and its key if absent.
    ///
    /// # Errors
    /// The directory or the key cannot be used. The records are read with the first commit.
    pub(crate) fn open(config: &LedgerConfig) -> Result<Self, LedgerError> {
        segment::make_dir(&config.dir)?;
        let lock = segment::lock_file(&config.dir)?;
        Ok(Self { lock: Arc::new(lock), key: key(&config.dir)?, segment: None, config: config.clone() })
    }

    /// Appends `events` and a checkpoint. When this returns, they are on the disk.
    ///
    /// # Errors
    /// Nothing was written, or what was written is cut off by the next commit.
    pub(crate) fn commit(
        &mut self,
        events: &[Event],
        issuer: &LocalIssuer,
        now: OffsetDateTime,
    ) -> Result<(), LedgerError> {
        let lock = Arc::clone(&self.lock);
        let _turn = Turn::take(&lock, &self.config.dir)?;
        let repaired = self.catch_up()?;
        let signer = (self.key.id().to_owned(), issuer.key_sha256());
        let segment = match &mut self.segment {
            Some(segment) if !is_full(&self.config, segment, now) => segment,
            old => old.insert(follow(&self.config.dir, old.as_ref(), now)?),
        };
        let begun = (segment.length == 0)
            .then_some(Event::Segment { number: segment.number, previous: segment.head.hash });
        let certified = match segment.signer.as_ref() == Some(&signer) {
            true => None,
            false => Some(self.key.certify(issuer, now).map_err(record_error)?),
        };

        let (mut head, mut lines) = (segment.head, Vec::new());
        for event in begun.iter().chain(&certified).chain(&repaired).chain(events) {
            head.append(event, now, &mut lines).map_err(record_error)?;
        }
        let checkpoint = self.key.checkpoint(head.hash).map_err(record_error)?;
        head.append(&checkpoint, now, &mut lines).map_err(record_error)?;
        segment.append(&lines, head)?;
        segment.signer = Some(signer);
        Ok(())
    }

    /// Bytes of the newest segment and its number.
    pub(crate) fn size(&self) -> (u64, u64) {
        self.segment.as_ref().map_or((0, 0), |segment| (segment.length, segment.number))
    }

    /// The position and hash of the last record.
    pub(crate) fn head(&self) -> Head {
        self.segment.as_ref().map_or(Head::GENESIS, |segment| segment.head)
    }

    /// Reads what other processes have appended, and records what a crash left of an incomplete commit.
    fn catch_up(&mut self) -> Result<Option<Event>, LedgerError> {
        let dir = &self.config.dir;
        let torn = match &mut self.segment {
            Some(segment) if !segment::is_followed(dir, segment.number) => segment.catch_up()?,
            _ => {
                let (segment, torn) = newest(dir)?;
                self.segment = segment;
                torn
            }
        };
        let Some(Torn { bytes, sha256 }) = torn else { return Ok(None) };
        tracing::warn!(bytes, sha256, "ledger: the end of an unfinished write was cut off");
        Ok(Some(Event::Repaired { bytes, sha256 }))
    }
}

fn is_full(config: &LedgerConfig, segment: &Segment, now: OffsetDateTime) -> bool {
    segment.length >= config.segment_bytes || now - segment.began >= config.segment_age
}

/// The segment after `old`, or the first.
fn follow(dir: &Path, old: Option<&Segment>, now: OffsetDateTime) -> Result<Segment, LedgerError> {
    let (number, head) = old.map_or((1, Head::GENESIS), |old| (old.number + 1, old.head));
    tracing::info!(segment = number, seq = head.next, previous = %head.hash, "ledger begins a segment");
    Segment::create(dir, number, head, now)
}

/// The newest segment with a first line, and what was cut off after it.
fn newest(dir: &Path) -> Result<(Option<Segment>, Option<Torn>), LedgerError> {
    let numbers = segment::numbers(dir)?;
    segment::check_sequence(dir, &numbers)?;
    let mut cut = None;
    for number in numbers.into_iter().rev() {
        let (segment, torn) = Segment::open(dir, number)?;
        cut = cut.or(torn);
        if segment.is_some() {
            return Ok((segment, cut));
        }
    }
    Ok((None, cut))
}

fn record_error(error: impl ToString) -> LedgerError {
    LedgerError::Record(error.to_string())
}

/// The ledger key, created if absent. If several processes create it at the same time, all use the first one.
fn key(dir: &Path) -> Result<LedgerKey, LedgerError> {
    let path = dir.join(KEY);
    let reason = |reason: String| LedgerError::Key { path: path.clone(), reason };
    if !path.exists() {
        let key = PrivateKey::generate().map_err(|error| reason(error.to_string()))?;
        files::create(&path, key.to_pem().as_bytes(), files::SECRET).map_err(io_error("write", &path))?;
    }
    let mode = files::mode(&path).map_err(io_error("read", &path))?;
    if mode & 0o077 != 0 {
        return Err(reason(format!("mode {mode:03o} lets others in; run: chmod 600")));
    }
    let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(io_error("read", &path))?);
    let key = PrivateKey::from_pem(&text).map_err(|error| reason(error.to_string()))?;
    LedgerKey::new(key).map_err(|error| reason(error.to_string()))
}

/// The lock of a commit, held until it is dropped.
struct Turn<'a>(&'a File);

impl<'a> Turn<'a> {
    fn take(lock: &'a File, dir: &Path) -> Result<Self, LedgerError> {
        loop {
            match lock.lock() {
                Ok(()) => return Ok(Self(lock)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("lock", dir)(error)),
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = self.0.unlock(); // closing the file does so too
    }
}
