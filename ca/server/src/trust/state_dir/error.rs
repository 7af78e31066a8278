//! Errors of a state directory.

use std::{
    io,
    path::{Path, PathBuf},
};

use eastwest_ca::{bundle::BundleError, issuer::LoadError, jwt::TokenKeyError, key::PrivateKeyError};
use thiserror::Error;

/// How to repair a damaged state directory.
const REMEDY: &str =
    "restore it from a backup, or move the whole state directory away to begin anew with a new root";

/// Why a state directory cannot be used. The operator must correct it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The system refused to read or write.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Other users can access the file or directory.
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
        /// A file that depends on it.
        present: PathBuf,
    },
    /// A key is to be imported, but there is one already.
    #[error("{}: there is a CA key already, and it is not replaced; import into an empty --state-dir", .0.display())]
    Exists(PathBuf),
    /// The last CA was provided or plugged in and no longer is.
    #[error(
        "{}: is the trust anchor of another CA ({root}), with which the last server signed; its key is not kept here: \
         give it again, by --ca-dir, or to `eastwest ca serve` by --root-cert and --root-key, by the variables \
         EASTWEST_ROOT_CERT_PEM and EASTWEST_ROOT_KEY_PEM, or by --insecure-test-root; or remove this file to sign with \
         a root of our own, which nobody trusts who read this file",
        path.display()
    )]
    ForeignAnchor {
        /// The trust anchor.
        path: PathBuf,
        /// The first root in it: subject, fingerprint and end.
        root: String,
    },
    /// The record of the rotation cannot be read or written.
    #[error("{}: {reason}; {REMEDY}", path.display())]
    Rotation {
        /// Which file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A record of an earlier server cannot be read.
    #[error("{}: {reason}; restore it from a backup, or remove it: then {forgotten}", path.display())]
    Record {
        /// Which file.
        path: PathBuf,
        /// The problem.
        reason: String,
        /// What is lost without it.
        forgotten: &'static str,
    },
    /// A private key that cannot be read.
    #[error("{}: {source}; {REMEDY}", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// The problem.
        source: PrivateKeyError,
    },
    /// A CA certificate that cannot be read.
    #[error("{}: {source}; {REMEDY}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// The problem.
        source: BundleError,
    },
    /// Key and certificate do not belong together, or the certificate is not valid now.
    #[error("{} with {}: {source}; {REMEDY}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The problem.
        source: LoadError,
    },
    /// The token key cannot sign.
    #[error("{}: {source}; {REMEDY}", path.display())]
    TokenKey {
        /// Which file.
        path: PathBuf,
        /// The problem.
        source: TokenKeyError,
    },
    /// A key or certificate could not be made.
    #[error("{}: cannot make a new CA: {reason}", path.display())]
    Create {
        /// Which directory.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
}

/// Adds the action and the file to an error of the system.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}
