//! State that is kept across restarts: the roots that were in force last, as long as certificates depend on them, and
//! the last valid revocation lists. Public data only, where the CA keeps its state.

use eastwest_ca::{CertificateSummary, Revocations, TrustBundle, pem};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, PrimitiveDateTime, format_description::well_known::Rfc3339};

use crate::trust::{
    root_status::rfc3339,
    state_error::StateError,
    storage::{Access, StateFiles, read_text, write},
};

/// The file that says what was in force last.
pub const IN_FORCE: &str = "in-force.json";
/// The file with the last valid revocation lists.
pub const LISTS: &str = "revocations.pem";

/// Roots that no source names any more and that certificates still depend on.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) roots: TrustBundle,
    /// When the last of these certificates has run out.
    pub(super) until: OffsetDateTime,
}

/// What signs, and what is trusted.
#[derive(Debug)]
pub(super) struct InForce {
    /// The root of the signing chain.
    pub(super) root: CertificateDer<'static>,
    /// What the source says.
    pub(super) roots: TrustBundle,
    pub(super) carried: Option<Carried>,
}

/// The file [`IN_FORCE`]; certificates as PEM.
#[derive(Serialize, Deserialize)]
struct Record {
    root: String,
    roots: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    carried: Option<CarriedRecord>,
}

#[derive(Serialize, Deserialize)]
struct CarriedRecord {
    roots: String,
    #[serde(with = "time::serde::rfc3339")]
    until: OffsetDateTime,
}

impl InForce {
    /// As the last server left it; `None` if there was none.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(super) fn read(state: &dyn StateFiles) -> Result<Option<Self>, StateError> {
        let Some(text) = read_text(state, IN_FORCE)? else { return Ok(None) };
        Self::parse(&text).map(Some).map_err(|reason| StateError::Record {
            place: state.place(IN_FORCE),
            reason,
            forgotten: "roots of a CA before that one are no longer trusted",
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let record: Record = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let bundle = |text: &str| TrustBundle::from_pem(text).map_err(|error| error.to_string());
        let roots = bundle(&record.roots)?;
        let root = pem::certificates(&record.root).map_err(|error| error.to_string())?.swap_remove(0);
        let carried = record
            .carried
            .map(|CarriedRecord { roots, until }| bundle(&roots).map(|roots| Carried { roots, until }));
        Ok(Self { root, roots, carried: carried.transpose()? })
    }

    /// Puts it on record.
    ///
    /// # Errors
    /// The system refused.
    pub(super) fn write(&self, state: &dyn StateFiles) -> Result<(), StateError> {
        let carried = self.carried.as_ref();
        let record = Record {
            root: pem::encode(pem::CERTIFICATE, &self.root),
            roots: self.roots.pem(),
            carried: carried.map(|one| CarriedRecord { roots: one.roots.pem(), until: one.until }),
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| {
            let reason = error.to_string();
            StateError::Create { place: state.place(IN_FORCE), reason }
        })?;
        write(state, IN_FORCE, &text, Access::Private)
    }

    /// When the root of the chain ends.
    pub(super) fn end(&self) -> OffsetDateTime {
        root_end(&self.root)
    }

    /// The roots that stay trusted beside `next`: all of these, if `next` lacks the root that signed before and
    /// certificates live until `latest_expiry`.
    pub(super) fn carry(
        self,
        next: &TrustBundle,
        latest_expiry: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Option<Carried> {
        let before = self.carried.filter(|carried| now <= carried.until);
        if latest_expiry <= now || next.contains(&self.root) {
            return before;
        }
        tracing::info!(until = %rfc3339(latest_expiry), "the roots of the CA before stay trusted for its certificates");
        let roots = before.map_or(self.roots.clone(), |before| self.roots.and(&before.roots));
        Some(Carried { roots, until: latest_expiry })
    }
}

/// When a root ends; far in the future if it cannot be read.
fn root_end(root: &CertificateDer<'static>) -> OffsetDateTime {
    let end =
        CertificateSummary::of(root).and_then(|root| OffsetDateTime::parse(&root.not_after, &Rfc3339).ok());
    end.unwrap_or(PrimitiveDateTime::MAX.assume_utc())
}

/// The root of the chain that signed last, as the files of a CA say it; `None` if they do not.
///
/// # Errors
/// The record cannot be read.
pub fn last_root(files: &dyn StateFiles) -> Result<Option<CertificateDer<'static>>, StateError> {
    Ok(InForce::read(files)?.map(|before| before.root))
}

/// Whether what is kept across restarts can be read.
///
/// # Errors
/// One of the records cannot be read.
pub fn check_memory(files: &dyn StateFiles, now: OffsetDateTime) -> Result<(), StateError> {
    InForce::read(files)?;
    lists(files, now).map(|_| ())
}

/// The last good revocation lists; none if nothing was revoked.
///
/// # Errors
/// The record cannot be read.
pub(super) fn lists(state: &dyn StateFiles, now: OffsetDateTime) -> Result<Revocations, StateError> {
    let Some(text) = read_text(state, LISTS)? else { return Ok(Revocations::default()) };
    Revocations::from_own_pem(&text, now).map_err(|error| StateError::Record {
        place: state.place(LISTS),
        reason: error.to_string(),
        forgotten: "nothing is revoked until ca-crl.pem of the plugged-in CA is good",
    })
}

/// Puts the lists in force on record.
///
/// # Errors
/// The system refused.
pub(super) fn remember_lists(state: &dyn StateFiles, lists: &Revocations) -> Result<(), StateError> {
    if lists.lists() == 0 {
        return state.remove(LISTS);
    }
    write(state, LISTS, lists.pem().as_bytes(), Access::Private)
}

#[cfg(test)]
mod tests {
    use eastwest_ca::{NewRoot, PrivateKey};
    use eastwest_identity::TrustDomain;
    use time::Duration;

    use super::*;
    use crate::trust::state_dir::StateDir;

    fn bundle(now: OffsetDateTime) -> TrustBundle {
        let new = NewRoot::of(TrustDomain::parse("td").unwrap());
        TrustBundle::new(vec![new.sign(&PrivateKey::generate().unwrap(), now).unwrap()]).unwrap()
    }

    fn in_force(roots: &TrustBundle, carried: Option<Carried>) -> InForce {
        InForce { root: roots.certificates().next().unwrap().clone(), roots: roots.clone(), carried }
    }

    /// Restarts do not prolong what a root is carried for: only another CA begins a new time.
    #[test]
    fn a_root_is_carried_over_restarts_until_its_certificates_have_run_out() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
        let [old, new, third] = [(); 3].map(|()| bundle(now));
        let [end, later] = [Duration::HOUR, Duration::DAY].map(|life| now + life);
        assert!(in_force(&old, None).carry(&new, now, now).is_none(), "nothing was issued");
        assert!(in_force(&old, None).carry(&old.clone().and(&new), end, now).is_none(), "still a root");

        assert!(InForce::read(&state).unwrap().is_none());
        let mut carried = in_force(&old, None).carry(&new, end, now);
        for _ in 0..3 {
            in_force(&new, carried).write(&state).unwrap();
            carried = InForce::read(&state).unwrap().unwrap().carry(&new, later, now);
            let carried = carried.as_ref().unwrap();
            assert_eq!((carried.until, carried.roots.pem()), (end, old.pem()));
        }
        let of_both = in_force(&new, carried.clone()).carry(&third, later, now).unwrap();
        assert_eq!((of_both.until, of_both.roots.pem()), (later, new.pem() + &old.pem()));
        assert!(in_force(&new, carried).carry(&new, later, end + Duration::SECOND).is_none(), "run out");
    }
}
