//! Connections of strangers that say nothing, or half of something: they hold up nobody else, and are cut off.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use eastwest_io::descriptors;

use crate::harness::{Bench, Server, clients::svid};

/// More than the server below can have open.
const MANY: usize = 1100;
/// The longest that a server waits for the beginning of something, and some more.
const DEADLINE: Duration = Duration::from_secs(40);

/// Connections that have said `words`; each in a thread's time, for the server may close it at once.
fn strangers(address: SocketAddr, number: usize, words: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(address).ok()?;
        // One that is refused is closed by then.
        let _ = stream.write_all(words);
        Some(stream)
    };
    (0..number).filter_map(connect).collect()
}

/// How long it takes until the server has closed all of them.
fn closed(strangers: Vec<TcpStream>) -> Duration {
    let start = Instant::now();
    for mut stream in strangers {
        let left = DEADLINE.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).unwrap();
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "after {:?}", start.elapsed());
        }
    }
    start.elapsed()
}

fn is_served(server: &Server) {
    assert_eq!(server.page("/readyz").0, 200);
    assert_eq!(server.page("/metrics").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_preface_half_a_head_and_silence_are_cut_off_and_hold_up_nobody() {
    descriptors::raise_limit();
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let plaintext = strangers(server.grpc, MANY, b"PRI * HTTP/2.0\r\n");
    let silent = strangers(server.grpc, 100, b"");
    let pages = strangers(server.http, MANY, b"GET /debug/list HTTP/1.1\r\nhost: a\r\nx-");
    let handshakes = strangers(server.tls, 600, b"");
    // All of them are this machine's, like this client, which is served at once for all that: the oldest give way.
    is_served(&server);
    svid(&bench, &server, "bookshop/storefront").await;
    let start = Instant::now();
    for strangers in [pages, plaintext, silent, handshakes] {
        closed(strangers);
    }
    assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
    is_served(&server);
    svid(&bench, &server, "bookshop/catalog").await;
}

/// A process with few descriptors keeps some for itself, and idle connections give way to those who have something to say.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_give_way_when_descriptors_are_few() {
    let bench = Bench::new();
    let server = bench.serve_limited(600);
    // A client that has said all that HTTP/2 asks for, and then calls nothing.
    let polite = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let held = thread::spawn({
        let address = server.grpc;
        move || strangers(address, 400, polite)
    });
    let held = held.join().unwrap();
    for account in ["bookshop/storefront", "bookshop/catalog"] {
        svid(&bench, &server, account).await;
    }
    is_served(&server);
    drop(held);
}
