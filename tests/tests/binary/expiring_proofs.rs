//! A stream ends when the certificate that opened it runs out or is revoked.

use std::{fs, time::Instant};

use eastwest_proto::{
    eastwest::v1::{FollowTrustBundlesRequest, workload_identity_client::WorkloadIdentityClient},
    type_url::{CLUSTER, LISTENER},
};
use eastwest_tests::bookshop::STOREFRONT;
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    Bench, PATIENCE, Server,
    clients::{Svid, bearing, certificates, certify, soon, svid, tls},
    plugged::{Pki, Place},
    xds::{First, Stream, VARIANTS, Variant, node, refusal},
};

fn first(token: Option<&str>) -> First<'_> {
    First { node: Some(node(&STOREFRONT)), type_url: CLUSTER, token, ..First::default() }
}

/// An xDS stream of the storefront that has its clusters.
async fn stream(channel: Channel, variant: Variant, token: Option<&str>) -> Stream {
    let mut stream = Stream::open(channel, variant, first(token)).await.unwrap();
    stream.accept().await;
    stream
}

async fn by(server: &Server, root: &str, held: Option<&Svid>) -> Channel {
    tls(server.tls, root, held).await.unwrap()
}

fn assert_over(status: &Status, words: &str) {
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(status.message().contains(words) && status.message().contains("connect again"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_certificate_that_opened_them_and_their_connection_too() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (root, token) = (bench.root(), bench.token("bookshop/storefront"));
    let long = svid(&bench, &server, "bookshop/storefront").await;
    let begin = Instant::now();
    let (short, _) = certify(by(&server, &root, None).await, Some(&token), 10).await.unwrap();
    let channel = by(&server, &root, Some(&short)).await;
    let mut ending = Vec::new();
    for variant in VARIANTS {
        ending.push(stream(channel.clone(), variant, None).await);
    }
    // A token beside the certificate changes nothing: the certificate was the proof.
    ending.push(stream(by(&server, &root, Some(&short)).await, Variant::Delta, Some(&token)).await);
    let mut staying = vec![
        stream(by(&server, &root, Some(&long)).await, Variant::Delta, None).await,
        stream(by(&server, &root, None).await, Variant::Delta, Some(&token)).await,
    ];
    let follow = bearing(FollowTrustBundlesRequest {}, None);
    let bundles = WorkloadIdentityClient::new(channel.clone()).follow_trust_bundles(follow).await;
    let mut bundles = bundles.unwrap().into_inner();
    bundles.message().await.unwrap().unwrap();

    for stream in &mut ending {
        assert_over(&stream.error().await, "client certificate that opened this call has expired");
    }
    let lived = begin.elapsed().as_secs_f64();
    assert!((9.0..13.0).contains(&lived), "a certificate of 10 s was good for {lived} s");
    assert_over(&soon(bundles.message()).await.unwrap_err(), "has expired");

    // Another stream on that connection is refused, until the connection itself ends.
    let deadline = Instant::now() + PATIENCE;
    while refusal(channel.clone(), Variant::Delta, first(None)).await.code() == Code::Unauthenticated {
        assert!(Instant::now() < deadline, "the connection of an expired certificate stays");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for stream in &mut staying {
        stream.ask(LISTENER, &[]);
        assert_eq!(stream.accept().await.type_url, LISTENER, "others go on");
    }
    stream(by(&server, &root, Some(&long)).await, Variant::Delta, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_their_certificate_is_revoked() {
    let (place, pki) = (Place::new(), Pki::new("root"));
    let ca = pki.ca("one");
    ca.write(&place.dir);
    let server = place.serve();
    let (held, chain) = place.ask(&server).await;
    let (other, _) = place.ask(&server).await;
    let mut ending = Vec::new();
    let mut staying = Vec::new();
    for variant in VARIANTS {
        ending.push(stream(by(&server, &pki.root, Some(&held)).await, variant, None).await);
        staying.push(stream(by(&server, &pki.root, Some(&other)).await, variant, None).await);
    }
    fs::write(place.dir.join("ca-crl.pem"), ca.revoke(&certificates(&chain[0])[0])).unwrap();
    for stream in &mut ending {
        assert_over(&stream.error().await, "is no longer trusted");
    }
    for stream in &mut staying {
        stream.ask(LISTENER, &[]);
        assert_eq!(stream.accept().await.type_url, LISTENER, "others go on");
    }
}
