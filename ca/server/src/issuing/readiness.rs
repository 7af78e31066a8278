//! What keeps the CA from its work now.

use std::{path::PathBuf, sync::atomic::Ordering};

use eastwest_io::files;
use thiserror::Error;
use time::OffsetDateTime;

use super::certificate_authority::CertificateAuthority;

/// Why the CA cannot serve or sign now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Inability {
    /// The certificates of the signer have expired, or begin later.
    #[error(
        "the certificate authority cannot sign, its certificates are not valid now: see `eastwest ca show`"
    )]
    Signer,
    /// Clients refuse our serving certificate.
    #[error(
        "the serving certificate is not valid now, but from {not_before} to {not_after}: the log says why it is not renewed"
    )]
    Serving {
        /// Start of its life.
        not_before: OffsetDateTime,
        /// End of its life.
        not_after: OffsetDateTime,
    },
    /// Requests wait for threads that are not there.
    #[error("{ended} of {started} threads that sign have ended, which is a defect: restart the server")]
    Threads {
        /// How many are gone.
        ended: usize,
        /// How many there were.
        started: usize,
    },
    /// The last record could not be written.
    #[error("the ledger cannot be written, and no certificate is issued until it can: the log says why")]
    Ledger,
    /// The next record could not be written.
    #[error("the disk of the ledger {} is full: make room", .0.display())]
    Disk(PathBuf),
}

impl CertificateAuthority {
    /// Everything that keeps the CA from its work at `now`; nothing if it is able.
    pub fn inabilities(&self, now: OffsetDateTime) -> Vec<Inability> {
        let ca_state = self.ca_state();
        let (serving, signers) = (&ca_state.serving, &self.context.signers);
        let (ended, started) = signers.ended();
        let ledger_fails = self.context.ledger.state().failing.load(Ordering::Relaxed);
        let full = self.ledger_dir.as_deref().filter(|dir| !files::has_room(dir));
        let found = [
            (!ca_state.issuer.local().is_valid(now)).then_some(Inability::Signer),
            (!serving.is_valid(now)).then_some(Inability::Serving {
                not_before: serving.not_before,
                not_after: serving.not_after,
            }),
            (ended > 0).then_some(Inability::Threads { ended, started }),
            ledger_fails.then_some(Inability::Ledger),
            full.map(|dir| Inability::Disk(dir.to_owned())),
        ];
        found.into_iter().flatten().collect()
    }
}
