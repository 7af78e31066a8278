//! Games with gRPC around the message: prefixes, compression, content types, methods, headers.

use http::Method;

use super::{
    super::common::request,
    Siege,
    raw::{CREATE, Call, Raw, framed, message},
};

#[tokio::test]
async fn calls_that_are_no_grpc_or_not_ours() {
    let siege = Siege::begin().await;
    let body = prost::Message::encode_to_vec(&request());
    let length = u32::try_from(body.len()).unwrap();
    let good = Call::good(&siege.token(), message(&body));
    let path = |path: &str| Call { path: path.to_owned(), ..good.clone() };
    let bytes = |body: Vec<u8>| Call { body, ..good.clone() };
    let content = |kind: &str| good.clone().without("content-type").with("content-type", kind);
    let many = (0..3000).fold(good.clone(), |call, n| call.with(&format!("x-{n}"), "y"));
    let table = vec![
        ("a good call", good.clone(), "grpc Ok"),
        ("no message", bytes(vec![]), "grpc Internal"),
        ("a prefix that breaks off", bytes(vec![0, 0, 0]), "grpc Internal"),
        ("a prefix and nothing else", bytes(framed(0, 10, b"")), "grpc Internal"),
        ("a message shorter than its prefix says", bytes(framed(0, length + 1, &body)), "grpc Internal"),
        ("a message longer than its prefix says", bytes(framed(0, length - 1, &body)), "grpc Internal"),
        ("4 GiB announced", bytes(framed(0, u32::MAX, &body)), "grpc OutOfRange"),
        ("4 MiB and a byte announced", bytes(framed(0, (4 << 20) + 1, &body)), "grpc OutOfRange"),
        ("two messages: the first counts", bytes([message(&body), message(&body)].concat()), "grpc Ok"),
        ("compressed, by nothing", bytes(framed(1, length, &body)), "grpc Internal"),
        ("a flag of 2", bytes(framed(2, length, &body)), "grpc Internal"),
        ("a flag of 255", bytes(framed(255, length, &body)), "grpc Internal"),
        (
            "compressed by gzip",
            bytes(framed(1, length, &body)).with("grpc-encoding", "gzip"),
            "grpc Unimplemented",
        ),
        ("an encoding nobody knows", good.clone().with("grpc-encoding", "lzma"), "grpc Unimplemented"),
        ("no content type", good.clone().without("content-type"), "http 415"),
        ("JSON", content("application/json"), "http 415"),
        ("gRPC for browsers", content("application/grpc-web"), "http 415"),
        ("gRPC with JSON", content("application/grpc+json"), "grpc Ok"),
        ("GET", Call { method: Method::GET, ..good.clone() }, "http 405"),
        ("DELETE", Call { method: Method::DELETE, ..good.clone() }, "http 405"),
        ("an unknown method", path("/istio.v1.auth.IstioCertificateService/Delete"), "grpc Unimplemented"),
        ("an unknown service", path("/istio.v1.auth.Secrets/Create"), "grpc Unimplemented"),
        ("the method in lower case", path(&CREATE.to_lowercase()), "grpc Unimplemented"),
        ("a slash more", path(&format!("{CREATE}/")), "grpc Unimplemented"),
        ("a slash before it", path(&format!("/{CREATE}")), "grpc Unimplemented"),
        ("a query", path(&format!("{CREATE}?admin=true")), "grpc Ok"),
        ("dots", path(&format!("/x/..{CREATE}")), "grpc Unimplemented"),
        ("the root", path("/"), "grpc Unimplemented"),
        ("a timeout that is none", good.clone().with("grpc-timeout", "soon"), "grpc Ok"),
        ("a timeout of 20 digits", good.clone().with("grpc-timeout", "99999999999999999999S"), "grpc Ok"),
        ("a header in binary that is no base64", good.clone().with("x-bin", "!!!"), "grpc Ok"),
        ("a header with bytes above ASCII", good.clone().with("x-odd", [0xff, 0xfe]), "grpc Ok"),
        (
            "a cluster with bytes above ASCII",
            good.clone().with("clusterid", [0xff, 0xfe]),
            "grpc Unauthenticated",
        ),
        (
            "a token with bytes above ASCII",
            good.clone().without("authorization").with("authorization", b"Bearer \xff"),
            "grpc Unauthenticated",
        ),
        ("another host", good.clone().with("host", "evil.example"), "grpc Ok"),
        (
            "whom a proxy would vouch for",
            good.clone()
                .without("authorization")
                .with("x-forwarded-client-cert", "By=x;URI=spiffe://cluster.local/ns/shop/sa/reviews"),
            "grpc Unauthenticated",
        ),
        ("60 KB of headers", good.clone().with("x-long", "y".repeat(60_000)), "grpc Ok"),
        ("70 KB of headers", good.clone().with("x-long", "y".repeat(70_000)), "http 431"),
        ("3,000 headers", many, "http 431"),
    ];
    let mut wrong = Vec::new();
    for (name, call, expected) in table {
        let answer = Raw::connect(&siege.ca).await.call(call).await;
        if answer != expected {
            wrong.push(format!("{name}: {answer}, not {expected}"));
        }
        siege.serves(name).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
