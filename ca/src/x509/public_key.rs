//! The public keys that a certificate may carry: of a known kind and in DER, then copied byte for byte, so that every
//! library can read what we sign (CA.md C4 and A4 to A5a).

use std::fmt;

use der::{
    Decode as _, Sequence,
    asn1::{AnyRef, ObjectIdentifier, UintRef},
    oid::db::{
        rfc5912::{
            ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1,
            SECP_384_R_1, SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION,
            SHA_512_WITH_RSA_ENCRYPTION,
        },
        rfc8410::ID_ED_25519,
    },
};
use ring::{digest, signature};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use thiserror::Error;

/// Smallest and largest RSA modulus in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Smallest RSA exponent: with 1 anybody can sign, and with 3 sloppy verifiers can be fooled.
const RSA_EXPONENT: std::ops::RangeInclusive<u64> = 65_537..=0x1_ffff_ffff;

/// The algorithm of RSA keys (RFC 3279 §2.3.1).
pub(crate) const RSA: AlgorithmIdentifierRef<'static> = with_null(RSA_ENCRYPTION);

/// The algorithms of the signatures that we verify and make: ECDSA and Ed25519 have no parameters (RFC 5758 §3.2,
/// RFC 8410 §3), RSA has NULL (RFC 4055 §5).
pub(crate) const ECDSA_SHA256: AlgorithmIdentifierRef<'static> = plain(ECDSA_WITH_SHA_256);
pub(crate) const ECDSA_SHA384: AlgorithmIdentifierRef<'static> = plain(ECDSA_WITH_SHA_384);
pub(crate) const RSA_SHA256: AlgorithmIdentifierRef<'static> = with_null(SHA_256_WITH_RSA_ENCRYPTION);
const RSA_SHA384: AlgorithmIdentifierRef<'static> = with_null(SHA_384_WITH_RSA_ENCRYPTION);
const RSA_SHA512: AlgorithmIdentifierRef<'static> = with_null(SHA_512_WITH_RSA_ENCRYPTION);
const ED25519: AlgorithmIdentifierRef<'static> = plain(ID_ED_25519);

const fn plain(oid: ObjectIdentifier) -> AlgorithmIdentifierRef<'static> {
    AlgorithmIdentifierRef { oid, parameters: None }
}

const fn with_null(oid: ObjectIdentifier) -> AlgorithmIdentifierRef<'static> {
    AlgorithmIdentifierRef { oid, parameters: Some(AnyRef::NULL) }
}

/// Ed25519 points of small order without their sign bit: with such a key anybody can sign (RFC 8032 §5.1).
const SMALL_ORDER: [&[u8; 32]; 7] = [
    &[0; 32],
    b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\
      \xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
    b"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\
      \x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
    &near_p(0xec),
    &near_p(0xed),
    &near_p(0xee),
];

/// A number just below 2^255, little-endian: the field's prime p (0xed) and its neighbours.
const fn near_p(lowest: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = lowest;
    bytes[31] = 0x7f;
    bytes
}

/// Why a public key gets no certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Another kind of key, a compressed point, explicit curve parameters, or not in its canonical encoding.
    #[error("this kind of public key, or this way of encoding it, is not allowed; {ALLOWED}")]
    Kind,
    /// An RSA modulus that is too small or too large.
    #[error("an RSA key of {0} bits is not allowed; {ALLOWED}")]
    RsaBits(usize),
    /// An RSA modulus or exponent that cannot be part of a sound key.
    #[error(
        "the RSA modulus or exponent is not sound: both must be odd, the exponent at least 65537; {ALLOWED}"
    )]
    RsaNumbers,
    /// An Ed25519 point of small order.
    #[error("the Ed25519 key is a point of small order, with which anybody can sign; make a new key")]
    SmallOrder,
}

const ALLOWED: &str = "allowed are ECDSA P-256 and P-384 (named curve, uncompressed point), Ed25519, and RSA with 2048 \
                       to 8192 bits";

/// The kinds of key that we sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA with a modulus of this many bits.
    Rsa(usize),
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("ECDSA P-256"),
            Self::P384 => f.write_str("ECDSA P-384"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
        }
    }
}

