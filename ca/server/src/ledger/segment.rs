//! The files of a ledger: `00000001.jsonl` and so on.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use eastwest_ca::ledger::{Event, Hash, Head, Record, chain::Line};
use eastwest_io::files;
use ring::digest;
use time::OffsetDateTime;

use super::{LedgerError, io_error};

const EXTENSION: &str = "jsonl";
const LOCK: &str = "lock";
/// No line is longer, in bytes.
const LONGEST_LINE: u64 = 256 * 1024;

/// Creates the directory of a ledger, if absent.
pub(super) fn make_dir(dir: &Path) -> Result<(), LedgerError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create the directory", dir))
}

/// The file that is locked during a commit.
pub(super) fn lock_file(dir: &Path) -> Result<File, LedgerError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().create(true).append(true).mode(files::SECRET).open(&path);
    file.map_err(io_error("open", &path))
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.{EXTENSION}"))
}

/// Whether a segment follows the one with this number.
pub(super) fn is_followed(dir: &Path, number: u64) -> bool {
    path(dir, number + 1).exists()
}

/// The numbers of the segments in `dir`, in order.
pub(super) fn numbers(dir: &Path) -> Result<Vec<u64>, LedgerError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("read", dir))? {
        let path = entry.map_err(io_error("read", dir))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(number) = stem.and_then(|stem| stem.parse().ok())
            && path.extension().is_some_and(|extension| extension == EXTENSION)
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Checks that the segments `numbers` follow each other, by the first and the last record of each. None may be missing, be a
/// copy of another, or be another ledger's. Their content is not read.
pub(super) fn check_sequence(dir: &Path, numbers: &[u64]) -> Result<(), LedgerError> {
    let mut before: Option<(u64, Hash)> = None;
    for &number in numbers {
        let path = path(dir, number);
        let wrong = |reason: String| LedgerError::Sequence { path: path.clone(), reason };
        let Ends { first, last } = Ends::read(&path).map_err(io_error("read", &path))?;
        let newest = numbers.last() == Some(&number);
        let Some(Beginning { number: named, head, .. }) = first.as_deref().and_then(beginning) else {
            // A crash may have left the newest one without a first record.
            return if newest {
                Ok(())
            } else {
                Err(wrong("does not begin as a file of a ledger".to_owned()))
            };
        };
        if named != number {
            return Err(wrong(format!(
                "its first record says that it is file {named}: it is a copy, or was renamed"
            )));
        }
        match before {
            Some((last, _)) if last + 1 != number => {
                return Err(wrong(format!("file {} before it is missing", last + 1)));
            }
            Some((last, end)) if end != head.hash => {
                return Err(wrong(format!("it does not begin where file {last} ends")));
            }
            _ => {}
        }
        let end = last.as_deref().and_then(Line::parse).map(|line| line.hash());
        match end {
            Some(end) => before = Some((number, end)),
            None if newest => {}
            None => return Err(wrong("its last record is cut off".to_owned())),
        }
    }
    Ok(())
}

/// The first and the last line of a segment, if they are whole.
struct Ends {
    first: Option<Vec<u8>>,
    last: Option<Vec<u8>>,
}

impl Ends {
    /// Reads no more than the beginning and the end of a file.
    fn read(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let piece = |from: u64| {
            let mut bytes = vec![0; usize::try_from((length - from).min(LONGEST_LINE)).unwrap_or(0)];
            file.read_exact_at(&mut bytes, from).map(|()| bytes)
        };
        let (beginning, end) = (piece(0)?, piece(length.saturating_sub(LONGEST_LINE))?);
        let first = beginning.iter().position(|byte| *byte == b'\n').map(|at| beginning[..=at].to_vec());
        let whole = end.strip_suffix(b"\n");
        let last = whole.and_then(|end| end.rsplit(|byte| *byte == b'\n').next()).map(<[u8]>::to_vec);
        Ok(Self { first, last })
    }
}

/// Incomplete records at the end of a segment, left by a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

impl Torn {
    /// The note about `text`, unless there is none.
    fn of(text: &[u8]) -> Option<Self> {
        let sha256 = digest::digest(&digest::SHA256, text);
        let sha256 = sha256.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        (!text.is_empty()).then_some(Self { bytes: text.len() as u64, sha256 })
    }
}

/// The newest segment, open for appending.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    pub(super) number: u64,
    /// The length of the valid part, in bytes.
    pub(super) length: u64,
    /// When it began.
    pub(super) began: OffsetDateTime,
    /// The position and hash of the last record.
    pub(super) head: Head,
    /// Ledger key and CA key of the last signer in it.
    pub(super) signer: Option<(String, String)>,
}

