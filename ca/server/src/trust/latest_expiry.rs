//! The latest expiry of all certificates that were issued. It is kept across restarts: a root may be removed only when
//! no certificate depends on it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use eastwest_ca::{Grant, IssueError, IssuedCertificate, Issuer, LocalIssuer, VerifiedCsr};
use eastwest_io::files;
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// How late another replica may follow a change of the signer.
const FOLLOW: Duration = Duration::minutes(2);
/// The share of a certificate's life by which the record runs ahead, so that not every certificate costs a write.
const AHEAD: i32 = 8;

/// The latest end of all certificates issued; in a file, if it has one.
#[derive(Debug)]
pub struct LatestExpiry {
    /// What was issued, in seconds since 1970.
    latest: AtomicI64,
    /// What the file says; never less than `latest`, unless the file cannot be written.
    recorded: AtomicI64,
    file: Option<PathBuf>,
    /// The longest life of a certificate, where replicas issue that this process knows nothing of.
    longest: Option<Duration>,
    /// Held while the file is written.
    writing: Mutex<()>,
}

impl Default for LatestExpiry {
    /// Of a CA that has issued nothing and keeps no record.
    fn default() -> Self {
        Self {
            latest: AtomicI64::new(0),
            recorded: AtomicI64::new(i64::MAX),
            file: None,
            longest: None,
            writing: Mutex::default(),
        }
    }
}

impl LatestExpiry {
    /// As the file says; of a CA that has issued nothing if there is none.
    pub fn kept_in(file: PathBuf) -> Self {
        let recorded = read(&file);
        Self {
            latest: recorded.into(),
            recorded: recorded.into(),
            file: Some(file),
            longest: None,
            writing: Mutex::default(),
        }
    }

    /// Of one of several replicas that issue certificates of at most `longest` with the same signer.
    pub fn of_replicas(longest: Duration) -> Self {
        Self { longest: Some(longest), ..Self::default() }
    }

    /// When all certificates have run out, or somewhat later, that were issued until `now` with a signer that ends at
    /// `signer_end`. Of replicas, nobody knows what the others have issued: it is as if all of them had just issued
    /// one of the longest life, and went on for a while.
    pub fn horizon(&self, signer_end: OffsetDateTime, now: OffsetDateTime) -> OffsetDateTime {
        match self.longest {
            None => self.latest(),
            Some(_) => now.saturating_add(self.longest()).min(signer_end),
        }
    }

    /// The longest life that a certificate of another replica may have; zero without replicas.
    pub fn longest(&self) -> Duration {
        self.longest.map_or(Duration::ZERO, |longest| longest.saturating_add(FOLLOW))
    }

    /// The latest end of all certificates that this process issued or that are on record, or somewhat later.
    pub fn latest(&self) -> OffsetDateTime {
        let own = self.latest.load(Ordering::Acquire);
        // Another process may have issued some by hand.
        let others = self.file.as_deref().map_or(0, read);
        let seconds = if others > self.recorded.load(Ordering::Acquire) { own.max(others) } else { own };
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Records a certificate before it is returned.
    fn note(&self, not_after: OffsetDateTime, now: OffsetDateTime) {
        let end = not_after.unix_timestamp();
        self.latest.fetch_max(end, Ordering::AcqRel);
        if end > self.recorded.load(Ordering::Acquire) {
            self.record(not_after, now);
        }
    }

    fn record(&self, not_after: OffsetDateTime, now: OffsetDateTime) {
        let Some(file) = &self.file else { return };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if not_after.unix_timestamp() <= self.recorded.load(Ordering::Acquire) {
            return; // by another thread, meanwhile
        }
        // A certificate may live until the last day that can be written.
        let ahead = not_after.saturating_add((not_after - now) / AHEAD);
        let others = OffsetDateTime::from_unix_timestamp(read(file)).unwrap_or(ahead);
        let ahead = ahead.max(others);
        let text = ahead.format(&Rfc3339).unwrap_or_default();
        match files::replace(file, text.as_bytes(), files::PUBLIC) {
            Ok(()) => self.recorded.store(ahead.unix_timestamp(), Ordering::Release),
            // The request does not fail for it; the next certificate tries again.
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "the end of certificates issued is not recorded")
            }
        }
    }
}

/// What the file says, in seconds since 1970; 0 if there is none.
fn read(file: &Path) -> i64 {
    let text = fs::read_to_string(file).ok();
    let time = text.and_then(|text| OffsetDateTime::parse(text.trim(), &Rfc3339).ok());
    time.map_or(0, OffsetDateTime::unix_timestamp)
}

/// An issuer that records the latest expiry of its certificates.
pub(crate) struct Signer {
    local: Arc<LocalIssuer>,
    latest_expiry: Arc<LatestExpiry>,
}

impl Signer {
    pub(crate) fn new(local: Arc<LocalIssuer>, latest_expiry: Arc<LatestExpiry>) -> Self {
        Self { local, latest_expiry }
    }

    /// The issuer itself, for certificates that are not of workloads.
    pub(crate) fn local(&self) -> &Arc<LocalIssuer> {
        &self.local
    }

    pub(crate) fn latest_expiry(&self) -> &Arc<LatestExpiry> {
        &self.latest_expiry
    }
}

impl Issuer for Signer {
    fn issue(
        &self,
        grant: &Grant,
        csr: &VerifiedCsr,
        now: OffsetDateTime,
    ) -> Result<IssuedCertificate, IssueError> {
        let issued = self.local.issue(grant, csr, now)?;
        self.latest_expiry.note(issued.not_after, now);
        Ok(issued)
    }

    fn intermediates(&self) -> &[CertificateDer<'static>] {
        self.local.intermediates()
    }

    fn not_after(&self) -> OffsetDateTime {
        self.local.not_after()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn the_record_runs_ahead_and_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("issued-until");
        let first = LatestExpiry::kept_in(file.clone());
        assert_eq!(first.latest(), at(0));
        first.note(at(1800), at(1000));
        assert_eq!(first.latest(), at(1800));
        let recorded = LatestExpiry::kept_in(file.clone()).latest();
        assert_eq!(recorded, at(1900), "an eighth of 800 s ahead");
        fs::remove_file(&file).unwrap();
        first.note(at(1850), at(1050));
        assert!(!file.exists(), "what the record covers costs no write");
        first.note(at(1901), at(1101));
        assert_eq!(LatestExpiry::kept_in(file).latest(), at(2001));
        first.note(at(1500), at(1400));
        assert_eq!(first.latest(), at(1901), "a shorter life changes nothing");
    }

    #[test]
    fn two_processes_do_not_lower_each_others_record() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("issued-until");
        let (server, by_hand) = (LatestExpiry::kept_in(file.clone()), LatestExpiry::kept_in(file.clone()));
        server.note(at(1800), at(1000));
        by_hand.note(at(9000), at(1000));
        assert_eq!(server.latest(), at(10_000));
        server.note(at(1950), at(1150));
        assert_eq!(LatestExpiry::kept_in(file).latest(), at(10_000));
    }

    #[test]
    fn among_replicas_the_longest_life_counts_and_no_more_than_the_signer_has() {
        let replica = LatestExpiry::of_replicas(Duration::seconds(1000));
        replica.note(at(500), at(0));
        assert_eq!(replica.horizon(at(10_000), at(100)), at(1220));
        assert_eq!(replica.horizon(at(600), at(100)), at(600));
    }

    #[test]
    fn without_a_file_it_is_kept_in_memory() {
        let latest_expiry = LatestExpiry::default();
        latest_expiry.note(at(1800), at(1000));
        assert_eq!(latest_expiry.latest(), at(1800));
    }
}
