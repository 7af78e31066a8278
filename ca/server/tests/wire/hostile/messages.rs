//! Games with the protobuf inside: wrong types, doubled fields, deep nesting.

use super::{
    super::common::{CSR, csr},
    Siege,
    raw::{Call, Raw, message},
};

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A field with a length.
fn text(field: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn number(field: u8, number: u64) -> Vec<u8> {
    [vec![field << 3], varint(number)].concat()
}

/// `metadata` with one entry; `value` is an encoded `google.protobuf.Value`.
fn metadata(key: &[u8], value: &[u8]) -> Vec<u8> {
    text(4, &text(1, &[text(1, key), text(2, value)].concat()))
}

/// A Value of lists in lists.
fn lists(depth: usize) -> Vec<u8> {
    (0..depth).fold(number(1, 0), |inner, _| text(6, &text(1, &inner)))
}

/// A Value of structs in structs.
fn structs(depth: usize) -> Vec<u8> {
    (0..depth).fold(number(1, 0), |inner, _| text(5, &text(1, &[text(1, b"a"), text(2, &inner)].concat())))
}

#[tokio::test]
async fn malformed_messages_and_repeated_fields() {
    let siege = Siege::begin().await;
    let good = text(1, csr(CSR).as_bytes());
    let bad = text(1, b"hello");
    const KEY: &[u8] = b"ImpersonatedIdentity";
    let unused = |bytes: &[u8]| [&good[..], bytes].concat();
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a good message", good.clone(), "grpc Ok"),
        ("an empty message", vec![], "grpc InvalidArgument"),
        (
            "a good request, then a bad one: the last counts",
            [&good[..], &bad].concat(),
            "grpc InvalidArgument",
        ),
        ("a bad request, then a good one", [&bad[..], &good].concat(), "grpc Ok"),
        ("100 requests", good.repeat(100), "grpc Ok"),
        (
            "lives of 1 h and of 91 days: the last counts",
            unused(&[number(3, 3600), number(3, 91 * 86_400)].concat()),
            "grpc InvalidArgument",
        ),
        ("a life of -1 s", unused(&number(3, u64::MAX)), "grpc Ok"),
        ("a life that is a text", unused(&text(3, b"1h")), "grpc Internal"),
        ("a life of eleven bytes", unused(&[&[3 << 3][..], &[0xff; 10], &[1]].concat()), "grpc Internal"),
        ("a life that breaks off", unused(&[3 << 3, 0xff]), "grpc Internal"),
        ("a request that is a number", number(1, 7), "grpc Internal"),
        ("a request that is not UTF-8", text(1, &[0xff, 0xfe]), "grpc Internal"),
        ("a request with a NUL", text(1, b"\0"), "grpc InvalidArgument"),
        ("a request longer than the message", vec![1 << 3 | 2, 0x7f, b'a'], "grpc Internal"),
        ("a length of 2^63", [&[1 << 3 | 2][..], &varint(1 << 63)].concat(), "grpc Internal"),
        ("field number 0", unused(&[0x00, 0x00]), "grpc Internal"),
        ("wire type 6", unused(&[5 << 3 | 6]), "grpc Internal"),
        ("wire type 7", unused(&[5 << 3 | 7]), "grpc Internal"),
        ("a group that never ends", unused(&[5 << 3 | 3]), "grpc Internal"),
        ("an end without a group", unused(&[5 << 3 | 4]), "grpc Internal"),
        ("groups 200 deep", unused(&[5 << 3 | 3; 200]), "grpc Internal"),
        ("an unknown field", unused(&text(14, b"hello")), "grpc Ok"),
        ("10,000 unknown fields", unused(&number(14, 1).repeat(10_000)), "grpc Ok"),
        ("metadata that is a number", unused(&number(4, 1)), "grpc Internal"),
        ("metadata nobody knows", unused(&metadata(b"CertSigner", &text(3, b"me"))), "grpc Ok"),
        ("10,000 entries of metadata", unused(&metadata(b"a", &number(1, 0)).repeat(10_000)), "grpc Ok"),
        ("a key that is not UTF-8", unused(&metadata(&[0xff], &text(3, b"me"))), "grpc Internal"),
        ("lists 20 deep", unused(&metadata(b"a", &lists(20))), "grpc Ok"),
        ("lists 200 deep", unused(&metadata(b"a", &lists(200))), "grpc Internal"),
        ("structs 200 deep", unused(&metadata(b"a", &structs(200))), "grpc Internal"),
        ("lists 10,000 deep", unused(&metadata(b"a", &lists(10_000))), "grpc Internal"),
        (
            "an identity that is a number",
            unused(&metadata(KEY, &[2 << 3 | 1, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f])),
            "grpc Unauthenticated",
        ),
        ("an identity that is true", unused(&metadata(KEY, &number(4, 1))), "grpc Unauthenticated"),
        ("an identity that is a struct", unused(&metadata(KEY, &structs(1))), "grpc Unauthenticated"),
        ("an identity that is a list", unused(&metadata(KEY, &lists(1))), "grpc Unauthenticated"),
        ("an identity that is null", unused(&metadata(KEY, &number(1, 0))), "grpc Ok"),
        ("an identity without a value", unused(&metadata(KEY, b"")), "grpc Ok"),
        (
            "an identity twice, the last one empty",
            unused(
                &[metadata(KEY, &text(3, b"spiffe://a/ns/b/sa/c")), metadata(KEY, &text(3, b""))].concat(),
            ),
            "grpc Ok",
        ),
        (
            "an identity twice, the first one empty",
            unused(
                &[metadata(KEY, &text(3, b"")), metadata(KEY, &text(3, b"spiffe://a/ns/b/sa/c"))].concat(),
            ),
            "grpc Unauthenticated",
        ),
    ];
    let mut raw = Raw::connect(&siege.ca).await;
    let mut wrong = Vec::new();
    for (name, bytes, expected) in table {
        let answer = raw.call(Call::good(&siege.token(), message(&bytes))).await;
        if answer != expected {
            wrong.push(format!("{name}: {answer}, not {expected}"));
        }
        siege.serves(name).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
