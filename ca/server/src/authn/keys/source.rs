//! The sources of an issuer's keys.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_ca::{KeySet, jwt::KeySetError};
use eastwest_io::{FetchError, HttpsClient, HttpsUrl};
use serde::Deserialize;
use thiserror::Error;

use crate::authn::kubernetes::{KubernetesApi, KubernetesApiError};

/// Largest key set or discovery document in bytes.
const MAX_BYTES: usize = 1024 * 1024;
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Where the keys of an issuer are found.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A JWKS file, read again when it changes.
    File(PathBuf),
    /// A JWKS at an address.
    Address(HttpsUrl, HttpsClient),
    /// A JWKS at the address that the issuer's discovery document names (OpenID Connect Discovery §4).
    Discovery(HttpsUrl, HttpsClient),
    /// The Kubernetes API, which gives the keys of its tokens only to those who may read them.
    Kubernetes(Arc<dyn KubernetesApi>),
}

/// Why no keys were read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// More than 1 MiB.
    #[error("{}: {bytes} bytes are more than the {MAX_BYTES} allowed", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The address gave nothing.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The Kubernetes API gave nothing.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesApiError),
    /// What was found is no key set.
    #[error("{at}: {source}")]
    Keys {
        /// File or address.
        at: String,
        /// The problem.
        source: KeySetError,
    },
    /// What was found is no discovery document.
    #[error("{0}: not a discovery document with issuer and jwks_uri")]
    Document(String),
    /// The discovery document of another issuer.
    #[error(
        "{at}: it is the discovery document of {found:?}, not of {issuer:?}; they must be equal byte for byte"
    )]
    Issuer {
        /// Where it was found.
        at: String,
        /// The issuer that it names.
        found: String,
        /// Whom it should speak of.
        issuer: String,
    },
}

impl KeySource {
    /// The source that a flag names: an address, or else a file.
    ///
    /// # Errors
    /// An address that may not be asked.
    pub fn parse(text: &str, client: &HttpsClient) -> Result<Self, FetchError> {
        if text.contains("://") {
            return Ok(Self::Address(HttpsUrl::parse(text)?, client.clone()));
        }
        Ok(Self::File(PathBuf::from(text)))
    }

    /// The source that the issuer's own discovery document names.
    ///
    /// # Errors
    /// An issuer that is not an address, or one that may not be asked.
    pub fn discovered(issuer: &str, client: &HttpsClient) -> Result<Self, FetchError> {
        let address = HttpsUrl::parse(&format!("{}{DISCOVERY}", issuer.trim_end_matches('/')))?;
        Ok(Self::Discovery(address, client.clone()))
    }

    /// Reads the keys, unless the source is as it was when last `seen`.
    pub(super) async fn read(
        &self,
        issuer: &str,
        seen: &mut Option<Stamp>,
    ) -> Result<Option<KeySet>, SourceError> {
        match self {
            Self::File(path) => read_file(path, seen),
            Self::Address(address, client) => fetch(address, client).await.map(Some),
            Self::Discovery(document, client) => {
                let keys = discover(issuer, document, client).await?;
                fetch(&keys, client).await.map(Some)
            }
            Self::Kubernetes(api) => key_set(&api.keys().await?, api).map(Some),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Address(address, _) | Self::Discovery(address, _) => address.fmt(f),
            Self::Kubernetes(api) => api.fmt(f),
        }
    }
}

/// What tells one content of a file from another without reading it; follows the links of mounted Secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

pub(super) fn read_file(path: &Path, seen: &mut Option<Stamp>) -> Result<Option<KeySet>, SourceError> {
    let failed = |source| SourceError::Io { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    let stamp = Stamp::of(&metadata);
    if *seen == Some(stamp) {
        return Ok(None);
    }
    if metadata.len() > MAX_BYTES as u64 {
        return Err(SourceError::TooLarge { path: path.to_owned(), bytes: metadata.len() });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let at = || path.display().to_string();
    let keys = KeySet::from_json(&text).map_err(|source| SourceError::Keys { at: at(), source })?;
    *seen = Some(stamp);
    Ok(Some(keys))
}

async fn fetch(address: &HttpsUrl, client: &HttpsClient) -> Result<KeySet, SourceError> {
    key_set(&client.get(address, MAX_BYTES).await?, address)
}

fn key_set(body: &[u8], at: &impl ToString) -> Result<KeySet, SourceError> {
    let text = String::from_utf8_lossy(body);
    KeySet::from_json(&text).map_err(|source| SourceError::Keys { at: at.to_string(), source })
}

/// The members of a discovery document that we look at.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

async fn discover(issuer: &str, at: &HttpsUrl, client: &HttpsClient) -> Result<HttpsUrl, SourceError> {
    let body = client.get(at, MAX_BYTES).await?;
    let document: Document =
        serde_json::from_slice(&body).map_err(|_| SourceError::Document(at.to_string()))?;
    if document.issuer != issuer {
        return Err(SourceError::Issuer {
            at: at.to_string(),
            found: document.issuer.chars().take(200).collect(),
            issuer: issuer.to_owned(),
        });
    }
    Ok(HttpsUrl::parse(&document.jwks_uri)?)
}
