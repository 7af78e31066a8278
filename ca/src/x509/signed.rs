//! What is signed, its algorithm and its signature: the common shape of certificates (RFC 5280 §4.1) and certification
//! requests (RFC 2986 §4.2).

use der::{
    Decode as _, Encode as _, Reader as _, SliceReader, Tag,
    asn1::{AnyRef, BitStringRef},
};
use rustls_pki_types::SignatureVerificationAlgorithm;
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

/// A signed structure, in parts that borrow from it.
pub(crate) struct Signed<'a> {
    /// What is signed, in DER with its header.
    pub(crate) content: &'a [u8],
    /// The AlgorithmIdentifier of the signature in DER.
    pub(crate) algorithm: &'a [u8],
    /// The signature.
    pub(crate) signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Takes a signed structure apart; nothing may follow it.
    pub(crate) fn parse(whole: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(whole)?;
        let parts = reader.sequence(|reader| {
            let (content, algorithm) = (sequence(reader)?, sequence(reader)?);
            let signature = BitStringRef::decode(reader)?;
            let signature = signature.as_bytes().ok_or_else(|| Tag::BitString.value_error())?;
            Ok::<_, der::Error>(Self { content, algorithm, signature })
        })?;
        reader.finish()?;
        Ok(parts)
    }

    /// Whether the key in the DER SubjectPublicKeyInfo `spki` made the signature, by an algorithm that TLS clients accept
    /// with such a key.
    pub(crate) fn is_by(&self, spki: &[u8]) -> bool {
        let verify = || {
            let info = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
            let of_key = info.algorithm.to_der().ok()?;
            let (of_key, key) = (content(&of_key)?, info.subject_public_key.as_bytes()?);
            let mut fitting =
                self.algorithms().filter(|algorithm| algorithm.public_key_alg_id().as_ref() == of_key);
            Some(fitting.any(|by| by.verify_signature(key, self.content, self.signature).is_ok()))
        };
        verify().unwrap_or(false)
    }

    /// The name of the signature's algorithm, if it is one that TLS clients do not accept, whatever the key.
    pub(crate) fn refused_algorithm(&self) -> Option<String> {
        if self.algorithms().next().is_some() {
            return None;
        }
        let named =
            AlgorithmIdentifierRef::from_der(self.algorithm).map(|algorithm| algorithm.oid.to_string());
        let oid = named.unwrap_or_else(|_| "an unreadable algorithm".to_owned());
        let known = WEAK.iter().find(|(known, _)| *known == oid);
        Some(known.map_or(oid, |(_, name)| (*name).to_owned()))
    }

    /// The algorithms of TLS clients that the signature may be by.
    fn algorithms(&self) -> impl Iterator<Item = &'static dyn SignatureVerificationAlgorithm> {
        let wanted = content(self.algorithm);
        let all = webpki::ALL_VERIFICATION_ALGS.iter().copied();
        all.filter(move |algorithm| Some(algorithm.signature_alg_id().as_ref()) == wanted)
    }
}

/// Algorithms that old tools still sign with, by the names that OpenSSL gives them.
const WEAK: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS with other parameters than those of TLS"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
];

/// An element without its header.
fn content(element: &[u8]) -> Option<&[u8]> {
    AnyRef::from_der(element).ok().map(|element| element.value())
}

/// The next element with its header, which must be a SEQUENCE.
pub(crate) fn sequence<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    element(reader, Tag::Sequence)
}

/// The next element with its header, which must have this tag.
pub(crate) fn element<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> der::Result<&'a [u8]> {
    Tag::peek(reader)?.assert_eq(tag)?;
    reader.tlv_bytes()
}
