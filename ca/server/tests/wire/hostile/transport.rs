//! Games below gRPC: TLS, HTTP/2 frames, many of everything.

use std::sync::Arc;

use http::Request;
use rustls::{ClientConfig, sign::CertifiedKey};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    PATIENCE, Siege,
    raw::{CREATE, Raw, tls, tls_config},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Reads until the peer closes; fails if it does not.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin), name: &str) {
    let end = async { while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} };
    assert!(tokio::time::timeout(PATIENCE, end).await.is_ok(), "{name}: the connection stays open");
}

/// Bytes that are no TLS.
#[tokio::test]
async fn bytes_that_are_no_handshake_end_the_connection() {
    let siege = Siege::begin().await;
    let hello = |version: u8| [&[0x16, 3, version, 0, 5, 1, 0, 0, 1], &[0][..]].concat();
    for (name, bytes) in [
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: ca\r\n\r\n".to_vec()),
        ("plain HTTP/2", PREFACE.to_vec()),
        ("ones", vec![0xff; 20_000]),
        ("zeros", vec![0; 20_000]),
        ("a record of 65,535 bytes", [&[0x16, 3, 1, 0xff, 0xff][..], &[1; 60_000]].concat()),
        ("an alert", vec![0x15, 3, 3, 0, 2, 2, 40]),
        ("application data", vec![0x17, 3, 3, 0, 1, 0]),
        ("a hello of SSL 2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]),
        ("a hello of one byte", hello(1)),
        ("an empty record", vec![0x16, 3, 1, 0, 0]),
    ] {
        let mut stream = TcpStream::connect(siege.ca.tls).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        closed(&mut stream, name).await;
        siege.serves(name).await;
    }
}

/// Clients that speak TLS, but not ours.
#[tokio::test]
async fn handshakes_that_ask_for_something_else_fail() {
    let siege = Siege::begin().await;
    let config = |change: fn(&mut ClientConfig)| {
        let mut config = tls_config(&siege.ca);
        change(&mut config);
        config
    };
    for (name, config) in [
        ("HTTP/1.1", config(|config| config.alpn_protocols = vec![b"http/1.1".to_vec()])),
        ("a protocol nobody knows", config(|config| config.alpn_protocols = vec![vec![0xff; 200]])),
        ("istio's peers", config(|config| config.alpn_protocols = vec![b"istio".to_vec()])),
    ] {
        assert!(tls(&siege.ca, config).await.is_err(), "{name}");
        siege.serves(name).await;
    }
    // Without a choice of protocol HTTP/2 is expected.
    let mut stream = tls(&siege.ca, config(|config| config.alpn_protocols.clear())).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ca\r\n\r\n").await.unwrap();
    closed(&mut stream, "HTTP/1.1 without ALPN").await;
    siege.serves("HTTP/1.1 without ALPN").await;
}

/// Certificates that cannot even be read. In TLS 1.3 the client hears of it with its first read.
#[tokio::test]
async fn client_certificates_that_are_no_certificates_end_the_connection() {
    let siege = Siege::begin().await;
    for (name, der) in [
        ("empty", vec![]),
        ("zeros", vec![0; 100]),
        ("an endless sequence", [&[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff][..], &[0x30; 100]].concat()),
        ("nested sequences", [0x30, 0x80].repeat(20_000)),
        ("a million bytes", vec![0x30; 1_000_000]),
    ] {
        let key = rcgen::KeyPair::generate().unwrap();
        let key = rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key = rustls::crypto::ring::sign::any_ecdsa_type(&key).unwrap();
        let mut config = tls_config(&siege.ca);
        let shown = CertifiedKey::new(vec![CertificateDer::from(der)], key);
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(shown));
        if let Ok(mut stream) = tls(&siege.ca, config).await {
            closed(&mut stream, name).await;
        }
        siege.serves(name).await;
    }
}

/// A handshake byte by byte delays no other peer.
#[tokio::test]
async fn slow_handshakes_delay_no_other_peer() {
    let siege = Siege::begin().await;
    let mut slow = Vec::new();
    for at in 0..100 {
        let mut stream = TcpStream::connect(siege.ca.tls).await.unwrap();
        stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..at % 11]).await.unwrap();
        slow.push(stream);
    }
    siege.serves("100 handshakes that do not go on").await;
    for stream in &mut slow {
        let _ = stream.write_all(&[0]).await; // it may have been hung up on
    }
    siege.serves("one byte more of each").await;
}

