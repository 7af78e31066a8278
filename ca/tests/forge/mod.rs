//! A forger of certification requests: every attack has a name, the text to send, and what must come of it. The pure
//! crate's tests check the very error, the server's tests the answer on the wire.

mod keys;
mod shapes;
mod texts;

use eastwest_ca::{CsrError, pem};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

/// One request.
pub(crate) struct Attack {
    /// What is special about it.
    pub(crate) name: &'static str,
    /// What is sent.
    pub(crate) text: String,
    /// What must come of it.
    pub(crate) outcome: Result<(), CsrError>,
}

/// All of them.
pub(crate) fn attacks() -> Vec<Attack> {
    let mut all = shapes::attacks();
    all.extend(keys::attacks());
    all.extend(texts::attacks());
    all
}

const LABEL: &str = "CERTIFICATE REQUEST";

fn attack(name: &'static str, der: &[u8], outcome: Result<(), CsrError>) -> Attack {
    Attack { name, text: pem::encode(LABEL, der), outcome }
}

/// A DER element; its length in the shortest form.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let header = match length {
        [0, 0, 0, short @ 0..=0x7f] => vec![tag, short],
        [0, 0, 0, one] => vec![tag, 0x81, one],
        [0, 0, high, low] => vec![tag, 0x82, high, low],
        [0, high, middle, low] => vec![tag, 0x83, high, middle, low],
        [a, b, c, d] => vec![tag, 0x84, a, b, c, d],
    };
    [&header, content].concat()
}

/// A BIT STRING of whole bytes.
fn bits(content: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], content].concat())
}

/// AlgorithmIdentifier of a P-256 key, and of its signatures with SHA-256.
const P256: &[u8] = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const INTEGER_0: &[u8] = &[2, 1, 0];

/// A request in its parts, each a DER element that may be anything; signed by a key of its own.
struct Request {
    key: EcdsaKeyPair,
    version: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    attributes: Vec<u8>,
    algorithm: Vec<u8>,
}

impl Request {
    fn new() -> Self {
        let (rng, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &rng).unwrap();
        let spki = tlv(0x30, &[P256, &bits(key.public_key().as_ref())].concat());
        Self {
            key,
            version: INTEGER_0.to_vec(),
            subject: tlv(0x30, b""),
            spki,
            attributes: tlv(0xa0, b""),
            algorithm: ECDSA_SHA256.to_vec(),
        }
    }

    /// With some parts changed.
    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut request = Self::new();
        change(&mut request);
        request
    }

    /// The content of what is signed.
    fn parts(&self) -> Vec<u8> {
        [&self.version[..], &self.subject, &self.spki, &self.attributes].concat()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// The whole, with a good signature over `info`, whatever that is.
    fn around(&self, info: &[u8]) -> Vec<u8> {
        self.sealed(info, &bits(&self.sign(info)))
    }

    /// The whole with this signature element.
    fn sealed(&self, info: &[u8], signature: &[u8]) -> Vec<u8> {
        tlv(0x30, &[info, &self.algorithm, signature].concat())
    }

    /// What is signed.
    fn info(&self) -> Vec<u8> {
        tlv(0x30, &self.parts())
    }

    /// The whole with a good signature.
    fn der(&self) -> Vec<u8> {
        self.around(&self.info())
    }
}
