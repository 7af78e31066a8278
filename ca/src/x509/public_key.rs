//! The public keys that a certificate may carry: compared with their one canonical encoding, then copied byte for
//! byte, so that every library can read what we sign (CA.md C4 and A4 to A5a).

use std::fmt;

use rcgen::{PublicKeyData, SignatureAlgorithm};
use ring::{digest, signature};
use thiserror::Error;

use crate::x509::der::{self, Reader};

/// Smallest and largest RSA modulus in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Smallest RSA exponent: with 1 anybody can sign, and with 3 sloppy verifiers can be fooled.
const RSA_EXPONENT: std::ops::RangeInclusive<u64> = 65_537..=0x1_ffff_ffff;

/// SubjectPublicKeyInfo of P-256 with the named curve, up to the byte that says "uncompressed" (RFC 5480 §2).
const P256: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
    \x03\x42\x00\x04";
/// The same for P-384.
const P384: &[u8] =
    b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04";
/// The same for Ed25519 (RFC 8410 §4), up to the key.
const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// AlgorithmIdentifier of RSA (RFC 3279 §2.3.1).
pub(crate) const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// AlgorithmIdentifiers of the elliptic curves (RFC 5480 §2.1.1).
pub(crate) const CURVES: [&[u8]; 2] = [
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22",
];

/// AlgorithmIdentifiers of the signatures that we verify.
const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const ECDSA_SHA384: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03";
const RSA_SHA256: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
const RSA_SHA384: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00";
const RSA_SHA512: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00";
const EDDSA: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";

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

/// A public key of an allowed kind, in its canonical encoding.
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
        let is =
            |template: &[u8], key: usize| spki.starts_with(template) && spki.len() == template.len() + key;
        let (kind, key_at) = if is(P256, 64) {
            (KeyKind::P256, P256.len() - 1)
        } else if is(P384, 96) {
            (KeyKind::P384, P384.len() - 1)
        } else if is(ED25519, 32) {
            check_order(&spki[ED25519.len()..])?;
            (KeyKind::Ed25519, ED25519.len())
        } else {
            let (bits, key) = rsa(spki)?;
            (KeyKind::Rsa(bits), spki.len() - key.len())
        };
        Ok(Self { kind, spki: spki.to_vec(), key_at })
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

    /// Whether `signature` over `message` is this key's, by a signature algorithm in DER that fits the key.
    pub(crate) fn verifies(&self, algorithm: &[u8], message: &[u8], signature: &[u8]) -> Option<bool> {
        let algorithm: &dyn signature::VerificationAlgorithm = match (self.kind, algorithm) {
            (KeyKind::P256, ECDSA_SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P256, ECDSA_SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
            (KeyKind::P384, ECDSA_SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
            (KeyKind::P384, ECDSA_SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
            (KeyKind::Ed25519, EDDSA) => &signature::ED25519,
            (KeyKind::Rsa(_), RSA_SHA256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa(_), RSA_SHA384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa(_), RSA_SHA512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            _ => return None,
        };
        let key = signature::UnparsedPublicKey::new(algorithm, self.der_bytes());
        Some(key.verify(message, signature).is_ok())
    }
}

impl PublicKeyData for PublicKey {
    fn subject_public_key_info(&self) -> Vec<u8> {
        self.spki.clone()
    }
    fn der_bytes(&self) -> &[u8] {
        &self.spki[self.key_at..]
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.kind {
            KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
            KeyKind::Rsa(_) => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

fn check_order(point: &[u8]) -> Result<(), KeyError> {
    let mut y = [0; 32];
    y.copy_from_slice(point);
    y[31] &= 0x7f;
    if SMALL_ORDER.contains(&&y) { Err(KeyError::SmallOrder) } else { Ok(()) }
}

/// Bits of the modulus and the RSAPublicKey (RFC 8017 appendix A.1.1) inside `spki`.
fn rsa(spki: &[u8]) -> Result<(usize, &[u8]), KeyError> {
    let (key, modulus, exponent) = rsa_numbers(spki).map_err(|der::Malformed| KeyError::Kind)?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(KeyError::RsaBits(bits));
    }
    let value = exponent.iter().try_fold(0_u64, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()));
    let sound =
        |e: u64| RSA_EXPONENT.contains(&e) && e % 2 == 1 && modulus.last().is_some_and(|last| last % 2 == 1);
    match value {
        Some(exponent) if sound(exponent) => Ok((bits, key)),
        _ => Err(KeyError::RsaNumbers),
    }
}

type RsaNumbers<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn rsa_numbers(spki: &[u8]) -> Result<RsaNumbers<'_>, der::Malformed> {
    let mut outer = Reader::new(spki);
    let mut info = Reader::new(outer.next(der::SEQUENCE)?.content);
    outer.end()?;
    if info.next(der::SEQUENCE)?.whole != RSA {
        return Err(der::Malformed);
    }
    let key = info.bits()?;
    info.end()?;
    let mut bits = Reader::new(key);
    let mut numbers = Reader::new(bits.next(der::SEQUENCE)?.content);
    bits.end()?;
    let (modulus, exponent) = (numbers.positive()?, numbers.positive()?);
    numbers.end()?;
    Ok((key, modulus, exponent))
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
                let mut spki = [ED25519, point].concat();
                *spki.last_mut().unwrap() |= sign;
                assert_eq!(PublicKey::from_spki(&spki), Err(KeyError::SmallOrder));
            }
        }
    }
}
