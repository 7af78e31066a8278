//! Certification requests (PKCS #10, RFC 2986). Only the public key of a request is used.

use der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber, asn1::BitStringRef};
use spki::AlgorithmIdentifierRef;
use thiserror::Error;

use crate::x509::{
    key::{PrivateKey, PrivateKeyError},
    pem,
    public_key::{KeyError, PublicKey},
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
}

impl From<der::Error> for CsrError {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

/// A request whose sender has proven to hold the private key. Subject, names and extensions asked for are
/// neither kept nor parsed (CA.md A6 to A8a).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCsr {
    key: PublicKey,
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
        let Parts { info, algorithm, signature } = parts(der)?;
        let key = PublicKey::from_spki(subject_public_key_info(info)?)?;
        let algorithm =
            AlgorithmIdentifierRef::from_der(algorithm).map_err(|_| CsrError::SignatureAlgorithm)?;
        match key.verifies(&algorithm, info, signature) {
            Some(true) => Ok(Self { key }),
            Some(false) => Err(CsrError::Signature),
            None => Err(CsrError::SignatureAlgorithm),
        }
    }

    /// A request for a private key that is at hand: possession needs no proof.
    ///
    /// # Errors
    /// A kind of key that we do not allow.
    pub fn of(key: &PrivateKey) -> Result<Self, PrivateKeyError> {
        Ok(Self { key: key.public()? })
    }

    /// The key to certify.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// A CertificationRequest (RFC 2986 §4.2).
struct Parts<'a> {
    /// The CertificationRequestInfo in DER: what is signed.
    info: &'a [u8],
    /// The AlgorithmIdentifier of the signature in DER.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

fn parts(request: &[u8]) -> der::Result<Parts<'_>> {
    let mut reader = SliceReader::new(request)?;
    let parts = reader.sequence(|reader| {
        let (info, algorithm) = (sequence(reader)?, sequence(reader)?);
        let signature = BitStringRef::decode(reader)?;
        let signature = signature.as_bytes().ok_or_else(|| Tag::BitString.value_error())?;
        Ok::<_, der::Error>(Parts { info, algorithm, signature })
    })?;
    reader.finish()?;
    Ok(parts)
}

/// The DER SubjectPublicKeyInfo inside a CertificationRequestInfo (RFC 2986 §4.1). Neither the subject nor the
/// attributes are parsed.
fn subject_public_key_info(info: &[u8]) -> der::Result<&[u8]> {
    SliceReader::new(info)?.sequence(|reader| {
        if u8::decode(reader)? != 0 {
            return Err(Tag::Integer.value_error().into());
        }
        sequence(reader)?; // subject
        let key = sequence(reader)?;
        if !reader.is_finished() {
            element(reader, ATTRIBUTES)?;
        }
        Ok(key)
    })
}

/// The tag `[0]` of the attributes.
const ATTRIBUTES: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };

/// The next element with its header, which must be a SEQUENCE.
fn sequence<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    element(reader, Tag::Sequence)
}

/// The next element with its header, which must have this tag.
fn element<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> der::Result<&'a [u8]> {
    Tag::peek(reader)?.assert_eq(tag)?;
    reader.tlv_bytes()
}
