//! Verifying a ledger, line after line.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use thiserror::Error;
use time::OffsetDateTime;

use super::{
    chain::{Head, Line},
    hash::Hash,
    key,
    record::{Event, Record},
};
use crate::{
    trust::bundle::TrustBundle,
    x509::{
        self,
        public_key::{KeyKind, PublicKey},
    },
};

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not `{"hash":"…","record":{…}}`.
    #[error("this is not a line of a ledger")]
    Form,
    /// It does not follow the line before it.
    #[error(
        "the hash does not fit: this record was changed, or one before it was changed, removed or put in"
    )]
    Hash,
    /// The record cannot be read although its hash fits.
    #[error("the record cannot be read: {0}")]
    Unreadable(String),
    /// A number is missing or there twice.
    #[error("the record has number {found} where {expected} is due")]
    Number {
        /// What should stand there.
        expected: u64,
        /// What stands there.
        found: u64,
    },
    /// A segment does not begin as one.
    #[error("the segment does not begin with its own number and the hash at which the one before it ended")]
    Segment,
    /// A segment is missing between two.
    #[error("segment {0} is missing")]
    MissingSegment(u64),
    /// A certificate of a ledger key that is none.
    #[error("this is no certificate of the ledger key {0}")]
    Signer(String),
    /// A checkpoint by a key of which no certificate came before it.
    #[error("the checkpoint's key {0} has no certificate in the ledger before it")]
    UnknownKey(String),
    /// A checkpoint by a key that none of the roots certifies.
    #[error("no given root vouches for the checkpoint's key {0}: give the roots of that time with --roots")]
    Untrusted(String),
    /// A signature that does not verify.
    #[error("the checkpoint's signature does not verify")]
    Signature,
}

/// The first broken record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("segment {segment}, line {line}: {problem}")]
pub struct Broken {
    /// In which segment.
    pub segment: u64,
    /// In which line, from 1.
    pub line: u64,
    /// The problem.
    pub problem: Problem,
}

/// What a whole ledger is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Number of the first segment that is there; above 1, older ones were moved away.
    pub first_segment: u64,
    /// How many segments there are.
    pub segments: u64,
    /// How many records.
    pub records: u64,
    /// How many certificates were issued.
    pub issued: u64,
    /// How many JWT-SVIDs were issued.
    pub jwt_svids: u64,
    /// How many of both were refused.
    pub refused: u64,
    /// How often half a record was cut off after a crash.
    pub repaired: u64,
    /// The number of checkpoints that verify them.
    pub checkpoints: u64,
    /// Records after the last checkpoint: of a commit that a crash cut short.
    pub uncovered: u64,
    /// Bytes after the last record: half a record that a crash left, which the next commit cuts off.
    pub unfinished: u64,
    /// Number of the last record.
    pub last: u64,
    /// Its hash: keep `last:head` elsewhere to notice a ledger that was cut short.
    pub head: String,
}

/// Judges a ledger from its first segment to its last.
#[derive(Debug)]
pub struct Verifier<'a> {
    roots: &'a TrustBundle,
    head: Option<Head>,
    line: u64,
    segment: u64,
    keys: BTreeMap<String, Signer>,
    report: Report,
}

/// A ledger key, as the ledger itself tells of it.
#[derive(Debug)]
struct Signer {
    key: PublicKey,
    /// Whether a root certifies it.
    trusted: bool,
    /// Segment and line of its first checkpoint.
    first: Option<(u64, u64)>,
}

impl<'a> Verifier<'a> {
    /// Trusts the ledger keys that one of `roots` certifies.
    pub fn new(roots: &'a TrustBundle) -> Self {
        let report = Report { head: Hash::GENESIS.to_string(), ..Report::default() };
        Self { roots, head: None, line: 0, segment: 0, keys: BTreeMap::new(), report }
    }

    /// Goes on to the segment `number`.
    ///
    /// # Errors
    /// One is missing before it.
    pub fn segment(&mut self, number: u64) -> Result<(), Broken> {
        if self.report.segments == 0 {
            self.report.first_segment = number;
        } else if number != self.segment + 1 {
            let missing = self.segment + 1;
            (self.segment, self.line) = (number, 1);
            return Err(self.broken(Problem::MissingSegment(missing)));
        }
        self.report.segments += 1;
        (self.segment, self.line) = (number, 0);
        Ok(())
    }