/// Broken HTTP/2: the connection ends.
#[tokio::test]
async fn broken_frames_end_the_connection() {
    let siege = Siege::begin().await;
    let begin = |frames: &[Vec<u8>]| [PREFACE, &frame(SETTINGS, 0, 0, b""), &frames.concat()].concat();
    let headers = |flags, block: &[u8]| frame(1, flags, 1, block);
    for (name, bytes) in [
        ("another preface", b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("settings of 5 bytes", [PREFACE, &frame(SETTINGS, 0, 0, &[0; 5])].concat()),
        ("settings on a stream", [PREFACE, &frame(SETTINGS, 0, 1, b"")].concat()),
        ("a frame of 16 MiB", begin(&[[&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1][..], &[0; 64]].concat()])),
        ("data on no stream", begin(&[frame(0, 0, 0, b"x")])),
        ("data on a stream that is not open", begin(&[frame(0, 0, 1, b"x")])),
        ("a stream of ours", begin(&[frame(1, 5, 2, &[0x82])])),
        ("headers on stream 0", begin(&[frame(1, 5, 0, &[0x82])])),
        ("headers that HPACK cannot read", begin(&[headers(5, &[0xff; 100])])),
        ("a ping of 7 bytes", begin(&[frame(PING, 0, 0, &[0; 7])])),
        ("a window that overflows", begin(&[frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])])),
        ("a push", begin(&[frame(5, 4, 1, &[0, 0, 0, 2, 0x82])])),
        ("a continuation of nothing", begin(&[frame(9, 4, 1, &[0x82])])),
        ("another frame amid headers", begin(&[headers(1, &[0x82]), frame(PING, 0, 0, &[0; 8])])),
    ] {
        let mut stream = tls(&siege.ca, tls_config(&siege.ca)).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        closed(&mut stream, name).await;
        siege.serves(name).await;
    }
}

/// Floods: the connection ends, or the flood is borne.
#[tokio::test]
async fn floods_of_frames_affect_no_other_peer() {
    let siege = Siege::begin().await;
    let continuation: Vec<u8> =
        (0..2000).flat_map(|_| frame(9, 0, 1, &[0x00, 1, b'a', 1, b'b'].repeat(100))).collect();
    for (name, flood) in [
        ("20,000 settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(20_000)),
        ("20,000 pings", frame(PING, 0, 0, &[0; 8]).repeat(20_000)),
        ("20,000 frames nobody knows", frame(0xfe, 0, 0, b"?").repeat(20_000)),
        ("20,000 priorities", frame(2, 0, 3, &[0, 0, 0, 0, 1]).repeat(20_000)),
        ("headers without end", [frame(1, 1, 1, &[0x82]), continuation].concat()),
    ] {
        let stream = tls(&siege.ca, tls_config(&siege.ca)).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let bytes = [PREFACE, &frame(SETTINGS, 0, 0, b""), &flood].concat();
        let write = tokio::spawn(async move {
            let _ = writer.write_all(&bytes).await; // ends early when we are hung up on
            let _ = writer.flush().await;
            writer
        });
        let read =
            tokio::spawn(
                async move { while reader.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} },
            );
        siege.serves(name).await;
        read.abort();
        write.abort();
    }
}

fn empty() -> Request<()> {
    Request::post(format!("https://localhost{CREATE}"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

/// "Rapid reset": streams that are opened and given up at once.
#[tokio::test]
async fn streams_that_are_reset_at_once_affect_no_other_peer() {
    let siege = Siege::begin().await;
    let mut raw = Raw::connect(&siege.ca).await;
    let mut opened = 0;
    for _ in 0..5000 {
        let Ok(mut ready) = raw.0.clone().ready().await else { break };
        let Ok((_, mut body)) = ready.send_request(empty(), false) else { break };
        body.send_reset(h2::Reason::CANCEL);
        opened += 1;
    }
    siege.serves("rapid reset").await;
    raw.0 = Raw::connect(&siege.ca).await.0;
    assert!(opened > 0);
}

/// Headers of a call whose message never comes, in HPACK without tables (RFC 7541 §6.2.2).
fn call_without_end(stream: u32) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let post_https = [0x83, 0x87];
    let authority = [&[0x01], &text("localhost")[..]].concat();
    let path = [&[0x04], &text(CREATE)[..]].concat();
    let content_type = [&[0x0f, 0x10], &text("application/grpc")[..]].concat();
    frame(1, 4, stream, &[&post_https[..], &authority, &path, &content_type].concat())
}

/// Reads frames until so many streams were refused.
async fn refused(stream: &mut (impl tokio::io::AsyncRead + Unpin), wanted: usize) {
    let mut refused = 0;
    while refused < wanted {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        refused += usize::from(head[3] == 3 && payload == [0, 0, 0, 7]);
    }
}

/// Streams that are opened and never finished: as many as we allow, and the others are refused; newcomers are served.
#[tokio::test]
async fn open_streams_are_bounded_and_delay_no_other_peer() {
    let siege = Siege::begin().await;
    let mut stream = tls(&siege.ca, tls_config(&siege.ca)).await.unwrap();
    let calls: Vec<u8> = (0..1500).flat_map(|n| call_without_end(2 * n + 1)).collect();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b""), &calls].concat()).await.unwrap();
    let done = tokio::time::timeout(PATIENCE, refused(&mut stream, 500)).await;
    assert!(done.is_ok(), "500 of 1,500 streams are refused");
    siege.serves("streams that do not go on").await;
    drop(stream);
    siege.serves("streams that are dropped").await;
}
