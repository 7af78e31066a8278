//! The roots of a CA among its files, one after the other: which one signs and which are trusted stands in one file, which
//! is replaced as a whole, so a crash leaves the state before or the one after.

use std::{io, sync::Arc};

use eastwest_ca::{
    CertificateSummary, LocalIssuer, NewKey, NewRoot, PrivateKey, TrustBundle,
    jwt::{SvidKey, TokenKeyError},
    rotation::{Phase, RootSlot, Rotation},
};
use eastwest_identity::TrustDomain;
use rustls_pki_types::CertificateDer;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use zeroize::Zeroizing;

use crate::trust::{
    key_material::KeyMaterial,
    state_error::StateError,
    storage::{Access, CaStorage, Edit, StateFiles, read_text},
};

/// The key of the first root.
pub(crate) const CA_KEY: &str = "ca-key.pem";
/// Its certificate.
pub(crate) const CA_CERTIFICATE: &str = "ca-cert.pem";
/// The trust anchor for agents.
pub(crate) const ROOTS: &str = "root-cert.pem";
/// The record of the rotation.
pub const ROTATION: &str = "rotation.json";
/// The key of JWT-SVIDs.
pub const SVID_KEY: &str = "jwt-svid-key.pem";

/// What happens without a key that signs tokens.
const WITHOUT_KEY: &str = "the next start makes a new one, and tokens that the old one signed are refused";

/// The files of a root's key and certificate. Those of the first have the names that they had before there were more.
pub fn names(generation: u32) -> (String, String) {
    match generation {
        1 => (CA_KEY.to_owned(), CA_CERTIFICATE.to_owned()),
        later => (format!("ca-{later}-key.pem"), format!("ca-{later}-cert.pem")),
    }
}

/// A root's organization of this many bytes may be the beginning of a longer trust domain (RFC 5280 appendix A).
const MAX_ORGANIZATION: usize = 64;

/// The trust domain that a root of our own names, if it names one in full.
pub(crate) fn trust_domain(root: &CertificateDer<'_>) -> Option<TrustDomain> {
    let root = CertificateSummary::of(root)?;
    let name = root.subject.split(", ").find_map(|part| part.strip_prefix("O="));
    TrustDomain::parse(name.filter(|name| name.len() < MAX_ORGANIZATION)?).ok()
}

/// What signs, and what is trusted.
pub struct Roots {
    /// Signs certificates.
    pub issuer: Arc<LocalIssuer>,
    /// The trusted roots, that of the signer first.
    pub bundle: TrustBundle,
}

/// The roots among the files of a CA.
#[derive(Debug, Clone, Copy)]
pub struct RootFiles<'a>(&'a dyn StateFiles);

impl<'a> RootFiles<'a> {
    /// Those among `files`.
    pub fn of(files: &'a dyn StateFiles) -> Self {
        Self(files)
    }

    /// Loads what signs and what is trusted now.
    ///
    /// # Errors
    /// There is no CA, or it cannot be used.
    pub fn load(&self, now: OffsetDateTime) -> Result<Roots, StateError> {
        let files = self.0;
        let active = match files.exists(ROTATION) {
            true => self.rotation()?,
            false if files.exists(CA_CERTIFICATE) => self.rotation()?,
            false if files.exists(CA_KEY) => {
                return Err(StateError::Missing {
                    missing: files.place(CA_CERTIFICATE),
                    present: files.place(CA_KEY),
                });
            }
            false => return Err(StateError::NoCa(files.all())),
        };
        self.load_rotation(&active, now)
    }

    /// Loads what signs and what is trusted as `rotation` says.
    ///
    /// # Errors
    /// A file is missing or cannot be used.
    pub fn load_rotation(&self, rotation: &Rotation, now: OffsetDateTime) -> Result<Roots, StateError> {
        let files = self.0;
        let (key, certificate) = names(rotation.active().generation);
        for (missing, present) in [(&key, &certificate), (&certificate, &key)] {
            if !files.exists(missing) {
                let (missing, present) = (files.place(missing), files.place(present));
                return Err(StateError::Missing { missing, present });
            }
        }
        let (key_place, certificate_place) = (files.place(&key), files.place(&certificate));
        let key = self.read_key(&key)?;
        let own = self.certificates(rotation.active().generation)?;
        let chain = own.certificates().cloned().collect();
        let issuer = LocalIssuer::new(key, chain, &own, now).map_err(|source| StateError::Pair {
            certificate: certificate_place,
            key: key_place,
            source: Box::new(source),
        })?;
        let mut bundle = own;
        for other in rotation.trusted().into_iter().skip(1) {
            bundle = bundle.and(&self.certificates(other)?);
        }
        Ok(Roots { issuer: Arc::new(issuer), bundle })
    }

