//! The state directory: the CA's key and certificate and the token key, for nobody but us.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_ca::{
    KeySet, LocalIssuer, NewKey, NewRoot, PrivateKey, TokenKey, TrustBundle, TrustedIssuer,
    bundle::BundleError, issuer::LoadError, jwt::TokenKeyError, key::PrivateKeyError, public_key::KeyKind,
};
use thiserror::Error;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{files, horizon::Horizon};

/// `iss` of the tokens that the token key signs.
pub const TOKEN_ISSUER: &str = "eastwest";

const CA_KEY: &str = "ca-key.pem";
const CA_CERTIFICATE: &str = "ca-cert.pem";
const ROOTS: &str = "root-cert.pem";
const TOKEN_KEY: &str = "token-key.pem";
const TOKEN_JWKS: &str = "token-jwks.json";
const HORIZON: &str = "issued-until";
const LOCK: &str = "lock";

/// How to get out of a damaged state.
const REMEDY: &str =
    "restore it from a backup, or move the whole state directory away to begin anew with a new root";

/// Why a state directory cannot be used: always the operator's to mend.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The system refused to read or write.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may look at what is ours.
    #[error("{}: mode {mode:03o} lets others in; run: chmod {wanted:03o} {}", path.display(), path.display())]
    Permissions {
        /// Which file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// Another server uses it.
    #[error("{}: another eastwest uses this state directory; stop it, or choose another --state-dir", .0.display())]
    Locked(PathBuf),
    /// There is no CA in it.
    #[error("{}: there is no CA in this directory; run `eastwest ca init` or `eastwest serve` first", .0.display())]
    NoCa(PathBuf),
    /// One of the files is missing.
    #[error("{}: is missing although {} is there; {REMEDY}", missing.display(), present.display())]
    Missing {
        /// The file that is missing.
        missing: PathBuf,
        /// A file that makes no sense without it.
        present: PathBuf,
    },
    /// A key is to be imported where one is.
    #[error("{}: there is a CA key already, and it is not replaced; import into an empty --state-dir", .0.display())]
    Exists(PathBuf),
    /// The last CA was plugged in and no longer is.
    #[error(
        "{}: is the trust anchor of another CA, which was plugged in when the last server ran; give it by --ca-dir again, \
         or remove this file to sign with our own root, which nobody trusts who read this file",
        .0.display()
    )]
    ForeignAnchor(PathBuf),
    /// A private key that cannot be read.
    #[error("{}: {source}; {REMEDY}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: PrivateKeyError,
    },
    /// A CA certificate that cannot be read.
    #[error("{}: {source}; {REMEDY}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: BundleError,
    },
    /// Key and certificate do not belong together, or the certificate is not valid now.
    #[error("{} with {}: {source}; {REMEDY}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: LoadError,
    },
    /// The token key cannot sign.
    #[error("{}: {source}; {REMEDY}", path.display())]
    TokenKey {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: TokenKeyError,
    },
    /// A key or certificate could not be made.
    #[error("{}: cannot make a new CA: {reason}", path.display())]
    Create {
        /// Which directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What a CA signs with, from wherever it was kept.
pub struct KeyMaterial {
    /// Signs certificates.
    pub issuer: Arc<LocalIssuer>,
    /// What peers trust.
    pub roots: TrustBundle,
    /// Until when the certificates live that were issued, kept beside the key.
    pub horizon: Arc<Horizon>,
    /// Issuer of the tokens that our own token key signs, its audiences still empty.
    pub own_tokens: Option<TrustedIssuer>,
}

/// A state directory that nobody else may enter.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

/// The right of one process to serve from a state directory, held until it is dropped.
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

    /// Takes the directory for this process.
    ///
    /// # Errors
    /// Another process has it.
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

    /// Until when the certificates live that were issued from here.
    pub fn horizon(&self) -> Horizon {
        Horizon::kept_in(self.file(HORIZON))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses to sign with our own root when the trust anchor on file is that of another CA: whoever trusts it would
    /// refuse everything.
    ///
    /// # Errors
    /// [`StateError::ForeignAnchor`].
    pub fn refuse_foreign_anchor(&self) -> Result<(), StateError> {
        let read = |name: &str| {
            let text = fs::read_to_string(self.file(name)).ok()?;
            TrustBundle::from_pem(&text).ok()
        };
        match (read(ROOTS), read(CA_CERTIFICATE)) {
            (Some(anchor), Some(own)) if !own.certificates().any(|root| anchor.contains(root)) => {
                Err(StateError::ForeignAnchor(self.file(ROOTS)))
            }
            _ => Ok(()),
        }
    }

    /// Where the trust anchor is written for agents.
    pub fn root_cert_path(&self) -> PathBuf {
        self.file(ROOTS)
    }

    /// Loads the CA and the token key, or makes what is absent; then writes the trust anchor and the token key's
    /// key set. Call it with the lock held.
    ///
    /// # Errors
    /// Anything half-written, mismatched, readable by others or out of date is refused, never replaced.
    pub fn load_or_create(&self, new: &NewRoot, now: OffsetDateTime) -> Result<KeyMaterial, StateError> {
        self.create_absent(new, now)?;
        self.adopt(self.load(now)?)
    }

    /// Serves `material`, wherever it was kept, from here: adds our token key, made if absent, and writes the trust
    /// anchor and the token key's key set. Call it with the lock held.
    ///
    /// # Errors
    /// The token key cannot be read or made, or a file cannot be written.
    pub fn adopt(&self, material: KeyMaterial) -> Result<KeyMaterial, StateError> {
        let own_tokens = self.own_tokens()?;
        self.publish_roots(&material.roots)?;
        Ok(KeyMaterial { own_tokens: Some(own_tokens), ..material })
    }

    /// Takes `key` for the root that [`Self::load_or_create`] will make. Call it with the lock held.
    ///
    /// # Errors
    /// There is a CA already, or its key.
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
        self.write(TOKEN_JWKS, tokens.jwks().as_bytes())?;
        let keys = KeySet::from_json(&tokens.jwks()).map_err(|error| self.create_error(error))?;
        Ok(TrustedIssuer { issuer: TOKEN_ISSUER.to_owned(), audiences: Vec::new(), keys })
    }

    /// Writes the trust anchor for agents.
    ///
    /// # Errors
    /// The system refused.
    pub fn publish_roots(&self, roots: &TrustBundle) -> Result<(), StateError> {
        self.write(ROOTS, roots.pem().as_bytes())
    }

    /// Loads the CA without its token key.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn load(&self, now: OffsetDateTime) -> Result<KeyMaterial, StateError> {
        let (key_path, certificate_path) = (self.file(CA_KEY), self.file(CA_CERTIFICATE));
        match (key_path.exists(), certificate_path.exists()) {
            (true, true) => {}
            (false, false) => return Err(StateError::NoCa(self.path.clone())),
            (true, false) => {
                return Err(StateError::Missing { missing: certificate_path, present: key_path });
            }
            (false, true) => {
                return Err(StateError::Missing { missing: key_path, present: certificate_path });
            }
        }
        let key = self.read_key(&key_path)?;
        let text = fs::read_to_string(&certificate_path).map_err(io_error("read", &certificate_path))?;
        let roots = TrustBundle::from_pem(&text)
            .map_err(|source| StateError::Certificate { path: certificate_path.clone(), source })?;
        let chain = roots.certificates().cloned().collect();
        let issuer = LocalIssuer::new(key, chain, &roots, now).map_err(|source| StateError::Pair {
            certificate: certificate_path,
            key: key_path,
            source,
        })?;
        let horizon = Arc::new(self.horizon());
        Ok(KeyMaterial { issuer: Arc::new(issuer), roots, horizon, own_tokens: None })
    }

    /// The token key, made if absent. Of several processes that make one at the same time, one wins.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn token_key(&self) -> Result<TokenKey, StateError> {
        let path = self.file(TOKEN_KEY);
        if !path.exists() {
            self.create_key(TOKEN_KEY, NewKey::P256)?;
        }
        let key = self.read_key(&path)?;
        TokenKey::new(&key).map_err(|source| StateError::TokenKey { path, source })
    }

    /// Makes key and certificate if neither is there. The trust anchor is written last, so a key alone, without it,
    /// is what a crash in here leaves behind: such a key has signed nothing yet and gets its certificate now.
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
        let root = new.sign(&self.read_key(&key)?, now);
        let roots = TrustBundle::new(vec![root.map_err(|error| self.create_error(error))?]);
        let roots = roots.map_err(|error| self.create_error(error))?;
        files::create(&certificate, roots.pem().as_bytes(), files::PUBLIC)
            .map(|_| ())
            .map_err(io_error("write", &certificate))
    }

    fn create_key(&self, name: &str, kind: NewKey) -> Result<(), StateError> {
        let key = PrivateKey::generate_as(kind).map_err(|error| self.create_error(error))?;
        self.create_key_file(&self.file(name), &key).map(|_| ())
    }

    /// Writes a key unless there is one; says whether it did.
    fn create_key_file(&self, path: &Path, key: &PrivateKey) -> Result<bool, StateError> {
        files::create(path, key.to_pem().as_bytes(), files::SECRET).map_err(io_error("write", path))
    }

    fn read_key(&self, path: &Path) -> Result<PrivateKey, StateError> {
        self.check_mode(path, files::SECRET)?;
        let text = Zeroizing::new(fs::read_to_string(path).map_err(io_error("read", path))?);
        PrivateKey::from_pem(&text).map_err(|source| StateError::Key { path: path.to_owned(), source })
    }

    /// Writes a public file if its content differs.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let path = self.file(name);
        if fs::read(&path).is_ok_and(|old| old == content) {
            return Ok(());
        }
        files::replace(&path, content, files::PUBLIC).map_err(io_error("write", &path))
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

/// Adds what was tried on which file to what the system said.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
