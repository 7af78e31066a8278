//! Credentials: what a Secret or a ConfigMap holds for TLS towards servers outside (POLICY.md O7).

use std::{fmt, sync::Arc};

use eastwest_identity::Name;
use zeroize::Zeroizing;

use crate::{kind::Kind, meta::Meta, names::ObjectRef};

/// The suffix by which the trust bundle of a credential is named.
pub const TRUST_SUFFIX: &str = "-cacert";

/// A private key as PEM. It is wiped from memory with its last owner, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Arc<Zeroizing<String>>);

impl PrivateKey {
    /// Takes a key in.
    pub fn new(pem: Zeroizing<String>) -> Self {
        Self(Arc::new(pem))
    }

    /// The key itself, for whoever hands it out.
    pub fn pem(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The chain as PEM, leaf first.
    pub certificate_chain: Name,
    /// The key of the leaf.
    pub private_key: PrivateKey,
    /// SHA-256 of the leaf, in hexadecimal.
    pub fingerprint: Name,
}

/// The certificates that are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaBundle {
    /// Certificates as PEM.
    pub certificates: Name,
    /// Revoked certificates as PEM.
    pub crl: Option<Name>,
    /// SHA-256 of the certificates one after the other, in hexadecimal.
    pub fingerprint: Name,
}

/// A Secret or a ConfigMap. What it holds of each kind is there, not there, or unusable, and then it is known why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Metadata; the kind is `Secret` or `ConfigMap`.
    pub meta: Meta,
    /// Certificate and key; a ConfigMap holds none.
    pub pair: Option<Result<KeyPair, Name>>,
    /// Trust bundle.
    pub trust: Option<Result<CaBundle, Name>>,
}

/// What a `credentialName` refers to, as the clients of one namespace read it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialRef {
    /// A Secret or a ConfigMap.
    pub object: ObjectRef,
    /// The name under which proxies ask for certificate and key; for the trust bundle [`TRUST_SUFFIX`] follows.
    pub resource: Name,
}

impl CredentialRef {
    /// Reads a `credentialName`: `NAME`, `kubernetes://NAME`, either with `NAMESPACE/` before the name, or
    /// `configmap://NAMESPACE/NAME`. `None` for schemes that mean nothing to a sidecar.
    pub fn parse(credential_name: &str, namespace: &Name) -> Option<Self> {
        let (scheme, path) = credential_name.split_once("://").unwrap_or(("kubernetes", credential_name));
        let (home, name) = match path.split_once('/') {
            Some((home, name)) => (Name::from(home), name),
            None if scheme == "kubernetes" => (namespace.clone(), path),
            None => return None,
        };
        let kind = match scheme {
            "kubernetes" => Kind::Secret,
            "configmap" => Kind::ConfigMap,
            _ => return None,
        };
        if name.is_empty() || name.contains('/') {
            return None;
        }
        let resource = format!("{scheme}://{path}").into();
        Some(Self { object: ObjectRef::new(kind, home, name), resource })
    }

    /// The name under which proxies ask for the trust bundle.
    pub fn trust_resource(&self) -> Name {
        format!("{}{TRUST_SUFFIX}", self.resource).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_credentials() {
        let read = |text: &str| {
            let found = CredentialRef::parse(text, &"shop".into())?;
            Some((found.object.to_string(), found.resource.to_string()))
        };
        for (text, object, resource) in [
            ("client", "Secret/shop/client", "kubernetes://client"),
            ("kubernetes://client", "Secret/shop/client", "kubernetes://client"),
            ("pay/client", "Secret/pay/client", "kubernetes://pay/client"),
            ("configmap://shop/roots", "ConfigMap/shop/roots", "configmap://shop/roots"),
        ] {
            assert_eq!(read(text), Some((object.to_owned(), resource.to_owned())), "{text}");
        }
        for text in ["", "a/b/c", "configmap://roots", "kubernetes-gateway://a/b", "builtin://", "shop/"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = PrivateKey::new(Zeroizing::new("-----BEGIN PRIVATE KEY-----".to_owned()));
        assert_eq!(format!("{key:?} {:#?}", Some(&key)), "[redacted] Some(\n    [redacted],\n)");
        assert!(key.pem().starts_with("-----BEGIN"));
    }
}
