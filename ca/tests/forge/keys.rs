//! Games with keys: points, curves, RSA numbers.

use eastwest_ca::{
    CsrError::{self, Key, Malformed, Signature},
    public_key::KeyError::{Kind, RsaBits, RsaNumbers, SmallOrder},
};

use super::{Attack, P256, Request, attack, bits, tlv};

pub(super) fn attacks() -> Vec<Attack> {
    [points(), encodings(), rsa(), edwards()].into_iter().flatten().collect()
}

/// A request for this key; signed, but by another one.
fn key(name: &'static str, spki: Vec<u8>, error: CsrError) -> Attack {
    attack(name, &Request::with(|request| request.spki = spki).der(), Err(error))
}

fn point(name: &'static str, point: &[u8], error: CsrError) -> Attack {
    key(name, tlv(0x30, &[P256, &bits(point)].concat()), error)
}

fn points() -> Vec<Attack> {
    let uncompressed = |x: [u8; 32], y: [u8; 32]| [&[4][..], &x, &y].concat();
    vec![
        point("the point at infinity", &[0], Key(Kind)),
        point("no point", b"", Key(Kind)),
        point("the point (0, 0)", &uncompressed([0; 32], [0; 32]), Signature),
        point("a point off the curve", &uncompressed([7; 32], [7; 32]), Signature),
        point("coordinates beyond the field", &uncompressed([0xff; 32], [0xff; 32]), Signature),
        point("a compressed point", &[&[2][..], &[7; 32]].concat(), Key(Kind)),
        point("a hybrid point", &[&[6][..], &[7; 64]].concat(), Key(Kind)),
        point("a point too short", &[&[4][..], &[7; 63]].concat(), Key(Kind)),
        point("a point too long", &[&[4][..], &[7; 65]].concat(), Key(Kind)),
        point("a point of 10,000 bytes", &[4; 10_000], Key(Kind)),
        point("a point of P-384 on P-256", &[&[4][..], &[7; 96]].concat(), Key(Kind)),
    ]
}