    /// How far the rotation is. A CA that never saw one has its first root and no other.
    ///
    /// # Errors
    /// There is no CA, or its record is damaged.
    pub fn rotation(&self) -> Result<Rotation, StateError> {
        match self.0.read(ROTATION)? {
            Some(text) => serde_json::from_slice(&text).map_err(|error| StateError::Rotation {
                place: self.0.place(ROTATION),
                reason: error.to_string(),
            }),
            None => Ok(Rotation::of(self.slot(1)?)),
        }
    }

    /// Puts a state of the rotation in force. To be called within an edit of the rotation.
    pub(crate) fn save_rotation(&self, rotation: &Rotation) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(rotation).map_err(|error| StateError::Rotation {
            place: self.0.place(ROTATION),
            reason: error.to_string(),
        })?;
        self.0.replace(ROTATION, &text, Access::Public)
    }

    /// Makes key and certificate if neither is there. The trust anchor is written last, so a key alone, without it,
    /// is what a crash in here leaves behind: such a key has signed nothing yet and gets its certificate now.
    pub(crate) fn create_absent(&self, new: &NewRoot, now: OffsetDateTime) -> Result<(), StateError> {
        let files = self.0;
        if files.exists(CA_CERTIFICATE) {
            return Ok(());
        }
        if files.exists(ROOTS) {
            let (missing, present) = (files.place(CA_CERTIFICATE), files.place(ROOTS));
            return Err(StateError::Missing { missing, present });
        }
        if !files.exists(CA_KEY) {
            self.create_key(CA_KEY, new.key)?;
        }
        self.certify(CA_KEY, CA_CERTIFICATE, new, now)
    }

    /// Makes key and certificate of a root that is not in force yet, in place of what a crash may have left of one.
    pub(crate) fn make_root(&self, new: &NewRoot, now: OffsetDateTime) -> Result<RootSlot, StateError> {
        self.forget_root(new.generation)?;
        let (key, certificate) = names(new.generation);
        self.create_key(&key, new.key)?;
        self.certify(&key, &certificate, new, now)?;
        self.slot(new.generation)
    }

    /// What a successor of a root would be.
    pub(crate) fn new_root_like(&self, generation: u32) -> Result<NewRoot, StateError> {
        let roots = self.certificates(generation)?;
        roots.certificates().next().and_then(NewRoot::like).ok_or_else(|| self.unreadable(generation))
    }

    /// Removes key and certificate of a root that never signed anything.
    pub(crate) fn forget_root(&self, generation: u32) -> Result<(), StateError> {
        let (key, certificate) = names(generation);
        self.0.remove(&certificate)?;
        self.0.remove(&key)
    }

    /// Removes the keys of roots that have retired, but those that are kept. Their certificates stay: old signatures can
    /// still be verified.
    pub(crate) fn destroy_retired_keys(&self, rotation: &Rotation) -> Result<(), StateError> {
        let trusted = rotation.trusted();
        let is_kept = |one: u32| rotation.kept().iter().any(|kept| kept.root.generation == one);
        let next = match rotation.phase() {
            Phase::Prepared { next } => Some(next.generation),
            _ => None,
        };
        let retired = (1..rotation.next_generation())
            .filter(|one| !trusted.contains(one) && !is_kept(*one) && next != Some(*one));
        retired.map(|generation| names(generation).0).try_for_each(|key| self.0.remove(&key))
    }

    /// The certificates of all roots up to the one that signs, also of those that have retired; `None` if there is none.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn all_certificates(&self) -> Result<Option<TrustBundle>, StateError> {
        let next = self.rotation().map_or(1, |rotation| rotation.next_generation());
        let there = (1..next).filter(|generation| self.0.exists(&names(*generation).1));
        let roots: Vec<TrustBundle> = there.map(|one| self.certificates(one)).collect::<Result<_, _>>()?;
        Ok(roots.into_iter().reduce(|all, further| all.and(&further)))
    }

    /// The certificates in the file of a root.
    pub(crate) fn certificates(&self, generation: u32) -> Result<TrustBundle, StateError> {
        self.bundle(&names(generation).1)
    }

    /// The certificates in a file.
    pub(crate) fn bundle(&self, name: &str) -> Result<TrustBundle, StateError> {
        let text = read_text(self.0, name)?.ok_or_else(|| self.absent(name))?;
        TrustBundle::from_pem(&text)
            .map_err(|source| StateError::Certificate { place: self.0.place(name), source })
    }

    /// A key that signs something else than certificates, made if absent. Of several processes that make one at the
    /// same time, one wins.
    pub(crate) fn signing_key<K>(
        &self,
        name: &str,
        of: impl FnOnce(&PrivateKey) -> Result<K, TokenKeyError>,
    ) -> Result<K, StateError> {
        if !self.0.exists(name) {
            self.create_key(name, NewKey::P256)?;
        }
        let (key, place) = (self.read_key(name), self.0.place(name));
        let key = key.map_err(|error| match error {
            StateError::Key { place, source } => {
                StateError::SigningKey { place, source, without: WITHOUT_KEY }
            }
            other => other,
        });
        of(&key?).map_err(|source| StateError::TokenKey { place, source, without: WITHOUT_KEY })
    }

    /// The key of JWT-SVIDs, made if absent.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn svid_key(&self) -> Result<SvidKey, StateError> {
        self.signing_key(SVID_KEY, SvidKey::new)
    }

    fn slot(&self, generation: u32) -> Result<RootSlot, StateError> {
        if !self.0.exists(&names(generation).1) {
            return Err(StateError::NoCa(self.0.all()));
        }
        let roots = self.certificates(generation)?;
        let summary = roots.certificates().next().and_then(CertificateSummary::of);
        let time = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
        summary
            .and_then(|summary| {
                let (not_before, not_after) = (time(&summary.not_before)?, time(&summary.not_after)?);
                Some(RootSlot { generation, sha256: summary.sha256, not_before, not_after })
            })
            .ok_or_else(|| self.unreadable(generation))
    }

    /// Signs the root of the key in `key` by itself, into `certificate`, unless that is there.
    fn certify(
        &self,
        key: &str,
        certificate: &str,
        new: &NewRoot,
        now: OffsetDateTime,
    ) -> Result<(), StateError> {
        let root = new.sign(&self.read_key(key)?, now);
        let roots = TrustBundle::new(vec![root.map_err(|error| self.create_error(error))?]);
        let roots = roots.map_err(|error| self.create_error(error))?;
        self.0.create(certificate, roots.pem().as_bytes(), Access::Public).map(|_| ())
    }

    fn create_key(&self, name: &str, kind: NewKey) -> Result<(), StateError> {
        let key = PrivateKey::generate_as(kind).map_err(|error| self.create_error(error))?;
        self.0.create(name, key.to_pem().as_bytes(), Access::Private).map(|_| ())
    }

    fn read_key(&self, name: &str) -> Result<PrivateKey, StateError> {
        self.0.check_private(name)?;
        let text: Zeroizing<String> = read_text(self.0, name)?.ok_or_else(|| self.absent(name))?;
        PrivateKey::from_pem(&text).map_err(|source| StateError::Key { place: self.0.place(name), source })
    }

    fn absent(&self, name: &str) -> StateError {
        // As the system says it of a file.
        let source = io::Error::from_raw_os_error(2);
        StateError::Io { action: "read", place: self.0.place(name), source }
    }

    fn unreadable(&self, generation: u32) -> StateError {
        let reason = "the certificate cannot be read".to_owned();
        StateError::Rotation { place: self.0.place(&names(generation).1), reason }
    }

    fn create_error(&self, reason: impl ToString) -> StateError {
        StateError::Create { place: self.0.all(), reason: reason.to_string() }
    }
}

/// Loads the CA of `storage`, made if absent, without its token key.
///
/// # Errors
/// Anything half-written, mismatched, readable by others or out of date is refused, never replaced.
pub(crate) fn load_or_create(
    storage: &dyn CaStorage,
    new: &NewRoot,
    now: OffsetDateTime,
) -> Result<KeyMaterial, StateError> {
    storage.edit(Edit::FirstRoot, &mut |files| RootFiles::of(files).create_absent(new, now))?;
    let Roots { issuer, bundle } = RootFiles::of(storage).load(now)?;
    let latest_expiry = Arc::new(storage.latest_expiry());
    Ok(KeyMaterial { issuer, roots: bundle, latest_expiry, own_tokens: None })
}

/// Adds the token key of `storage`, and writes the trust anchor for agents.
///
/// # Errors
/// The token key cannot be read or made, or a file cannot be written.
pub(crate) fn adopt(storage: &dyn CaStorage, material: KeyMaterial) -> Result<KeyMaterial, StateError> {
    let own_tokens = storage.own_tokens()?;
    storage.publish_roots(&material.roots)?;
    Ok(KeyMaterial { own_tokens, ..material })
}
