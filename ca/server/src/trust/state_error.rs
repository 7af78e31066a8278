//! Where the state of a CA lies, and why it cannot be used.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use eastwest_ca::{bundle::BundleError, issuer::LoadError, jwt::TokenKeyError, key::PrivateKeyError};
use eastwest_identity::TrustDomain;
use thiserror::Error;

/// Where something of a CA's state lies, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory or a file.
    Path(PathBuf),
    /// A Kubernetes Secret or one key of it: `NAMESPACE/NAME` or `NAMESPACE/NAME, KEY`.
    Secret(String),
}

impl Place {
    /// A key of the Secret `NAMESPACE/NAME`.
    pub fn key_of_secret(name: &str, key: &str) -> Self {
        Self::Secret(format!("{name}, {key}"))
    }

    /// How to repair what is damaged there.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Path(_) => {
                "restore it from a backup, or move the whole state directory away to begin anew with a new root"
            }
            Self::Secret(_) => {
                "restore the Secret from a backup, or delete it to begin anew with what eastwest makes"
            }
        }
    }

    fn without_ca(&self) -> &'static str {
        match self {
            Self::Path(_) => {
                "there is no CA in this directory that a server would know; name the --state-dir of the server, or run \
                 `eastwest ca init`, `eastwest serve` or `eastwest ca serve` first"
            }
            Self::Secret(_) => {
                "there is no CA in this Secret; restore it from a backup, or delete it to begin anew with a new root"
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Secret(name) => write!(f, "Secret {name}"),
        }
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

/// Why the state of a CA cannot be used. The operator must correct it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The system refused to read or write.
    #[error("{place}: cannot {action}: {source}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// On which file.
        place: Place,
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
    /// A directory of another user.
    #[error(
        "{}: belongs to the user {owner} and not to {ours}, who runs eastwest: its owner could read the keys; run: chown \
         {ours} {} && chmod 700 {}, or name a directory that does not exist yet, for example {}",
        path.display(), path.display(), path.display(), path.join("state").display()
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our user.
        ours: u32,
    },
    /// Another server uses it.
    #[error("{}: another eastwest uses this state directory; stop it, or choose another --state-dir", .0.display())]
    Locked(PathBuf),
    /// There is no CA in it.
    #[error("{}: {}", .0, .0.without_ca())]
    NoCa(Place),
    /// A file where the state directory should be.
    #[error("{}: is a file; name a directory with --state-dir", .0.display())]
    NotADirectory(PathBuf),
    /// A CA is to be made, but there is one of another trust domain.
    #[error(
        "{place}: there is a CA already, that of the trust domain {found}, as its root says, and it is not replaced by one of \
         {wanted}: keep it with --trust-domain {found}, or name another --state-dir"
    )]
    OtherTrustDomain {
        /// Where it is.
        place: Place,
        /// The trust domain of its root.
        found: TrustDomain,
        /// The one that was asked for.
        wanted: TrustDomain,
    },
    /// The CA is plugged in, or was given to the server: nothing can be signed here.
    #[error(
        "{}: the CA of this server is plugged in, and its key is not kept here: have the running server sign, with \
         --server HOST:PORT",
        .0.display()
    )]
    PluggedIn(PathBuf),
    /// One of the files is missing.
    #[error("{missing}: is missing although {present} is there; {}", missing.remedy())]
    Missing {
        /// The file that is missing.
        missing: Place,
        /// A file that depends on it.
        present: Place,
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
    #[error("{place}: {reason}; {}", place.remedy())]
    Rotation {
        /// Which file.
        place: Place,
        /// The problem.
        reason: String,
    },
    /// A record of an earlier server cannot be read.
    #[error("{place}: {reason}; restore it from a backup, or remove it: then {forgotten}")]
    Record {
        /// Which file.
        place: Place,
        /// The problem.
        reason: String,
        /// What is lost without it.
        forgotten: &'static str,
    },
    /// A private key of a CA that cannot be read.
    #[error("{place}: {source}; {}", place.remedy())]
    Key {
        /// Which file.
        place: Place,
        /// The problem.
        source: PrivateKeyError,
    },
    /// A private key of something else that cannot be read.
    #[error("{place}: {source}; restore it from a backup, or remove it: {without}")]
    SigningKey {
        /// Which file.
        place: Place,
        /// The problem.
        source: PrivateKeyError,
        /// What happens without it.
        without: &'static str,
    },
    /// A CA certificate that cannot be read.
    #[error("{place}: {source}; {}", place.remedy())]
    Certificate {
        /// Which file.
        place: Place,
        /// The problem.
        source: BundleError,
    },
    /// Key and certificate do not belong together, or the certificate is not valid now.
    #[error("{certificate} with {key}: {source}; {}", certificate.remedy())]
    Pair {
        /// The certificate's file.
        certificate: Place,
        /// The key's file.
        key: Place,
        /// The problem.
        source: Box<LoadError>,
    },
    /// The token key cannot sign.
    #[error("{place}: {source}; restore it from a backup, or remove it: {without}")]
    TokenKey {
        /// Which file.
        place: Place,
        /// The problem.
        source: TokenKeyError,
        /// What happens without it.
        without: &'static str,
    },
    /// A key or certificate could not be made.
    #[error("{place}: cannot make a new CA: {reason}")]
    Create {
        /// Which directory.
        place: Place,
        /// The problem.
        reason: String,
    },
    /// What was there is gone, or not known yet.
    #[error("{place}: {reason}")]
    Unavailable {
        /// Which file, or all of them.
        place: Place,
        /// The problem, with its remedy.
        reason: String,
    },
}

/// Adds the action and the file to an error of the system.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let place = path.into();
    move |source| StateError::Io { action, place, source }
}
