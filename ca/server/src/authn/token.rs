//! By a service account's token in `authorization: Bearer`.

use std::{fs, io, path::PathBuf};

use eastwest_ca::{Caller, KeySet, TrustedIssuer, jwt::KeySetError};
use thiserror::Error;
use time::OffsetDateTime;

use super::{Authenticator, AuthnError, Credentials};
use crate::snapshot::Current;

/// Largest JWKS file in bytes.
const MAX_JWKS_BYTES: u64 = 1024 * 1024;
const SCHEME: &str = "Bearer ";

/// Recognises the bearers of tokens that one of our trusted issuers signed.
pub struct BearerTokens {
    current: Current,
}

impl BearerTokens {
    /// Judges by the issuers and the trust domain that `current` has at that moment.
    pub(crate) fn new(current: Current) -> Self {
        Self { current }
    }
}

#[tonic::async_trait]
impl Authenticator for BearerTokens {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: OffsetDateTime,
    ) -> Result<Caller, AuthnError> {
        credentials.encrypted()?;
        Ok(self.current.load().tokens.verify(bearer(credentials)?, now)?)
    }
}

/// The token in the one `authorization` header.
fn bearer<'a>(credentials: &Credentials<'a>) -> Result<&'a str, AuthnError> {
    let mut values = credentials.metadata.get_all("authorization").iter();
    let value = values.next().ok_or(AuthnError::Header("no authorization header"))?;
    if values.next().is_some() {
        return Err(AuthnError::Header("more than one authorization header"));
    }
    let text = value.to_str().map_err(|_| AuthnError::Header("the authorization header is not text"))?;
    match text.split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(token),
        _ => Err(AuthnError::Header("the authorization header bears no token")),
    }
}

/// Why the keys of an issuer could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JwksFileError {
    /// An address instead of a file.
    #[error(
        "--token-jwks {0}: fetching keys from an address is not supported yet; save them to a file and name that"
    )]
    Url(String),
    /// The file cannot be read.
    #[error("--token-jwks {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than 1 MiB.
    #[error("--token-jwks {}: {bytes} bytes are more than the {MAX_JWKS_BYTES} allowed", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file holds no key set.
    #[error("--token-jwks {}: {source}", path.display())]
    Keys {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: KeySetError,
    },
}

/// Trusts the tokens that `issuer` signs for `audiences` with the keys in the JWKS file `file`.
///
/// # Errors
/// See [`JwksFileError`].
pub fn jwks_file(file: &str, issuer: &str, audiences: Vec<String>) -> Result<TrustedIssuer, JwksFileError> {
    if file.starts_with("http://") || file.starts_with("https://") {
        return Err(JwksFileError::Url(file.to_owned()));
    }
    let path = PathBuf::from(file);
    let io_error = |source| JwksFileError::Io { path: path.clone(), source };
    let bytes = fs::metadata(&path).map_err(io_error)?.len();
    if bytes > MAX_JWKS_BYTES {
        return Err(JwksFileError::TooLarge { path, bytes });
    }
    let text = fs::read_to_string(&path).map_err(io_error)?;
    let keys = KeySet::from_json(&text).map_err(|source| JwksFileError::Keys { path, source })?;
    Ok(TrustedIssuer { issuer: issuer.to_owned(), audiences, keys })
}
