//! The state directory: the CA's key and certificate and the token key. No other user has access.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_ca::{
    CertificateSummary, KeySet, LocalIssuer, NewKey, NewRoot, PrivateKey, TokenKey, TrustBundle,
    TrustedIssuer,
    issuer::LoadError,
    jwt::{SvidKey, TokenKeyError},
    public_key::KeyKind,
    rotation::Rotation,
};
use eastwest_io::files;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::trust::latest_expiry::LatestExpiry;

mod error;
mod slots;

pub(crate) use self::error::io_error;
pub use self::{error::StateError, slots::RotationLock};

/// `iss` of the tokens that the token key signs.
pub const TOKEN_ISSUER: &str = "eastwest";

const CA_KEY: &str = "ca-key.pem";
const CA_CERTIFICATE: &str = "ca-cert.pem";
const ROOTS: &str = "root-cert.pem";
const TOKEN_KEY: &str = "token-key.pem";
const TOKEN_JWKS: &str = "token-jwks.json";
const HORIZON: &str = "issued-until";
const ROTATION: &str = "rotation.json";
const ROTATION_LOCK: &str = "rotation.lock";
const SVID_KEY: &str = "jwt-svid-key.pem";
const FEDERATED: &str = "federated";
const LOCK: &str = "lock";

/// Keys and certificates of a CA, from any source.
pub struct KeyMaterial {
    /// Signs certificates.
    pub issuer: Arc<LocalIssuer>,
    /// The trust bundle.
    pub roots: TrustBundle,
    /// The latest expiry of all issued certificates, stored with the key.
    pub latest_expiry: Arc<LatestExpiry>,
    /// The issuer of tokens that our own token key signs. Its audiences are empty and set later.
    pub own_tokens: Option<TrustedIssuer>,
}

