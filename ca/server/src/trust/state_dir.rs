//! The state directory: the CA's key and certificate and the token key, for nobody but us.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_ca::{
    CertificateSummary, KeySet, NewRoot, PrivateKey, TokenKey, TrustBundle, TrustedIssuer, issuer::LoadError,
    public_key::KeyKind,
};
use eastwest_io::files;
use nix::unistd::Uid;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::trust::{
    key_material::KeyMaterial,
    latest_expiry::LatestExpiry,
    root_files::{self, CA_CERTIFICATE, CA_KEY, ROOTS, ROTATION, RootFiles, Roots},
    root_status::Source,
    state_error::{Place, StateError, io_error},
    storage::{self, Access, CaStorage, Change, Edit, StateFiles},
};

/// `iss` of the tokens that the token key signs.
pub const TOKEN_ISSUER: &str = "eastwest";

const TOKEN_KEY: &str = "token-key.pem";
const TOKEN_JWKS: &str = "token-jwks.json";
const HORIZON: &str = "issued-until";
const ROTATION_LOCK: &str = "rotation.lock";
const FEDERATED: &str = "federated";
const LOCK: &str = "lock";

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

/// The right to change the rotation, held until it is dropped. Held for moments only.
#[derive(Debug)]
pub(crate) struct RotationLock {
    _file: File,
}

