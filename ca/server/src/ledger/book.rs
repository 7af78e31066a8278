//! What the writer of the ledger writes to: the disk, or the log where nothing is kept.

use eastwest_ca::{LocalIssuer, ledger::Event};
use time::OffsetDateTime;

use super::{Journal, LedgerConfig, LedgerError};

/// The target of records in the log.
const TARGET: &str = "ledger";

/// What takes the records.
#[derive(Debug)]
pub(super) enum Book {
    /// A ledger that is kept.
    Kept(Box<Journal>),
    /// Each record is an event of the log, which is all that is left of it.
    Logged {
        /// How many there were.
        records: u64,
    },
}

impl Book {
    /// Opens the ledger; without `config`, records go to the log.
    pub(super) fn open(config: Option<&LedgerConfig>) -> Result<Self, LedgerError> {
        let Some(config) = config else { return Ok(Self::Logged { records: 0 }) };
        Journal::open(config).map(|journal| Self::Kept(Box::new(journal)))
    }

    /// Writes `events`. When this returns, they are on the disk or handed to the log.
    pub(super) fn commit(
        &mut self,
        events: &[Event],
        issuer: &LocalIssuer,
        now: OffsetDateTime,
    ) -> Result<(), LedgerError> {
        let records = match self {
            Self::Kept(journal) => return journal.commit(events, issuer, now),
            Self::Logged { records } => records,
        };
        for event in events {
            let record =
                serde_json::to_string(event).map_err(|error| LedgerError::Record(error.to_string()))?;
            tracing::info!(target: TARGET, %record, "not kept: there is no state directory");
            *records += 1;
        }
        Ok(())
    }

    /// Bytes of the newest segment, its number, and the number of records.
    pub(super) fn size(&self) -> (u64, u64, u64) {
        match self {
            Self::Kept(journal) => {
                let (bytes, segment) = journal.size();
                (bytes, segment, journal.head().next - 1)
            }
            Self::Logged { records } => (0, 0, *records),
        }
    }

    /// Tells how the ledger ended.
    pub(super) fn close(&self) {
        if let Self::Kept(journal) = self {
            let head = journal.head();
            tracing::info!(last = head.next - 1, head = %head.hash, "ledger closed");
        }
    }
}
