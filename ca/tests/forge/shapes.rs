//! Games with DER: lengths, tags, versions, missing and doubled parts, signatures.

use eastwest_ca::CsrError::{Malformed, Signature, SignatureAlgorithm};

use super::{Attack, ECDSA_SHA256, Request, attack, bits, tlv};

pub(super) fn attacks() -> Vec<Attack> {
    [lengths(), parts(), ignored(), algorithms(), signatures()].into_iter().flatten().collect()
}

/// The element with another header before its content.
fn reheaded(element: &[u8], header: &[u8]) -> Vec<u8> {
    let skip = match element[1] {
        0x81 => 3,
        0x82 => 4,
        _ => 2,
    };
    [header, &element[skip..]].concat()
}

fn lengths() -> Vec<Attack> {
    let request = Request::new();
    let (der, info) = (request.der(), request.info());
    let malformed = |name, der: &[u8]| attack(name, der, Err(Malformed));
    let low = u8::try_from(request.parts().len()).unwrap();
    let indefinite = |element: &[u8]| [reheaded(element, &[0x30, 0x80]), vec![0, 0]].concat();
    let signed_anew = |info: &[u8]| request.around(info);
    let mut too_short = der.clone();
    too_short[2] -= 1;
    let mut too_long = der.clone();
    too_long[2] += 1;
    vec![
        malformed("indefinite length outside", &indefinite(&der)),
        malformed("indefinite length inside, signed so", &signed_anew(&indefinite(&info))),
        malformed("length in two bytes where one does", &reheaded(&der, &[0x30, 0x82, 0, der[2]])),
        malformed(
            "length in two bytes inside, signed so",
            &signed_anew(&reheaded(&info, &[0x30, 0x82, 0, low])),
        ),
        malformed("length in eight bytes", &reheaded(&der, &[0x30, 0x88, 0, 0, 0, 0, 0, 0, 0, der[2]])),
        malformed("length of 4 GiB", &reheaded(&der, &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff])),
        malformed("length with the reserved form 0xff", &reheaded(&der, &[0x30, 0xff])),
        malformed("one byte less than there is", &too_short),
        malformed("one byte more than there is", &too_long),
        malformed("nothing but a tag", &[0x30]),
        malformed("an empty sequence", &tlv(0x30, b"")),
        malformed("a set instead of a sequence", &[&[0x31], &der[1..]].concat()),
        malformed("a tag of more than one byte", &[&[0x3f, 0x30], &der[1..]].concat()),
        malformed("a byte after it", &[&der[..], &[0]].concat()),
        malformed("another request after it", &[&der[..], &der].concat()),
        malformed("a byte after the signature", &tlv(0x30, &[&der[3..], &[0]].concat())),
        malformed("a request in a sequence", &tlv(0x30, &der)),
        malformed(
            "sequences 10,000 deep",
            &(0..10_000).fold(Vec::new(), |mut deep, _| {
                deep.extend([0x30, 0x80]);
                deep
            }),
        ),
    ]
}

