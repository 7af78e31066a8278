//! Sequences of HTTP/2 frames on a connection of the gRPC port: nothing panics, the connection ends with its client, and
//! nothing of it is kept. The fuzzer's limits of memory bound what one connection may take meanwhile.
#![no_main]

use std::{sync::Arc, time::Duration};

use eastwest_io::grpc_server;
use eastwest_xds::View;
use eastwest_xds_server::{AuthenticatedClient, AuthorizedStream, Node, StreamAuthorizer, XdsServer};
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// HEADERS of a call of `StreamAggregatedResources`, as HPACK without an index.
const CALL: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"),
    (":authority", "x"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];

struct Anybody;

#[tonic::async_trait]
impl StreamAuthorizer for Anybody {
    async fn authenticate(&self, _: &Request<()>) -> Result<Box<dyn AuthenticatedClient>, Status> {
        Ok(Box::new(|_: &Node| {
            let (_, view) = watch::channel(Arc::new(View::default()));
            Ok(AuthorizedStream::new(None, view))
        }))
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

fn call(stream: u8) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in CALL {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap_or_default());
            block.extend(text.as_bytes());
        }
    }
    frame(1, 4, stream, &block)
}

/// What the client sends: after the preface, frames whose head and length the fuzzer chooses, and good calls between them.
fn sent(script: &[u8]) -> Vec<u8> {
    let mut sent = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let mut rest = script;
    while let [kind, flags, stream, length, tail @ ..] = rest {
        let (payload, after) = tail.split_at(usize::from(*length).min(tail.len()));
        match kind % 16 {
            15 => sent.extend(call(stream | 1)),
            14 => sent.extend(payload), // no frame at all
            kind => sent.extend(frame(kind, *flags, *stream, payload)),
        }
        rest = after;
    }
    sent
}

fuzz_target!(|script: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let server = XdsServer::new(Arc::new(Anybody), CancellationToken::new());
        let (client, served) = duplex(64 << 10);
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(served));
        let serving = grpc_server().add_service(server.aggregated()).serve_with_incoming(incoming);
        let (mut read, mut write) = tokio::io::split(client);
        let bytes = sent(script);
        let talking = async {
            // The server may hang up at any time.
            let _ = write.write_all(&bytes).await;
            let _ = write.shutdown().await;
        };
        let listening = async {
            let mut answer = vec![0; 16 << 10];
            while read.read(&mut answer).await.is_ok_and(|read| read > 0) {}
        };
        // Time is not real here: it goes on when nothing else does.
        let ended = timeout(Duration::from_secs(600), async { tokio::join!(serving, talking, listening) });
        assert!(ended.await.is_ok(), "the connection does not end");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.connections().len(), 0, "a stream is kept");
    });
});