impl StateDir {
    /// Opens `path`, creating it with mode 0700 if it is absent. An empty directory of ours that others may enter, as
    /// volumes are, gets that mode.
    ///
    /// # Errors
    /// It cannot be created, is no directory, belongs to another user, or has permissions for others and is not empty.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        refuse_file(path)?;
        if let Err(source) = DirBuilder::new().recursive(true).mode(0o700).create(path) {
            return Err(io_error("create the directory", path)(source));
        }
        check_owner(path)?;
        if files::mode(path).map_err(io_error("read", path))? & 0o077 != 0 && is_empty(path)? {
            let private = Permissions::from_mode(0o700);
            fs::set_permissions(path, private).map_err(io_error("set the mode of", path))?;
            tracing::info!(dir = %path.display(), "the state directory was open to others and empty; its mode is 0700 now");
        }
        Self::of(path)
    }

    /// Opens `path`, which must exist.
    ///
    /// # Errors
    /// There is no such directory, it is a file, it belongs to another user, or it has permissions for others.
    pub fn open_existing(path: &Path) -> Result<Self, StateError> {
        refuse_file(path)?;
        if !path.is_dir() || is_empty(path).unwrap_or(false) {
            return Err(StateError::NoCa(path.into()));
        }
        check_owner(path)?;
        Self::of(path)
    }

    fn of(path: &Path) -> Result<Self, StateError> {
        let dir = Self { path: path.to_owned() };
        dir.check_mode(path, 0o700)?;
        Ok(dir)
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where bundles of other trust domains are kept.
    pub fn federated_dir(&self) -> PathBuf {
        self.file(FEDERATED)
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
        root_files::adopt(self, root_files::load_or_create(self, new, now)?)
    }

    /// Serves `material`, wherever it was kept, from here: adds our token key, made if absent, and writes the trust
    /// anchor and the token key's key set. Call it with the lock held.
    ///
    /// # Errors
    /// The token key cannot be read or made, or a file cannot be written.
    pub fn adopt(&self, material: KeyMaterial) -> Result<KeyMaterial, StateError> {
        root_files::adopt(self, material)
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
        if self.exists(CA_CERTIFICATE) || !self.create(CA_KEY, key.to_pem().as_bytes(), Access::Private)? {
            return Err(StateError::Exists(path));
        }
        Ok(())
    }

    /// Loads the CA without its token key.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn load(&self, now: OffsetDateTime) -> Result<KeyMaterial, StateError> {
        let Roots { issuer, bundle } = self.roots().load(now)?;
        let latest_expiry = Arc::new(self.latest_expiry());
        Ok(KeyMaterial { issuer, roots: bundle, latest_expiry, own_tokens: None })
    }

    /// The token key that a server has made.
    ///
    /// # Errors
    /// There is none, so no server would accept its tokens, or it cannot be read.
    pub fn existing_token_key(&self) -> Result<TokenKey, StateError> {
        if self.exists(TOKEN_KEY) {
            self.token_key()
        } else {
            Err(StateError::NoCa(self.path.clone().into()))
        }
    }

    /// The token key, made if absent. Of several processes that make one at the same time, one wins.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn token_key(&self) -> Result<TokenKey, StateError> {
        self.roots().signing_key(TOKEN_KEY, TokenKey::new)
    }

    /// The roots that may vouch for the ledger: those of this directory, also if they have retired, and the trust anchor
    /// for agents, which is that of a CA that was given or plugged in.
    ///
    /// # Errors
    /// There is none, or one cannot be read.
    pub fn ledger_roots(&self) -> Result<TrustBundle, StateError> {
        let own = self.roots().all_certificates()?;
        let anchor = self.exists(ROOTS).then(|| self.roots().bundle(ROOTS)).transpose()?;
        let all = own.into_iter().chain(anchor).reduce(|all, further| all.and(&further));
        all.ok_or_else(|| StateError::NoCa(self.path.clone().into()))
    }

    /// The roots among its files.
    pub(crate) fn roots(&self) -> RootFiles<'_> {
        RootFiles::of(self)
    }

    /// Waits for the right to change the rotation: servers and people at the command line take turns.
    ///
    /// # Errors
    /// The system refused.
    pub(crate) fn lock_rotation(&self) -> Result<RotationLock, StateError> {
        let path = self.file(ROTATION_LOCK);
        let file = OpenOptions::new().create(true).append(true).mode(files::SECRET).open(&path);
        let file = file.map_err(io_error("open", &path))?;
        file.lock().map_err(io_error("lock", &path))?;
        Ok(RotationLock { _file: file })
    }

    fn check_mode(&self, path: &Path, wanted: u32) -> Result<(), StateError> {
        let mode = files::mode(path).map_err(io_error("read", path))?;
        if mode & 0o077 == 0 {
            Ok(())
        } else {
            Err(StateError::Permissions { path: path.to_owned(), mode, wanted })
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn create_error(&self, reason: impl ToString) -> StateError {
        StateError::Create { place: self.path.clone().into(), reason: reason.to_string() }
    }
}

impl StateFiles for StateDir {
    fn place(&self, name: &str) -> Place {
        self.file(name).into()
    }

    fn all(&self) -> Place {
        self.path.clone().into()
    }

    fn exists(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(Zeroizing::new(content))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    fn check_private(&self, name: &str) -> Result<(), StateError> {
        self.check_mode(&self.file(name), files::SECRET)
    }

    fn create(&self, name: &str, content: &[u8], access: Access) -> Result<bool, StateError> {
        let path = self.file(name);
        files::create(&path, content, mode(access)).map_err(io_error("write", &path))
    }

    fn replace(&self, name: &str, content: &[u8], access: Access) -> Result<(), StateError> {
        let path = self.file(name);
        files::replace(&path, content, mode(access)).map_err(io_error("write", &path))
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.file(name);
        match files::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

impl CaStorage for StateDir {
    fn source(&self) -> Source {
        Source::StateDir(self.path.clone())
    }

    fn edit(
        &self,
        purpose: Edit,
        edit: &mut dyn FnMut(&dyn StateFiles) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        // The first root is made under the lock of the whole directory.
        let _lock = (purpose == Edit::Rotation).then(|| self.lock_rotation()).transpose()?;
        edit(self)
    }

    fn update(&self, name: &str, access: Access, change: &mut Change<'_>) -> Result<(), StateError> {
        storage::update(self, name, access, change)
    }

    fn latest_expiry(&self) -> LatestExpiry {
        LatestExpiry::kept_in(self.file(HORIZON))
    }

    /// Makes the token key if absent, and writes its key set.
    fn own_tokens(&self) -> Result<Option<TrustedIssuer>, StateError> {
        let tokens = self.token_key()?;
        storage::write(self, TOKEN_JWKS, tokens.jwks().as_bytes(), Access::Public)?;
        let keys = KeySet::from_json(&tokens.jwks()).map_err(|error| self.create_error(error))?;
        Ok(Some(TrustedIssuer { issuer: TOKEN_ISSUER.to_owned(), audiences: Vec::new(), keys }))
    }

    /// Whoever trusts another anchor on file would refuse everything.
    fn refuse_foreign_anchor(&self) -> Result<(), StateError> {
        let anchor =
            fs::read_to_string(self.file(ROOTS)).ok().and_then(|text| TrustBundle::from_pem(&text).ok());
        let Some(anchor) = anchor else { return Ok(()) };
        let roots = self.roots();
        let own = roots.rotation().and_then(|rotation| roots.certificates(rotation.active().generation));
        let foreign = match own {
            Ok(own) => !own.certificates().any(|root| anchor.contains(root)),
            // With a key but no certificate something was lost, which others tell.
            Err(_) => [CA_KEY, CA_CERTIFICATE, ROTATION].iter().all(|name| !self.exists(name)),
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

    fn publish_roots(&self, roots: &TrustBundle) -> Result<(), StateError> {
        storage::write(self, ROOTS, roots.pem().as_bytes(), Access::Public)
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

impl From<StateDir> for Arc<dyn CaStorage> {
    fn from(dir: StateDir) -> Self {
        Arc::new(dir)
    }
}

/// Files that are in a volume from the beginning.
const NOT_OURS: [&str; 1] = ["lost+found"];

/// Whether nobody has put anything into a directory yet.
fn is_empty(path: &Path) -> Result<bool, StateError> {
    for entry in fs::read_dir(path).map_err(io_error("read", path))? {
        let name = entry.map_err(io_error("read", path))?.file_name();
        if !NOT_OURS.iter().any(|other| *other == name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// That nothing else is in the place of a directory.
fn refuse_file(path: &Path) -> Result<(), StateError> {
    let is_other = fs::metadata(path).is_ok_and(|found| !found.is_dir());
    if is_other { Err(StateError::NotADirectory(path.to_owned())) } else { Ok(()) }
}

/// That a directory is ours: its owner could let others in at any time.
fn check_owner(path: &Path) -> Result<(), StateError> {
    let owner = fs::metadata(path).map_err(io_error("read", path))?.uid();
    let ours = Uid::effective().as_raw();
    if owner == ours { Ok(()) } else { Err(StateError::Owner { path: path.to_owned(), owner, ours }) }
}

fn mode(access: Access) -> u32 {
    match access {
        Access::Private => files::SECRET,
        Access::Public => files::PUBLIC,
    }
}

#[cfg(test)]
mod tests;