/// A state directory to which no other user has access.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// The lock of the process that serves from a state directory, held until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateDir {
    /// Opens `path`, creating it with mode 0700 if it is absent.
    ///
    /// # Errors
    /// It cannot be created, is no directory, or has permissions for others.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        if let Err(source) = DirBuilder::new().recursive(true).mode(0o700).create(path) {
            return Err(io_error("create the directory", path)(source));
        }
        let dir = Self { path: path.to_owned() };
        dir.check_mode(path, 0o700)?;
        Ok(dir)
    }

    /// Opens `path`, which must exist.
    ///
    /// # Errors
    /// There is no such directory, or it has permissions for others.
    pub fn open_existing(path: &Path) -> Result<Self, StateError> {
        if path.is_dir() { Self::open(path) } else { Err(StateError::NoCa(path.to_owned())) }
    }

    /// Locks the directory for this process.
    ///
    /// # Errors
    /// Another process holds the lock.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        let path = self.file(LOCK);
        let file = OpenOptions::new().create(true).append(true).mode(files::SECRET).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(StateLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StateError::Locked(self.path.clone())),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
        }
    }

    /// The latest expiry of all certificates that this CA issued.
    pub fn latest_expiry(&self) -> LatestExpiry {
        LatestExpiry::kept_in(self.file(HORIZON))
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses to sign with our own root when the trust anchor on file is that of another CA: peers that trust it would
    /// reject all our certificates.
    ///
    /// # Errors
    /// [`StateError::ForeignAnchor`].
    pub fn refuse_foreign_anchor(&self) -> Result<(), StateError> {
        let anchor =
            fs::read_to_string(self.file(ROOTS)).ok().and_then(|text| TrustBundle::from_pem(&text).ok());
        let Some(anchor) = anchor else { return Ok(()) };
        let own = self.rotation().and_then(|rotation| self.root_certificates(rotation.active().generation));
        let foreign = match own {
            Ok(own) => !own.certificates().any(|root| anchor.contains(root)),
            // A key without a certificate is reported by `load`.
            Err(_) => [CA_KEY, CA_CERTIFICATE, ROTATION].iter().all(|name| !self.file(name).exists()),
        };
        if !foreign {
            return Ok(());
        }
        let root = anchor.certificates().next().and_then(CertificateSummary::of);
        let root =
            root.map_or_else(String::new, |CertificateSummary { subject, sha256, not_after, .. }| {
                format!("{subject}, SHA-256 {sha256}, until {not_after}")
            });
        Err(StateError::ForeignAnchor { path: self.file(ROOTS), root })
    }

    /// The folder of the bundles of other trust domains.
    pub fn federated_dir(&self) -> PathBuf {
        self.file(FEDERATED)
    }

    /// The file of the trust anchor, which agents read.
    pub fn root_cert_path(&self) -> PathBuf {
        self.file(ROOTS)
    }

    /// Loads the CA and the token key, or creates what is absent; then writes the trust anchor and the token key's
    /// key set. Call it with the lock held.
    ///
    /// # Errors
    /// A file that is incomplete, mismatched, readable by others or expired is refused and never replaced.
    pub fn load_or_create(&self, new: &NewRoot, now: OffsetDateTime) -> Result<KeyMaterial, StateError> {
        self.create_absent(new, now)?;
        self.adopt(self.load(now)?)
    }

    /// Uses `material` of any source with this directory: adds our token key, created if absent, and writes the trust
    /// anchor and the token key's key set. Call it with the lock held.
    ///
    /// # Errors
    /// The token key cannot be read or made, or a file cannot be written.
    pub fn adopt(&self, material: KeyMaterial) -> Result<KeyMaterial, StateError> {
        let own_tokens = self.own_tokens()?;
        self.publish_roots(&material.roots)?;
        Ok(KeyMaterial { own_tokens: Some(own_tokens), ..material })
    }

    /// Stores `key` for the root that [`Self::load_or_create`] will create. Call it with the lock held.
    ///
    /// # Errors
    /// There is already a CA or a CA key.
    pub fn import_key(&self, key: &PrivateKey) -> Result<(), StateError> {
        let path = self.file(CA_KEY);
        let kind = key.public().map_err(|error| self.create_error(error))?.kind();
        if kind == KeyKind::Ed25519 {
            return Err(self.create_error(LoadError::KeyKind(kind)));
        }
        if self.file(CA_CERTIFICATE).exists() || !self.create_key_file(&path, key)? {
            return Err(StateError::Exists(path));
        }
        Ok(())
    }

    /// The issuer of our own tokens; makes the token key if absent, and writes its key set.
    ///
    /// # Errors
    /// The key cannot be read or made.
    pub fn own_tokens(&self) -> Result<TrustedIssuer, StateError> {
        let tokens = self.token_key()?;
        self.write(TOKEN_JWKS, tokens.jwks().as_bytes(), files::PUBLIC)?;
        let keys = KeySet::from_json(&tokens.jwks()).map_err(|error| self.create_error(error))?;
        Ok(TrustedIssuer { issuer: TOKEN_ISSUER.to_owned(), audiences: Vec::new(), keys })
    }

    /// Writes the trust anchor for agents.
    ///
    /// # Errors
    /// The system refused.
    pub fn publish_roots(&self, roots: &TrustBundle) -> Result<(), StateError> {
        self.write(ROOTS, roots.pem().as_bytes(), files::PUBLIC)
    }

    /// Loads the CA without its token key.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn load(&self, now: OffsetDateTime) -> Result<KeyMaterial, StateError> {
        let active = match self.file(ROTATION).exists() {
            true => self.rotation()?,
            false if self.file(CA_CERTIFICATE).exists() => self.rotation()?,
            false if self.file(CA_KEY).exists() => {
                return Err(StateError::Missing {
                    missing: self.file(CA_CERTIFICATE),
                    present: self.file(CA_KEY),
                });
            }
            false => return Err(StateError::NoCa(self.path.clone())),
        };
        self.load_rotation(&active, now)
    }

    /// Loads the CA in the state `rotation`, without its token key.
    ///
    /// # Errors
    /// A file is missing or cannot be used.
    pub fn load_rotation(&self, rotation: &Rotation, now: OffsetDateTime) -> Result<KeyMaterial, StateError> {
        let (key, certificate) = slots::names(rotation.active().generation);
        let (key_path, certificate_path) = (self.file(&key), self.file(&certificate));
        for (missing, present) in [(&key_path, &certificate_path), (&certificate_path, &key_path)] {
            if !missing.exists() {
                let (missing, present) = (missing.clone(), present.clone());
                return Err(StateError::Missing { missing, present });
            }
        }
        let key = self.read_key(&key_path)?;
        let own = self.root_certificates(rotation.active().generation)?;
        let chain = own.certificates().cloned().collect();
        let issuer = LocalIssuer::new(key, chain, &own, now).map_err(|source| StateError::Pair {
            certificate: certificate_path,
            key: key_path,
            source,
        })?;
        let mut roots = own;
        for other in rotation.trusted().into_iter().skip(1) {
            roots = roots.and(&self.root_certificates(other)?);
        }
        let latest_expiry = Arc::new(self.latest_expiry());
        Ok(KeyMaterial { issuer: Arc::new(issuer), roots, latest_expiry, own_tokens: None })
    }

    /// The token key, created if absent. If several processes create it at the same time, all use the first one.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn token_key(&self) -> Result<TokenKey, StateError> {
        self.signing_key(TOKEN_KEY, TokenKey::new)
    }

    /// The key of JWT-SVIDs, created if absent like the token key.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn svid_key(&self) -> Result<SvidKey, StateError> {
        self.signing_key(SVID_KEY, SvidKey::new)
    }

    fn signing_key<K>(
        &self,
        name: &str,
        of: impl FnOnce(&PrivateKey) -> Result<K, TokenKeyError>,
    ) -> Result<K, StateError> {
        let path = self.file(name);
        if !path.exists() {
            self.create_key(name, NewKey::P256)?;
        }
        let key = self.read_key(&path)?;
        of(&key).map_err(|source| StateError::TokenKey { path, source })
    }

    /// Creates key and certificate if neither exists. The trust anchor is written last: a key without an anchor is left
    /// by a crash in this function. It has signed nothing yet, and gets its certificate now.
    fn create_absent(&self, new: &NewRoot, now: OffsetDateTime) -> Result<(), StateError> {
        let (key, certificate, roots) = (self.file(CA_KEY), self.file(CA_CERTIFICATE), self.file(ROOTS));
        if certificate.exists() {
            return Ok(());
        }
        if roots.exists() {
            return Err(StateError::Missing { missing: certificate, present: roots });
        }
        if !key.exists() {
            self.create_key(CA_KEY, new.key)?;
        }
        self.certify(&key, &certificate, new, now)
    }

    /// Writes a self-signed root for the key in the file `key` to the file `certificate`, unless that exists.
    fn certify(
        &self,
        key: &Path,
        certificate: &Path,
        new: &NewRoot,
        now: OffsetDateTime,
    ) -> Result<(), StateError> {
        let root = new.sign(&self.read_key(key)?, now);
        let roots = TrustBundle::new(vec![root.map_err(|error| self.create_error(error))?]);
        let roots = roots.map_err(|error| self.create_error(error))?;
        files::create(certificate, roots.pem().as_bytes(), files::PUBLIC)
            .map(|_| ())
            .map_err(io_error("write", certificate))
    }

    fn create_key(&self, name: &str, kind: NewKey) -> Result<(), StateError> {
        let key = PrivateKey::generate_as(kind).map_err(|error| self.create_error(error))?;
        self.create_key_file(&self.file(name), &key).map(|_| ())
    }

    /// Writes a key unless the file exists. Returns whether it was written.
    fn create_key_file(&self, path: &Path, key: &PrivateKey) -> Result<bool, StateError> {
        files::create(path, key.to_pem().as_bytes(), files::SECRET).map_err(io_error("write", path))
    }

    fn read_key(&self, path: &Path) -> Result<PrivateKey, StateError> {
        self.check_mode(path, files::SECRET)?;
        let text = Zeroizing::new(fs::read_to_string(path).map_err(io_error("read", path))?);
        PrivateKey::from_pem(&text).map_err(|source| StateError::Key { path: path.to_owned(), source })
    }

    /// Writes a file if its content differs.
    pub(crate) fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<(), StateError> {
        let path = self.file(name);
        if fs::read(&path).is_ok_and(|old| old == content) {
            return Ok(());
        }
        files::replace(&path, content, mode).map_err(io_error("write", &path))
    }

    /// Removes a file, if it exists, and syncs the folder.
    pub(crate) fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.file(name);
        match files::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn check_mode(&self, path: &Path, wanted: u32) -> Result<(), StateError> {
        let mode = files::mode(path).map_err(io_error("read", path))?;
        if mode & 0o077 == 0 {
            Ok(())
        } else {
            Err(StateError::Permissions { path: path.to_owned(), mode, wanted })
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn create_error(&self, reason: impl ToString) -> StateError {
        StateError::Create { path: self.path.clone(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests;