fn parts() -> Vec<Attack> {
    let changed = |name, change: fn(&mut Request)| attack(name, &Request::with(change).der(), Err(Malformed));
    vec![
        changed("version 2", |r| r.version = vec![2, 1, 1]),
        changed("version -1", |r| r.version = vec![2, 1, 0xff]),
        changed("version 0 in two bytes", |r| r.version = vec![2, 2, 0, 0]),
        changed("version of 2^64", |r| r.version = vec![2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        changed("an empty version", |r| r.version = vec![2, 0]),
        changed("a boolean for the version", |r| r.version = vec![1, 1, 0]),
        changed("no version", |r| r.version.clear()),
        changed("the version twice", |r| r.version = vec![2, 1, 0, 2, 1, 0]),
        changed("no subject", |r| r.subject.clear()),
        changed("a set for the subject", |r| r.subject = tlv(0x31, b"")),
        changed("an integer for the subject", |r| r.subject = vec![2, 1, 0]),
        changed("no key", |r| r.spki.clear()),
        changed("a key in octets", |r| r.spki[0] = 4),
        changed("attributes twice", |r| r.attributes = [tlv(0xa0, b""), tlv(0xa0, b"")].concat()),
        changed("attributes with another tag", |r| r.attributes = tlv(0xa1, b"")),
        changed("attributes as a plain set", |r| r.attributes = tlv(0x31, b"")),
        changed("attributes that are not constructed", |r| r.attributes = tlv(0x80, b"")),
        changed("a byte after the attributes", |r| r.attributes.push(0)),
        changed("a null after the attributes", |r| r.attributes.extend([5, 0])),
    ]
}

/// An attribute "extensionRequest" with these extensions (RFC 2985 §5.4.2).
fn extensions(extensions: &[&[u8]]) -> Vec<u8> {
    let oid = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";
    let values = tlv(0x31, &tlv(0x30, &extensions.concat()));
    tlv(0x30, &[&oid[..], &values].concat())
}

/// An extension; `oid` is its last byte below id-ce (2.5.29).
fn extension(oid: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    tlv(0x30, &[&[6, 3, 0x55, 0x1d, oid], critical, &tlv(4, value)].concat())
}

fn uris(uris: &[&str]) -> Vec<u8> {
    let names: Vec<_> = uris.iter().map(|uri| tlv(0x86, uri.as_bytes())).collect();
    extension(17, true, &tlv(0x30, &names.concat()))
}

/// Subject and attributes are not even parsed, so nothing in them does harm or good: the certificate has what the
/// caller is granted and nothing else.
fn ignored() -> Vec<Attack> {
    const ADMIN: &str = "spiffe://cluster.local/ns/kube-system/sa/admin";
    let accepted = |name, attributes: &[u8]| {
        let request = Request::with(|request| request.attributes = tlv(0xa0, attributes));
        attack(name, &request.der(), Ok(()))
    };
    let subject = |name, subject: &[u8]| {
        let request = Request::with(|request| request.subject = tlv(0x30, subject));
        attack(name, &request.der(), Ok(()))
    };
    let deep = (0..900).fold(Vec::new(), |inner, _| tlv(0x30, &inner));
    let many: Vec<_> = (0..600).map(|n| format!("spiffe://cluster.local/ns/a/sa/s{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let ca = extension(19, true, b"\x30\x06\x01\x01\xff\x02\x01\x00");
    let signs = extension(15, true, b"\x03\x02\x01\x06");
    vec![
        accepted("the names of somebody else", &extensions(&[&uris(&[ADMIN])])),
        accepted("two names", &extensions(&[&uris(&[ADMIN, "spiffe://cluster.local/ns/a/sa/b"])])),
        accepted("600 names", &extensions(&[&uris(&many)])),
        accepted("the names twice", &extensions(&[&uris(&[ADMIN]), &uris(&[ADMIN])])),
        accepted("a name with a NUL", &extensions(&[&uris(&["spiffe://cluster.local/ns/a/sa/b\0.evil"])])),
        accepted("wants to be a CA", &extensions(&[&ca])),
        accepted("wants to sign", &extensions(&[&ca, &signs])),
        accepted("an unknown critical extension", &extensions(&[&extension(99, true, b"")])),
        accepted("extensionRequest twice", &[extensions(&[&ca]), extensions(&[&signs])].concat()),
        accepted("attributes that are no DER", b"\xff\xff\xff"),
        accepted("attributes 900 deep", &deep),
        subject("a subject that is no DER", b"\xff\xff\xff"),
        subject("a subject 900 deep", &deep),
        subject("a subject of 20,000 bytes", &vec![0x55; 20_000]),
        attack("no attributes at all", &Request::with(|request| request.attributes.clear()).der(), Ok(())),
    ]
}

fn algorithms() -> Vec<Attack> {
    let changed = |name, algorithm: &[u8], error| {
        attack(name, &Request::with(|request| request.algorithm = algorithm.to_vec()).der(), Err(error))
    };
    let with_null = tlv(0x30, &[&ECDSA_SHA256[2..], &[5, 0]].concat());
    let huge = tlv(0x30, &tlv(6, &[0x81; 4000]));
    vec![
        changed("ECDSA with parameters", &with_null, SignatureAlgorithm),
        changed(
            "a signature algorithm of another key",
            b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00",
            SignatureAlgorithm,
        ),
        changed(
            "MD5 with RSA",
            b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04\x05\x00",
            SignatureAlgorithm,
        ),
        changed("ECDSA with SHA-1", b"\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x04\x01", SignatureAlgorithm),
        changed("Ed25519 for another key", b"\x30\x05\x06\x03\x2b\x65\x70", SignatureAlgorithm),
        changed("an OID of 4,000 bytes", &huge, SignatureAlgorithm),
        changed("an empty algorithm", &tlv(0x30, b""), SignatureAlgorithm),
        changed("a null for the algorithm", &[5, 0], Malformed),
        changed("no algorithm", b"", Malformed),
    ]
}

fn signatures() -> Vec<Attack> {
    let (request, other) = (Request::new(), Request::new());
    let info = request.info();
    let good = request.sign(&info);
    let sealed = |name, signature: &[u8], error| attack(name, &request.sealed(&info, signature), Err(error));
    let integers = |parts: &[&[u8]]| bits(&tlv(0x30, &parts.concat()));
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    vec![
        attack("a good request, for comparison", &request.sealed(&info, &bits(&good)), Ok(())),
        sealed("a flipped bit", &bits(&flipped), Signature),
        sealed("of another key", &bits(&other.sign(&info)), Signature),
        sealed("of something else", &bits(&request.sign(b"something else")), Signature),
        sealed("empty", &bits(b""), Signature),
        sealed("of zeros", &integers(&[&[2, 1, 0], &[2, 1, 0]]), Signature),
        sealed("negative", &integers(&[&[2, 1, 0xff], &[2, 1, 0xff]]), Signature),
        sealed("one number only", &integers(&[&good[2..35]]), Signature),
        sealed("a byte after the numbers", &bits(&[&good[..], &[0]].concat()), Signature),
        sealed("64 plain bytes", &bits(&[7; 64]), Signature),
        sealed("60,000 bytes", &bits(&[7; 30_000]), Signature),
        sealed("unused bits", &tlv(3, &[&[1], &good[..]].concat()), Malformed),
        sealed("a bit string without its first byte", &tlv(3, b""), Malformed),
        sealed("in octets", &tlv(4, &good), Malformed),
        sealed("none", b"", Malformed),
    ]
}