    /// Judges the next line, which has no line feed any more.
    ///
    /// # Errors
    /// What is wrong with it; there is no use in going on then.
    pub fn line(&mut self, line: &[u8]) -> Result<Record, Broken> {
        self.line += 1;
        self.judge(line).map_err(|problem| self.broken(problem))
    }

    /// Where it ends so far.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Ends the ledger.
    ///
    /// # Errors
    /// A checkpoint by a key that no root certifies.
    pub fn finish(self) -> Result<Report, Broken> {
        let untrusted = self.keys.iter().filter(|(_, signer)| !signer.trusted);
        let first = untrusted.filter_map(|(id, signer)| Some((signer.first?, id))).min();
        match first {
            Some(((segment, line), id)) => {
                Err(Broken { segment, line, problem: Problem::Untrusted(id.clone()) })
            }
            None => Ok(self.report),
        }
    }

    fn broken(&self, problem: Problem) -> Broken {
        Broken { segment: self.segment, line: self.line, problem }
    }

    fn judge(&mut self, bytes: &[u8]) -> Result<Record, Problem> {
        let line = Line::parse(bytes).ok_or(Problem::Form)?;
        let head = match self.head {
            Some(head) => head,
            None => beginning(&line)?,
        };
        let hash = line.follows(head.hash).ok_or(Problem::Hash)?;
        let record = read(&line)?;
        if record.seq != head.next {
            return Err(Problem::Number { expected: head.next, found: record.seq });
        }
        if (self.line == 1) != matches!(record.event, Event::Segment { .. }) {
            return Err(Problem::Segment);
        }
        self.take_in(&record, head)?;
        self.head = Some(Head { next: head.next + 1, hash });
        self.report.records += 1;
        self.report.last = record.seq;
        self.report.head = hash.to_string();
        Ok(record)
    }

    fn take_in(&mut self, record: &Record, before: Head) -> Result<(), Problem> {
        self.report.uncovered += 1;
        match &record.event {
            Event::Segment { number, previous } => {
                let first = *number == 1;
                if *number != self.segment || *previous != before.hash || first != (before == Head::GENESIS) {
                    return Err(Problem::Segment);
                }
            }
            Event::Signer { key, chain, .. } => self.signer(key, chain, record.time)?,
            Event::Checkpoint { key, signature } => {
                let place = (self.segment, self.line);
                let signer = self.keys.get_mut(key).ok_or_else(|| Problem::UnknownKey(key.clone()))?;
                if !key::vouches(&signer.key, before.hash, signature) {
                    return Err(Problem::Signature);
                }
                signer.first.get_or_insert(place);
                self.report.checkpoints += 1;
                self.report.uncovered = 0;
            }
            Event::Issued(_) => self.report.issued += 1,
            Event::JwtSvid(_) => self.report.jwt_svids += 1,
            Event::Refused(refused) => self.report.refused += refused.count,
            Event::Repaired { .. } => self.report.repaired += 1,
        }
        Ok(())
    }

    /// A certificate of a ledger key: one that leads to a root makes the key trusted, whenever it comes.
    fn signer(&mut self, id: &str, chain: &[String], now: OffsetDateTime) -> Result<(), Problem> {
        let (key, chain) = certified(id, chain).ok_or_else(|| Problem::Signer(id.to_owned()))?;
        let trusted = self.roots.vouches_for_ledger_key(&chain[0], &chain[1..], now);
        let signer = self.keys.entry(id.to_owned()).or_insert(Signer { key, trusted, first: None });
        signer.trusted |= trusted;
        Ok(())
    }
}

/// The key named `id` and its chain, if the first certificate is of that key.
fn certified(id: &str, chain: &[String]) -> Option<(PublicKey, Vec<CertificateDer<'static>>)> {
    let chain: Option<Vec<_>> =
        chain.iter().map(|text| Some(CertificateDer::from(STANDARD.decode(text).ok()?))).collect();
    let chain = chain?;
    let key = PublicKey::from_spki(x509::parse(chain.first()?)?.public_key().raw).ok()?;
    (key.kind() == KeyKind::P256 && key.fingerprint() == id).then_some((key, chain))
}

/// Where the first segment that is there begins.
fn beginning(line: &Line<'_>) -> Result<Head, Problem> {
    match read(line)? {
        Record { seq, event: Event::Segment { previous, .. }, .. } => Ok(Head { next: seq, hash: previous }),
        _ => Err(Problem::Segment),
    }
}

fn read(line: &Line<'_>) -> Result<Record, Problem> {
    serde_json::from_slice(line.record).map_err(|error| Problem::Unreadable(error.to_string()))
}
