//! Certification requests (PKCS #10, RFC 2986). Only the public key of a request is used.

use der::{
    Decode as _, Reader as _, SliceReader, Tag, TagNumber,
    asn1::{AnyRef, ObjectIdentifier},
    oid::db::{rfc5280::ID_CE_SUBJECT_ALT_NAME, rfc5912::ID_EXTENSION_REQ},
};
use spki::AlgorithmIdentifierRef;
use thiserror::Error;
use x509_cert::ext::{
    Extension,
    pkix::{SubjectAltName, name::GeneralName},
};

use crate::x509::{
    key::{PrivateKey, PrivateKeyError},
    pem,
    public_key::{KeyError, PublicKey},
    signed::{Signed, element, sequence},
};

/// Largest request in bytes of PEM; checked before anything is decoded.
pub const MAX_CSR_BYTES: usize = 64 * 1024;

const LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];

/// Why a request is refused. The caller must correct it (gRPC InvalidArgument).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CsrError {
    /// More than 64 KiB.
    #[error("csr: {0} bytes are more than the {MAX_CSR_BYTES} allowed")]
    TooLarge(usize),
    /// Not one PEM block with the right label.
    #[error("csr: {0}")]
    Pem(#[from] pem::PemError),
    /// Not the DER of a version 1 request, or bytes after it.
    #[error("csr: not a PKCS #10 certification request in DER")]
    Malformed,
    /// A public key that gets no certificate.
    #[error("csr: {0}")]
    Key(#[from] KeyError),
    /// A signature algorithm that does not fit the key or that we do not know.
    #[error(
        "csr: the signature algorithm does not fit the key: use ECDSA or RSA (PKCS #1 v1.5) with SHA-256 or SHA-384, \
         RSA with SHA-512, or Ed25519"
    )]
    SignatureAlgorithm,
    /// The request is not signed by its own key, so its sender may not hold the key.
    #[error("csr: the signature is not by the request's own key")]
    Signature,
    /// The names that it asks for cannot be read.
    #[error("csr: the subject alternative names that it asks for cannot be read")]
    Names,
}

impl From<der::Error> for CsrError {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

/// A request whose sender has proven to hold the private key. Subject and extensions asked for are not parsed (CA.md A6 to
/// A8a), but for the names where somebody may have some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCsr {
    key: PublicKey,
    /// The attributes in DER with their header, as they came; empty if there are none.
    attributes: Vec<u8>,
}

impl VerifiedCsr {
    /// Reads one PEM block and verifies the proof of possession.
    ///
    /// # Errors
    /// See [`CsrError`].
    pub fn from_pem(text: &str) -> Result<Self, CsrError> {
        if text.len() > MAX_CSR_BYTES {
            return Err(CsrError::TooLarge(text.len()));
        }
        Self::from_der(&pem::decode_one(text, &LABELS)?)
    }

    /// Reads a DER request and verifies the proof of possession.
    ///
    /// # Errors
    /// See [`CsrError`].
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        let Signed { content: info, algorithm, signature } = Signed::parse(der)?;
        let (key, attributes) = key_and_attributes(info)?;
        let key = PublicKey::from_spki(key)?;
        let algorithm =
            AlgorithmIdentifierRef::from_der(algorithm).map_err(|_| CsrError::SignatureAlgorithm)?;
        match key.verifies(&algorithm, info, signature) {
            Some(true) => Ok(Self { key, attributes: attributes.to_vec() }),
            Some(false) => Err(CsrError::Signature),
            None => Err(CsrError::SignatureAlgorithm),
        }
    }

    /// A request for a private key that is at hand: possession needs no proof.
    ///
    /// # Errors
    /// A kind of key that we do not allow.
    pub fn of(key: &PrivateKey) -> Result<Self, PrivateKeyError> {
        Ok(Self { key: key.public()?, attributes: Vec::new() })
    }

    /// The subject alternative names that the request asks for.
    ///
    /// # Errors
    /// They are there twice, or cannot be read.
    pub(crate) fn requested_names(&self) -> Result<Vec<GeneralName>, CsrError> {
        if self.attributes.is_empty() {
            return Ok(Vec::new());
        }
        names_in(&self.attributes).map_err(|_| CsrError::Names)
    }

    /// The key to certify.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// The DER SubjectPublicKeyInfo inside a CertificationRequestInfo (RFC 2986 §4.1), and its attributes, if there are any.
/// Neither the subject nor the attributes are parsed.
fn key_and_attributes(info: &[u8]) -> der::Result<(&[u8], &[u8])> {
    SliceReader::new(info)?.sequence(|reader| {
        if u8::decode(reader)? != 0 {
            return Err(Tag::Integer.value_error().into());
        }
        sequence(reader)?; // subject
        let key = sequence(reader)?;
        let attributes = if reader.is_finished() { &[] } else { element(reader, ATTRIBUTES)? };
        Ok((key, attributes))
    })
}

/// The names in the one extensionRequest among `attributes` (RFC 2985 §5.4.2, RFC 5280 §4.2.1.6).
fn names_in(attributes: &[u8]) -> der::Result<Vec<GeneralName>> {
    let mut names: Option<Vec<GeneralName>> = None;
    let mut requested = false;
    let mut attributes = SliceReader::new(AnyRef::from_der(attributes)?.value())?;
    while !attributes.is_finished() {
        attributes.sequence(|attribute| {
            let (kind, values) = (ObjectIdentifier::decode(attribute)?, AnyRef::decode(attribute)?);
            if kind != ID_EXTENSION_REQ {
                return Ok(());
            }
            if std::mem::replace(&mut requested, true) {
                return Err(Tag::Set.value_error().into());
            }
            for Extension { extn_id, extn_value, .. } in Vec::<Extension>::from_der(values.value())? {
                if extn_id == ID_CE_SUBJECT_ALT_NAME {
                    let SubjectAltName(found) = SubjectAltName::from_der(extn_value.as_bytes())?;
                    if names.replace(found).is_some() {
                        return Err(Tag::Sequence.value_error().into());
                    }
                }
            }
            Ok::<_, der::Error>(())
        })?;
    }
    Ok(names.unwrap_or_default())
}

/// The tag `[0]` of the attributes.
const ATTRIBUTES: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