fn encodings() -> Vec<Attack> {
    let good = Request::new().spki;
    let ec = |parameters: &[u8]| {
        let algorithm = tlv(0x30, &[b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", parameters].concat());
        tlv(0x30, &[algorithm, bits(&[&[4][..], &[7; 64]].concat())].concat())
    };
    let mut unused = good.clone();
    unused[25] = 3;
    vec![
        key("an empty key", tlv(0x30, b""), Key(Kind)),
        key("an algorithm and no key", tlv(0x30, P256), Key(Kind)),
        key("a byte after the key", tlv(0x30, &[&good[2..], &[0]].concat()), Key(Kind)),
        key("a bit string with unused bits", unused, Key(Kind)),
        key("no curve", ec(b""), Key(Kind)),
        key("the curve that an issuer would imply", ec(&[5, 0]), Key(Kind)),
        key("explicit parameters", ec(&tlv(0x30, &[2, 1, 1])), Key(Kind)),
        key("a curve nobody knows", ec(b"\x06\x03\x2a\x03\x04"), Key(Kind)),
        key("a curve's OID of 4,000 bytes", ec(&tlv(6, &[0x81; 4000])), Key(Kind)),
        key("a length in two bytes where one does", [&[0x30, 0x82, 0, 0x59], &good[2..]].concat(), Malformed),
        key(
            "an algorithm nobody knows",
            tlv(0x30, &[tlv(0x30, b"\x06\x03\x2a\x03\x04"), bits(&[7; 64])].concat()),
            Key(Kind),
        ),
    ]
}

/// An RSA key of these INTEGER contents.
fn rsa_key(parameters: &[u8], modulus: &[u8], exponent: &[u8], after: &[u8]) -> Vec<u8> {
    let algorithm = tlv(0x30, &[b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", parameters].concat());
    let numbers = [tlv(2, modulus), tlv(2, exponent), after.to_vec()].concat();
    tlv(0x30, &[algorithm, bits(&tlv(0x30, &numbers))].concat())
}

/// A positive odd number of so many bits, a multiple of eight.
fn modulus(size: usize) -> Vec<u8> {
    [&[0][..], &vec![0xd5; size / 8]].concat()
}

fn rsa() -> Vec<Attack> {
    const NULL: &[u8] = &[5, 0];
    const F4: &[u8] = &[1, 0, 1];
    let number = |name, modulus: &[u8], exponent: &[u8], error| {
        key(name, rsa_key(NULL, modulus, exponent, b""), Key(error))
    };
    let good = modulus(2048);
    let mut even = good.clone();
    *even.last_mut().unwrap() = 0xd4;
    vec![
        number("exponent 1, with which anybody signs", &good, &[1], RsaNumbers),
        number("exponent 3", &good, &[3], RsaNumbers),
        number("exponent 0", &good, &[0], Kind),
        number("a negative exponent", &good, &[0xff], Kind),
        number("an even exponent", &good, &[1, 0, 0], RsaNumbers),
        number("an exponent below 65537", &good, &[0, 0xff, 0xff], RsaNumbers),
        number("an exponent of 34 bits", &good, &[2, 0, 0, 0, 1], RsaNumbers),
        number("an exponent of 2,048 bits", &good, &good, RsaNumbers),
        number("an exponent with a zero before it", &good, &[0, 1, 0, 1], Kind),
        number("an empty exponent", &good, b"", Kind),
        number("an even modulus", &even, F4, RsaNumbers),
        number("a negative modulus", &good[1..], F4, Kind),
        number("modulus 0", &[0], F4, Kind),
        number("an empty modulus", b"", F4, Kind),
        number("a modulus with zeros before it", &[&[0, 0], &good[1..]].concat(), F4, Kind),
        number("512 bits", &modulus(512), F4, RsaBits(512)),
        number("2,040 bits", &modulus(2040), F4, RsaBits(2040)),
        number("8,200 bits", &modulus(8200), F4, RsaBits(8200)),
        number("16,384 bits", &modulus(16_384), F4, RsaBits(16_384)),
        number("200,000 bits", &modulus(200_000), F4, RsaBits(200_000)),
        key("RSA without the null", rsa_key(b"", &good, F4, b""), Key(Kind)),
        key("RSA with other parameters", rsa_key(&[2, 1, 0], &good, F4, b""), Key(Kind)),
        key("a third number", rsa_key(NULL, &good, F4, &[2, 1, 3]), Key(Kind)),
        key("a byte after the numbers", rsa_key(NULL, &good, F4, &[0]), Key(Kind)),
        key("an RSA key that did not sign", rsa_key(NULL, &good, F4, b""), CsrError::SignatureAlgorithm),
    ]
}

fn edwards() -> Vec<Attack> {
    let ed25519 =
        |algorithm: &[u8], point: &[u8]| tlv(0x30, &[&tlv(0x30, algorithm), &bits(point)[..]].concat());
    const OID: &[u8] = b"\x06\x03\x2b\x65\x70";
    let mut one = [0; 32];
    one[0] = 1;
    vec![
        key("the neutral point of Ed25519", ed25519(OID, &one), Key(SmallOrder)),
        key("a zero key of Ed25519", ed25519(OID, &[0; 32]), Key(SmallOrder)),
        key("31 bytes of Ed25519", ed25519(OID, &[7; 31]), Key(Kind)),
        key("33 bytes of Ed25519", ed25519(OID, &[7; 33]), Key(Kind)),
        key("Ed25519 with a null", ed25519(&[OID, &[5, 0]].concat(), &[7; 32]), Key(Kind)),
        key("X25519, which cannot sign", ed25519(b"\x06\x03\x2b\x65\x6e", &[7; 32]), Key(Kind)),
        key("Ed25519 that did not sign", ed25519(OID, &[7; 32]), CsrError::SignatureAlgorithm),
    ]
}
