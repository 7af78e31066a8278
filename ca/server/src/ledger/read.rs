//! Reading a ledger, also while a server writes it.

use std::{fs, path::Path};

use eastwest_ca::{
    TrustBundle,
    ledger::{Broken, Event, Hash, Record, Report, Verifier, Wanted},
};
use thiserror::Error;
use time::OffsetDateTime;

use super::{FOLDER, LedgerError, io_error, segment};

/// Why a ledger could not be read to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no ledger.
    #[error("{}: there is no ledger here; the first certificate begins one", .0.display())]
    None(std::path::PathBuf),
    /// A file cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A record that is known from before is missing.
    #[error("the ledger has no record {number} with the hash {hash}: it was cut short, or is another ledger")]
    Missing {
        /// Its number.
        number: u64,
        /// Its hash.
        hash: Hash,
    },
    /// A record is broken.
    #[error("the ledger is broken: {0}")]
    Broken(#[from] Broken),
}

/// Which records are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Of this SPIFFE ID, or `NAMESPACE/SERVICE-ACCOUNT`.
    pub identity: Option<String>,
    /// Of this serial number of a certificate, or this `jti` of a JWT-SVID, in hexadecimal.
    pub serial: Option<String>,
    /// Of one kind.
    pub wanted: Option<Wanted>,
    /// Written at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Refusals only.
    pub refused: bool,
}

impl Query {
    fn matches(&self, record: &Record) -> bool {
        let (wanted, identity, serial) = match &record.event {
            Event::Issued(issued) if !self.refused => {
                (Wanted::Certificate, Some(&issued.identity), Some(issued.serial.as_str()))
            }
            Event::JwtSvid(svid) if !self.refused => {
                (Wanted::JwtSvid, Some(&svid.identity), Some(svid.jti.as_str()))
            }
            Event::Refused(refused) => (refused.wanted, refused.requester.caller.as_ref(), None),
            _ => return false,
        };
        let is_of = |wanted: &str| {
            let workload = identity.and_then(|id| id.as_workload().ok());
            identity.is_some_and(|id| id.as_str() == wanted)
                || workload.is_some_and(|(ns, sa)| wanted.split_once('/') == Some((ns, sa)))
        };
        self.since.is_none_or(|since| record.time >= since)
            && self.wanted.is_none_or(|asked| asked == wanted)
            && self.serial.as_deref().is_none_or(|wanted| serial == Some(wanted))
            && self.identity.as_deref().is_none_or(is_of)
    }
}

/// Verifies the ledger of a state directory against `roots`, and that it holds a record known from before: its number
/// and hash.
///
/// # Errors
/// There is no ledger, or the first record that is broken, or that one is missing.
pub fn verify(
    state_dir: &Path,
    roots: &TrustBundle,
    known: Option<(u64, Hash)>,
) -> Result<Report, ReadError> {
    let mut seen = known.is_none();
    let report = read(state_dir, roots, |record, hash| seen |= known == Some((record.seq, hash)))?;
    match known {
        Some((number, hash)) if !seen => Err(ReadError::Missing { number, hash }),
        _ => Ok(report),
    }
}

/// The records of a ledger that `query` asks for, up to the first that is broken; and whether one is.
pub fn query(
    state_dir: &Path,
    roots: &TrustBundle,
    query: &Query,
) -> (Vec<Record>, Result<Report, ReadError>) {
    let mut found = Vec::new();
    let report = read(state_dir, roots, |record, _| {
        if query.matches(&record) {
            found.push(record);
        }
    });
    (found, report)
}

/// Calls `see` with every record and the hash of the ledger after it.
fn read(
    state_dir: &Path,
    roots: &TrustBundle,
    mut see: impl FnMut(Record, Hash),
) -> Result<Report, ReadError> {
    let dir = state_dir.join(FOLDER);
    if !dir.is_dir() {
        return Err(ReadError::None(dir));
    }
    let mut verifier = Verifier::new(roots);
    let lengths = lengths(&dir)?;
    let newest = lengths.last().map(|(number, _)| *number);
    let mut unfinished = 0;
    for (number, length) in lengths {
        verifier.segment(number)?;
        let path = segment::path(&dir, number);
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        let mut rest = text.get(..length).unwrap_or(&text);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let record = verifier.line(&rest[..end])?;
            see(record, verifier.head().map_or(Hash::GENESIS, |head| head.hash));
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() && newest != Some(number) {
            verifier.line(rest)?;
        }
        unfinished = rest.len() as u64;
    }
    Ok(Report { unfinished, ..verifier.finish()? })
}

/// The segments with their lengths at one moment between two commits.
fn lengths(dir: &Path) -> Result<Vec<(u64, usize)>, LedgerError> {
    let lock = segment::lock_file(dir)?;
    lock.lock_shared().map_err(io_error("lock", dir))?;
    let length = |number| {
        let path = segment::path(dir, number);
        let length = fs::metadata(&path).map_err(io_error("read", &path))?.len();
        Ok((number, usize::try_from(length).unwrap_or(usize::MAX)))
    };
    segment::numbers(dir)?.into_iter().map(length).collect()
}
