//! How a record becomes a line of the chain.

use thiserror::Error;
use time::OffsetDateTime;

use super::{
    hash::{HASH_LETTERS, Hash},
    record::{Event, Written},
};

/// What stands around hash and record in a line. It is JSON for every tool, but judged byte for byte.
const OPEN: &[u8] = b"{\"hash\":\"";
const MIDDLE: &[u8] = b"\",\"record\":";
const CLOSE: &[u8] = b"}";
/// Where a ledger ends: what the next record follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the next record; the first is 1.
    pub next: u64,
    /// Hash of all before it.
    pub hash: Hash,
}

/// A record that cannot be written, for example for a date beyond the year 9999.
#[derive(Debug, Error)]
#[error("a record of the ledger cannot be written: {0}")]
pub struct EncodeError(#[from] serde_json::Error);

impl Head {
    /// The head of an empty ledger.
    pub const GENESIS: Self = Self { next: 1, hash: Hash::GENESIS };

    /// Appends the line of `event` to `out`, with its line feed, and moves on.
    ///
    /// # Errors
    /// See [`EncodeError`]; nothing has changed then.
    pub fn append(
        &mut self,
        event: &Event,
        now: OffsetDateTime,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let time = now.replace_nanosecond(now.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(now);
        let begin = out.len();
        let record_at = begin + OPEN.len() + HASH_LETTERS + MIDDLE.len();
        out.resize(record_at, 0);
        if let Err(error) = serde_json::to_writer(&mut *out, &Written { seq: self.next, time, event }) {
            out.truncate(begin);
            return Err(error.into());
        }
        let hash = self.hash.then(&out[record_at..]);
        let head = [OPEN, hash.to_string().as_bytes(), MIDDLE].concat();
        out[begin..record_at].copy_from_slice(&head);
        out.extend_from_slice(CLOSE);
        out.push(b'\n');
        *self = Self { next: self.next + 1, hash };
        Ok(())
    }
}

/// A line taken apart, not yet judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    hash: Hash,
    /// The bytes of the record.
    pub record: &'a [u8],
}

impl<'a> Line<'a> {
    /// Takes a line apart that has no line feed any more; `None` if it has not the form of one.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (hash, rest) = line.strip_prefix(OPEN)?.split_at_checked(HASH_LETTERS)?;
        let record = rest.strip_prefix(MIDDLE)?.strip_suffix(CLOSE)?;
        let hash = std::str::from_utf8(hash).ok()?.parse().ok()?;
        Some(Self { hash, record })
    }

    /// The hash that the line states; whether that is right depends on the line before it.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The hash after this line, if it follows `before`.
    pub fn follows(&self, before: Hash) -> Option<Hash> {
        (before.then(self.record) == self.hash).then_some(self.hash)
    }
}
