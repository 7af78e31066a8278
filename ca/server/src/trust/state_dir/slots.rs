//! The roots of a state directory. One file records which root signs and which are trusted. It is replaced as a whole,
//! so a crash leaves the state before or after the change.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use eastwest_ca::{
    CertificateSummary, NewRoot, TrustBundle,
    rotation::{RootSlot, Rotation},
};
use eastwest_io::files;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{CA_CERTIFICATE, CA_KEY, ROTATION, ROTATION_LOCK, StateDir, StateError, io_error};

/// The lock for changes of the rotation, held until it is dropped. Hold it for a short time only.
#[derive(Debug)]
pub struct RotationLock {
    _file: File,
}

/// The files of a root's key and certificate. Those of the first root have no number.
pub(super) fn names(generation: u32) -> (String, String) {
    match generation {
        1 => (CA_KEY.to_owned(), CA_CERTIFICATE.to_owned()),
        later => (format!("ca-{later}-key.pem"), format!("ca-{later}-cert.pem")),
    }
}

impl StateDir {
    /// Waits for the lock of the rotation, which servers and commands share.
    ///
    /// # Errors
    /// The system refused.
    pub fn lock_rotation(&self) -> Result<RotationLock, StateError> {
        let path = self.file(ROTATION_LOCK);
        let file = OpenOptions::new().create(true).append(true).mode(files::SECRET).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        file.lock().map_err(io_error("lock", &path))?;
        Ok(RotationLock { _file: file })
    }

    /// The state of the rotation. A directory without a record has its first root only.
    ///
    /// # Errors
    /// There is no CA, or its record is damaged.
    pub fn rotation(&self) -> Result<Rotation, StateError> {
        let path = self.file(ROTATION);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| StateError::Rotation { path, reason: error.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Rotation::of(self.slot(1)?)),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Writes the state of the rotation. Call it with the rotation's lock held.
    ///
    /// # Errors
    /// The system refused; the state before stays in force.
    pub fn save_rotation(&self, rotation: &Rotation) -> Result<(), StateError> {
        let path = self.file(ROTATION);
        let text = serde_json::to_vec_pretty(rotation)
            .map_err(|error| StateError::Rotation { path: path.clone(), reason: error.to_string() })?;
        files::replace(&path, &text, files::PUBLIC).map_err(io_error("write", &path))
    }

    /// Makes key and certificate of a root that is not in force yet, replacing files that a crash may have left.
    ///
    /// # Errors
    /// The system refused.
    pub fn make_root(&self, new: &NewRoot, now: OffsetDateTime) -> Result<RootSlot, StateError> {
        self.forget_root(new.generation)?;
        let (key, certificate) = names(new.generation);
        self.create_key(&key, new.key)?;
        self.certify(&self.file(&key), &self.file(&certificate), new, now)?;
        self.slot(new.generation)
    }

    /// The parameters of a successor of a root.
    ///
    /// # Errors
    /// The root cannot be read.
    pub fn new_root_like(&self, generation: u32) -> Result<NewRoot, StateError> {
        let roots = self.root_certificates(generation)?;
        roots.certificates().next().and_then(NewRoot::like).ok_or_else(|| StateError::Rotation {
            path: self.file(&names(generation).1),
            reason: "the certificate cannot be read".to_owned(),
        })
    }

    /// Removes key and certificate of a root that never signed anything.
    ///
    /// # Errors
    /// The system refused.
    pub fn forget_root(&self, generation: u32) -> Result<(), StateError> {
        let (key, certificate) = names(generation);
        self.remove(&certificate)?;
        self.remove(&key)
    }

    /// Removes the keys of roots that have retired. Their certificates stay: old signatures can still be verified.
    ///
    /// # Errors
    /// The system refused.
    pub fn destroy_retired_keys(&self, rotation: &Rotation) -> Result<(), StateError> {
        let trusted = rotation.trusted();
        let retired = (1..rotation.active().generation).filter(|generation| !trusted.contains(generation));
        retired.map(|generation| names(generation).0).try_for_each(|key| self.remove(&key))
    }

    /// The roots that verify the ledger: those of this directory, also retired ones, and the trust anchor for agents,
    /// which is that of a provided or plugged-in CA.
    ///
    /// # Errors
    /// There is none, or one cannot be read.
    pub fn ledger_roots(&self) -> Result<TrustBundle, StateError> {
        let newest = self.rotation().map_or(0, |rotation| rotation.active().generation);
        let own = (1..=newest).map(|generation| self.file(&names(generation).1));
        let files = own.chain([self.root_cert_path()]).filter(|path| path.exists());
        let roots: Vec<TrustBundle> = files.map(|path| certificates(&path)).collect::<Result<_, _>>()?;
        let all = roots.into_iter().reduce(|all, further| all.and(&further));
        all.ok_or_else(|| StateError::NoCa(self.path.clone()))
    }

    /// The certificates in the file of a root.
    pub(super) fn root_certificates(&self, generation: u32) -> Result<TrustBundle, StateError> {
        certificates(&self.file(&names(generation).1))
    }

    fn slot(&self, generation: u32) -> Result<RootSlot, StateError> {
        let path = self.file(&names(generation).1);
        if !path.exists() {
            return Err(StateError::NoCa(self.path.clone()));
        }
        let roots = self.root_certificates(generation)?;
        let summary = roots.certificates().next().and_then(CertificateSummary::of);
        let time = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
        summary
            .and_then(|summary| {
                let (not_before, not_after) = (time(&summary.not_before)?, time(&summary.not_after)?);
                Some(RootSlot { generation, sha256: summary.sha256, not_before, not_after })
            })
            .ok_or_else(|| StateError::Rotation { path, reason: "the certificate cannot be read".to_owned() })
    }
}

fn certificates(path: &Path) -> Result<TrustBundle, StateError> {
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    TrustBundle::from_pem(&text).map_err(|source| StateError::Certificate { path: path.to_owned(), source })
}