/// A public key of an allowed kind, in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    spki: Vec<u8>,
    /// Where the key proper begins in `spki`: the content of its BIT STRING.
    key_at: usize,
}

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    ///
    /// # Errors
    /// See [`KeyError`]. Whether an elliptic curve point is on its curve shows when a signature is verified.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| KeyError::Kind)?;
        let key = info.subject_public_key.as_bytes().ok_or(KeyError::Kind)?;
        Ok(Self { kind: kind(&info.algorithm, key)?, spki: spki.to_vec(), key_at: spki.len() - key.len() })
    }

    /// What kind of key it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo in hexadecimal: names the key in logs.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.spki)
    }

    /// Whether `signature` over `message` is this key's; `None` if the signature algorithm does not fit the key.
    pub(crate) fn verifies(
        &self,
        algorithm: &AlgorithmIdentifierRef<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        type Known = (AlgorithmIdentifierRef<'static>, &'static dyn signature::VerificationAlgorithm);
        let known: &[Known] = match self.kind {
            KeyKind::P256 => &[
                (ECDSA_SHA256, &signature::ECDSA_P256_SHA256_ASN1),
                (ECDSA_SHA384, &signature::ECDSA_P256_SHA384_ASN1),
            ],
            KeyKind::P384 => &[
                (ECDSA_SHA256, &signature::ECDSA_P384_SHA256_ASN1),
                (ECDSA_SHA384, &signature::ECDSA_P384_SHA384_ASN1),
            ],
            KeyKind::Ed25519 => &[(ED25519, &signature::ED25519)],
            KeyKind::Rsa(_) => &[
                (RSA_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
                (RSA_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
                (RSA_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
            ],
        };
        let (_, by) = known.iter().find(|(known, _)| known == algorithm)?;
        let key = signature::UnparsedPublicKey::new(*by, &self.spki[self.key_at..]);
        Some(key.verify(message, signature).is_ok())
    }
}

/// The kind of a key: its algorithm, and the form of the bytes in its BIT STRING.
fn kind(algorithm: &AlgorithmIdentifierRef<'_>, key: &[u8]) -> Result<KeyKind, KeyError> {
    // An uncompressed point (RFC 5480 §2.2) with coordinates of so many bytes.
    let point = |coordinate: usize| key.len() == 1 + 2 * coordinate && key.first() == Some(&4);
    let curve = |curve: ObjectIdentifier| {
        *algorithm == (AlgorithmIdentifierRef { oid: ID_EC_PUBLIC_KEY, parameters: Some((&curve).into()) })
    };
    if curve(SECP_256_R_1) && point(32) {
        Ok(KeyKind::P256)
    } else if curve(SECP_384_R_1) && point(48) {
        Ok(KeyKind::P384)
    } else if *algorithm == ED25519
        && let Ok(point) = key.try_into()
    {
        check_order(point)
    } else if *algorithm == RSA {
        rsa(key)
    } else {
        Err(KeyError::Kind)
    }
}

fn check_order(point: &[u8; 32]) -> Result<KeyKind, KeyError> {
    let mut y = *point;
    y[31] &= 0x7f;
    if SMALL_ORDER.contains(&&y) { Err(KeyError::SmallOrder) } else { Ok(KeyKind::Ed25519) }
}

/// An RSAPublicKey (RFC 8017 appendix A.1.1).
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn rsa(key: &[u8]) -> Result<KeyKind, KeyError> {
    let RsaPublicKey { modulus, exponent } = RsaPublicKey::from_der(key).map_err(|_| KeyError::Kind)?;
    let (modulus, exponent) = (modulus.as_bytes(), exponent.as_bytes());
    if [modulus, exponent].contains(&&[0][..]) {
        return Err(KeyError::Kind);
    }
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(KeyError::RsaBits(bits));
    }
    let value = exponent.iter().try_fold(0_u64, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()));
    let sound =
        |e: u64| RSA_EXPONENT.contains(&e) && e % 2 == 1 && modulus.last().is_some_and(|last| last % 2 == 1);
    if value.is_some_and(sound) { Ok(KeyKind::Rsa(bits)) } else { Err(KeyError::RsaNumbers) }
}

/// SHA-256 in hexadecimal.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A forged signature under a small-order key really does verify, so refusing such keys matters.
    #[test]
    fn small_order_keys_are_refused_for_a_reason() {
        for point in [SMALL_ORDER[1], SMALL_ORDER[2], SMALL_ORDER[3], SMALL_ORDER[4]] {
            let mut forged = [0; 64];
            forged[0] = 1; // R is the neutral element, s is 0
            let key = signature::UnparsedPublicKey::new(&signature::ED25519, point);
            assert!(
                (0_u8..200).any(|n| key.verify(&[n], &forged).is_ok()),
                "{point:02x?} is not of small order"
            );
        }
        for point in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut spki = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", &point[..]].concat();
                *spki.last_mut().unwrap() |= sign;
                assert_eq!(PublicKey::from_spki(&spki), Err(KeyError::SmallOrder));
            }
        }
    }
}