impl Segment {
    /// Creates the segment that follows `head`; fails if another process has created it.
    pub(super) fn create(
        dir: &Path,
        number: u64,
        head: Head,
        now: OffsetDateTime,
    ) -> Result<Self, LedgerError> {
        let path = path(dir, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(files::SECRET).open(&path);
        let file = file.map_err(io_error("create", &path))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("write", dir))?;
        Ok(Self { file, path, number, length: 0, began: now, head, signer: None })
    }

    /// Opens a segment and reads it to its end. An incomplete commit of a crash is cut off; if nothing else is in the
    /// file, it is removed.
    pub(super) fn open(dir: &Path, number: u64) -> Result<(Option<Self>, Option<Torn>), LedgerError> {
        let path = path(dir, number);
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        let Some(Beginning { head, began, .. }) = beginning(&text) else {
            if has_checkpoint(&text) {
                return Err(LedgerError::Damaged { path, line: 1 });
            }
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            return Ok((None, Torn::of(&text)));
        };
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error("open", &path))?;
        let mut segment = Self { file, path, number, length: 0, began, head, signer: None };
        let torn = segment.take_in(&text)?;
        Ok((Some(segment), torn))
    }

    /// Reads what others have appended since.
    pub(super) fn catch_up(&mut self) -> Result<Option<Torn>, LedgerError> {
        let ours = self.file.metadata().map_err(io_error("read", &self.path))?;
        let there = fs::metadata(&self.path).map_err(io_error("find", &self.path))?;
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return Err(LedgerError::Replaced(self.path.clone()));
        }
        let Some(more) = ours.len().checked_sub(self.length) else {
            return Err(LedgerError::Replaced(self.path.clone()));
        };
        if more == 0 {
            return Ok(None);
        }
        let mut text = vec![0; usize::try_from(more).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut text, self.length).map_err(io_error("read", &self.path))?;
        self.take_in(&text)
    }

    /// Reads the lines of `text`, which begins at our length. The first line that does not continue the chain, and all
    /// after it, are cut off if no checkpoint follows: no request was answered for such records.
    fn take_in(&mut self, text: &[u8]) -> Result<Option<Torn>, LedgerError> {
        let mut rest = text;
        let mut lines = 0;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let Some((hash, record)) = next(&rest[..end], self.head.hash) else { break };
            if let Event::Signer { key, ca, .. } = record.event {
                self.signer = Some((key, ca));
            }
            self.head = Head { next: record.seq + 1, hash };
            self.length += end as u64 + 1;
            rest = &rest[end + 1..];
            lines += 1;
        }
        if rest.is_empty() {
            return Ok(None);
        }
        if has_checkpoint(rest) {
            return Err(LedgerError::Damaged { path: self.path.clone(), line: lines + 1 });
        }
        self.cut()?;
        Ok(Torn::of(rest))
    }

    /// Appends whole lines and syncs the file. If that fails, they are cut off again.
    pub(super) fn append(&mut self, lines: &[u8], head: Head) -> Result<(), LedgerError> {
        let written = self.file.write_all_at(lines, self.length).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // If this fails too, the next process that opens the ledger cuts them off.
            let _ = self.cut();
            return Err(io_error("write", &self.path)(source));
        }
        self.length += lines.len() as u64;
        self.head = head;
        Ok(())
    }

    /// Cuts off everything after the valid part.
    fn cut(&mut self) -> Result<(), LedgerError> {
        self.file.set_len(self.length).map_err(io_error("cut", &self.path))?;
        self.file.sync_data().map_err(io_error("cut", &self.path))
    }
}

/// The line as a record, if it follows `before`.
fn next(line: &[u8], before: Hash) -> Option<(Hash, Record)> {
    let line = Line::parse(line)?;
    let hash = line.follows(before)?;
    Some((hash, serde_json::from_slice(line.record).ok()?))
}

/// What the first line says.
struct Beginning {
    /// The number of the segment.
    number: u64,
    /// The head before it.
    head: Head,
    /// When it was written.
    began: OffsetDateTime,
}

fn beginning(text: &[u8]) -> Option<Beginning> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let record: Record = serde_json::from_slice(Line::parse(&text[..end])?.record).ok()?;
    let Event::Segment { number, previous } = record.event else { return None };
    Some(Beginning { number, head: Head { next: record.seq, hash: previous }, began: record.time })
}

/// Whether `text` has a whole checkpoint: then a commit was completed.
fn has_checkpoint(text: &[u8]) -> bool {
    let checkpoint = |line: &[u8]| {
        let record = Line::parse(line).and_then(|line| serde_json::from_slice::<Record>(line.record).ok());
        matches!(record, Some(Record { event: Event::Checkpoint { .. }, .. }))
    };
    text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n")).any(checkpoint)
}
