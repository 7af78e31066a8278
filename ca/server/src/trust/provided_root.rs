//! A root that was given as PEM: from files, a CI system's secrets, or our own test root.

use std::sync::Arc;

use eastwest_ca::{
    LocalIssuer, PrivateKey, TrustBundle, bundle::BundleError, issuer::LoadError, key::PrivateKeyError,
};
use thiserror::Error;
use time::OffsetDateTime;

use crate::trust::key_material::KeyMaterial;

/// Why a given root cannot be used. Never says anything about the key's content.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProvidedRootError {
    /// The certificate cannot be read.
    #[error("the root's certificate: {0}")]
    Certificate(#[from] BundleError),
    /// The key cannot be read.
    #[error("the root's key: {0}")]
    Key(#[from] PrivateKeyError),
    /// They do not belong together, or are not valid now.
    #[error("the root's certificate with its key: {0}")]
    Pair(#[from] LoadError),
}

impl KeyMaterial {
    /// Signs with a root given as PEM: certificate, and PKCS#8 key. There is no token key yet; see
    /// [`StateDir::adopt`](crate::StateDir::adopt).
    ///
    /// # Errors
    /// See [`ProvidedRootError`].
    pub fn given(
        certificate_pem: &str,
        key_pem: &str,
        now: OffsetDateTime,
    ) -> Result<Self, ProvidedRootError> {
        let roots = TrustBundle::from_pem(certificate_pem)?;
        let key = PrivateKey::from_pem(key_pem)?;
        let chain = roots.certificates().cloned().collect();
        let issuer = LocalIssuer::new(key, chain, &roots, now)?;
        Ok(Self { issuer: Arc::new(issuer), roots, latest_expiry: Arc::default(), own_tokens: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::test_root;

    #[test]
    fn a_given_root_needs_certificate_and_key_that_fit() {
        let now = OffsetDateTime::now_utc();
        let (certificate, key) = (test_root::CERTIFICATE_PEM, test_root::KEY_PEM);
        assert!(KeyMaterial::given(certificate, key, now).is_ok());
        assert!(matches!(KeyMaterial::given(key, key, now), Err(ProvidedRootError::Certificate(_))));
        assert!(matches!(KeyMaterial::given(certificate, certificate, now), Err(ProvidedRootError::Key(_))));
        let other = PrivateKey::generate().unwrap().to_pem();
        let error = KeyMaterial::given(certificate, &other, now).err().unwrap();
        assert!(matches!(error, ProvidedRootError::Pair(_)), "{error}");
        assert!(!error.to_string().contains("PRIVATE"), "{error}");
    }
}
