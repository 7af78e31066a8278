//! Writing and signing end-entity certificates (RFC 5280 §4.1). rcgen signs the self-signed roots only: of a name with two
//! attributes of one type, such as `DC=com, DC=example`, it keeps one, but a certificate must name its issuer byte for
//! byte (RFC 5280 §6.1.3).

use std::time::Duration;

use der::{
    DateTime, Decode as _, Encode as _, Sequence,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetString, UintRef},
    flagset::FlagSet,
};
use rcgen::SigningKey as _;
use ring::digest;
use rustls_pki_types::CertificateDer;
use spki::AlgorithmIdentifierRef;
use thiserror::Error;
use time::OffsetDateTime;
use x509_cert::{
    ext::{
        Extension, ToExtension as _,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
            SubjectKeyIdentifier, name::GeneralNames,
        },
    },
    name::Name,
    time::{Time, Validity},
};
use x509_parser::{certificate::X509Certificate, extensions::ParsedExtension};

use crate::x509::{
    Window,
    key::PrivateKey,
    public_key::{ECDSA_SHA256, ECDSA_SHA384, KeyKind, PublicKey, RSA_SHA256},
};

/// Length of the key identifiers that we make, in bytes.
const KEY_ID_LEN: usize = 20;

/// Why a certificate was not made.
#[derive(Debug, Error)]
pub(crate) enum SignError {
    /// It cannot be encoded.
    #[error(transparent)]
    Encode(#[from] der::Error),
    /// The key did not sign.
    #[error(transparent)]
    Key(#[from] rcgen::Error),
}

/// What an end-entity certificate says, besides whose key it certifies and who signs it.
pub(crate) struct Contents {
    /// The serial number, big-endian.
    pub(crate) serial: [u8; 16],
    pub(crate) window: Window,
    pub(crate) subject: Name,
    /// The subject alternative names; without any, there is no such extension.
    pub(crate) names: GeneralNames,
    pub(crate) key_usages: FlagSet<KeyUsages>,
    pub(crate) extended_key_usages: Vec<ObjectIdentifier>,
}

/// A TBSCertificate of version 3.
#[derive(Sequence)]
struct TbsCertificate<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial: UintRef<'a>,
    signature: AlgorithmIdentifierRef<'a>,
    issuer: AnyRef<'a>,
    validity: Validity,
    subject: Name,
    key: AnyRef<'a>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// A Certificate.
#[derive(Sequence)]
struct Certificate<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifierRef<'a>,
    signature: BitStringRef<'a>,
}

/// A private key, and how the certificates that it signs name their issuer.
pub(crate) struct Signer {
    key: PrivateKey,
    algorithm: AlgorithmIdentifierRef<'static>,
    /// The subject of its own certificate in DER.
    name: Vec<u8>,
    /// The identifier of its key.
    key_id: Vec<u8>,
}

impl Signer {
    /// The key of the CA certificate `own`. `None` for Ed25519, whose signatures Envoy does not verify.
    pub(crate) fn new(key: PrivateKey, kind: KeyKind, own: &X509Certificate<'_>) -> Option<Self> {
        let algorithm = match kind {
            KeyKind::P256 => ECDSA_SHA256,
            KeyKind::P384 => ECDSA_SHA384,
            KeyKind::Rsa(_) => RSA_SHA256,
            KeyKind::Ed25519 => return None,
        };
        let named = own.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let key_id = named.unwrap_or_else(|| key_id(own.public_key().raw));
        Some(Self { key, algorithm, name: own.subject().as_raw().to_vec(), key_id })
    }

    /// The private key.
    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The name that certificates give their issuer, in DER.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Signs a certificate for `key`.
    pub(crate) fn sign(
        &self,
        contents: &Contents,
        key: &PublicKey,
    ) -> Result<CertificateDer<'static>, SignError> {
        let tbs = TbsCertificate {
            version: 2,
            serial: UintRef::new(&contents.serial)?,
            signature: self.algorithm,
            issuer: AnyRef::from_der(&self.name)?,
            validity: validity(contents.window)?,
            subject: contents.subject.clone(),
            key: AnyRef::from_der(key.spki())?,
            extensions: self.extensions(contents, key)?,
        };
        let tbs = tbs.to_der()?;
        let signature = self.key.sign(&tbs)?;
        let signature = BitStringRef::from_bytes(&signature)?;
        let whole = Certificate { tbs: AnyRef::from_der(&tbs)?, algorithm: self.algorithm, signature };
        Ok(whole.to_der()?.into())
    }

    fn extensions(&self, contents: &Contents, key: &PublicKey) -> der::Result<Vec<Extension>> {
        let Contents { subject, names, key_usages, extended_key_usages, .. } = contents;
        let issuer_key = Some(OctetString::new(&*self.key_id)?);
        let issuer_key = AuthorityKeyIdentifier { key_identifier: issuer_key, ..Default::default() };
        let mut extensions = vec![issuer_key.to_extension(subject, &[])?];
        if !names.is_empty() {
            extensions.push(SubjectAltName(names.clone()).to_extension(subject, &[])?);
        }
        extensions.extend([
            KeyUsage(*key_usages).to_extension(subject, &[])?,
            ExtendedKeyUsage(extended_key_usages.clone()).to_extension(subject, &[])?,
            SubjectKeyIdentifier(OctetString::new(key_id(key.spki()))?).to_extension(subject, &[])?,
            BasicConstraints { ca: false, path_len_constraint: None }.to_extension(subject, &[])?,
        ]);
        Ok(extensions)
    }
}

/// The identifier of a key: the beginning of the SHA-256 of its SubjectPublicKeyInfo (RFC 7093 §2).
fn key_id(spki: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, spki).as_ref()[..KEY_ID_LEN].to_vec()
}

fn validity(window: Window) -> der::Result<Validity> {
    Ok(Validity::new(time(window.not_before)?, time(window.not_after)?))
}

/// UTCTime until 2049, GeneralizedTime later (RFC 5280 §4.1.2.5).
fn time(time: OffsetDateTime) -> der::Result<Time> {
    let since_1970 = Duration::try_from(time - OffsetDateTime::UNIX_EPOCH).unwrap_or_default();
    DateTime::from_unix_duration(since_1970).map(Time::from)
}

#[cfg(test)]
mod tests;
