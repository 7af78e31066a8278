//! A panic costs one request, or the process ends: never one that lives and cannot sign.
//!
//! The faults are those of `EASTWEST_TEST_PANIC`, which only builds for tests have.

use std::time::Duration;

use tonic::Code;

use crate::harness::{
    Bench, Server,
    clients::{certify, tls},
};

const LIFE: Duration = Duration::from_secs(20);

fn serve(bench: &Bench, part: &str) -> Server {
    bench.serve_with(&[], &[("EASTWEST_TEST_PANIC", part)])
}

/// Asks for a certificate; returns the status if there is none.
async fn ask(bench: &Bench, server: &Server) -> Result<(), Code> {
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    let token = bench.token("bookshop/storefront");
    certify(channel, Some(&token), 0).await.map(drop).map_err(|status| status.code())
}

/// The end of a process in which a part that must not end has panicked.
fn ends(mut server: Server, said: &str) {
    assert_eq!(server.wait(LIFE).code(), Some(70));
    let output = server.output();
    assert!(output.contains(said) && output.contains("this is a defect of eastwest"), "{output}");
}

#[tokio::test]
async fn a_panic_of_a_signer_costs_one_request() {
    let bench = Bench::new();
    let server = serve(&bench, "signer");
    assert_eq!(ask(&bench, &server).await, Err(Code::Internal));
    for _ in 0..8 {
        assert_eq!(ask(&bench, &server).await, Ok(()), "as many signers as before");
    }
    assert_eq!(server.page("/readyz").0, 200);
    let (_, metrics) = server.page("/metrics");
    assert!(metrics.contains("eastwest_panics_total 1\n"), "{metrics}");
    server.stop();
}

#[tokio::test]
async fn a_panic_of_the_ledger_ends_the_process_and_the_next_one_signs() {
    let bench = Bench::new();
    let server = serve(&bench, "ledger");
    assert!(ask(&bench, &server).await.is_err());
    ends(server, "the thread that writes the ledger");
    let next = bench.serve(&[]);
    assert_eq!(ask(&bench, &next).await, Ok(()));
    next.stop();
}

#[test]
fn a_panic_of_the_publisher_or_of_what_follows_the_roots_ends_the_process() {
    let bench = Bench::new();
    let server = serve(&bench, "publisher");
    bench.edit("policies.yaml", "STRICT", "PERMISSIVE");
    ends(server, "the publisher");
    ends(serve(&bench, "roots"), "the thread that follows the roots");
    ends(serve(&bench, "manifests"), "the thread that follows the manifests");
}
