//! The certificate authority over the wire, and `eastwest ca` and `eastwest token` beside it.

use std::fs;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use eastwest_proto::istio::v1::auth::{
    IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient,
};
use serde_json::json;
use time::OffsetDateTime;
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use crate::harness::{
    Bench, Server,
    clients::{
        Svid, altered, bearing, certificates, certify, create_certificate, plain, signing_request, svid, tls,
        tls_to,
    },
    mode,
};

const STOREFRONT: &str = "spiffe://cluster.local/ns/bookshop/sa/storefront";

/// What a test looks at in a leaf.
struct Leaf {
    names: Vec<String>,
    serial: String,
    /// Seconds from now to its end.
    remaining: i64,
}

/// Reads the first certificate of a chain and verifies it with the root.
fn leaf(chain: &str, root: &str) -> Leaf {
    let (leaf, root) = (certificates(chain).remove(0), certificates(root).remove(0));
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let (_, root) = X509Certificate::from_der(&root).unwrap();
    leaf.verify_signature(Some(root.public_key())).expect("signed by the root");
    assert!(!leaf.is_ca());
    let names = leaf.subject_alternative_name().unwrap().expect("names").value.general_names.iter();
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        other => panic!("{other}"),
    };
    let end = leaf.validity().not_after.timestamp();
    Leaf {
        names: names.map(uri).collect(),
        serial: leaf.raw_serial_as_string(),
        remaining: end - OffsetDateTime::now_utc().unix_timestamp(),
    }
}

/// Asks for a certificate at the TLS port.
async fn ask(
    bench: &Bench,
    server: &Server,
    held: Option<&Svid>,
    token: Option<&str>,
) -> Result<(Svid, Vec<String>), Status> {
    certify(tls(server.tls, &bench.root(), held).await.unwrap(), token, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_buys_a_certificate_of_its_service_account() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let token = bench.token("bookshop/storefront");
    let (svid, chain) = ask(&bench, &server, None, Some(&token)).await.unwrap();
    assert!(chain.len() >= 2, "leaf and roots");
    assert_eq!(
        certificates(chain.last().unwrap()),
        certificates(&bench.root()),
        "the last element: all roots"
    );
    let leaf = leaf(&svid.chain, &bench.root());
    assert_eq!(leaf.names, [STOREFRONT]);
    assert!((86_300..=86_400).contains(&leaf.remaining), "24 h: {}", leaf.remaining);
    let (_, metrics) = server.page("/metrics");
    assert!(metrics.contains("citadel_server_success_cert_issuance_count 1\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_certificate_renews_itself() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let held = svid(&bench, &server, "bookshop/storefront").await;
    let (renewed, _) = ask(&bench, &server, Some(&held), None).await.unwrap();
    let (before, after) = (leaf(&held.chain, &bench.root()), leaf(&renewed.chain, &bench.root()));
    assert_eq!(after.names, [STOREFRONT]);
    assert_ne!(before.serial, after.serial);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_proof_is_unauthenticated_and_gets_no_details() {
    let (bench, stranger) = (Bench::new(), Bench::new());
    let server = bench.serve(&[]);
    stranger.run(&["ca", "init"]).success();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let good = bench.token("bookshop/storefront");
    let other_audience =
        bench.run(&["token", "--service-account", "bookshop/storefront", "--audience", "vault"]);
    let proofs = [
        ("nothing", None),
        ("no token", Some(String::new())),
        ("nonsense", Some("storefront".to_owned())),
        ("of another mesh", Some(stranger.token("bookshop/storefront"))),
        ("for somebody else", Some(other_audience.success().trim().to_owned())),
        ("expired", Some(altered(&bench, &good, &[("exp", json!(now - 600))]))),
        ("of the future", Some(altered(&bench, &good, &[("nbf", json!(now + 600))]))),
        ("of an unknown issuer", Some(altered(&bench, &good, &[("iss", json!("kubernetes"))]))),
        ("of nobody", Some(altered(&bench, &good, &[("sub", json!("system:serviceaccountx:a:b"))]))),
        ("cut off", Some(good.rsplit_once('.').unwrap().0.to_owned())),
        ("unsigned", Some(unsigned(&good))),
    ];
    for (proof, token) in proofs {
        let refused = ask(&bench, &server, None, token.as_deref()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{proof}: {refused}");
        assert_eq!(refused.message(), "request authenticate failure", "{proof}");
    }
    let mended = altered(&bench, &good, &[("exp", json!(now + 600))]);
    ask(&bench, &server, None, Some(&mended)).await.expect("the tokens were made as they should be");
    let log = server.output();
    assert!(!log.contains(good.rsplit_once('.').unwrap().1), "no token reaches the log: {log}");
}

/// The same claims under `alg: none`.
fn unsigned(token: &str) -> String {
    let claims = token.split('.').nth(1).unwrap();
    format!("{}.{claims}.", BASE64.encode(r#"{"alg":"none","typ":"JWT"}"#))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_mesh_proves_nothing_and_spoils_no_token() {
    let (bench, stranger) = (Bench::new(), Bench::new());
    let (server, strange) = (bench.serve(&[]), stranger.serve(&[]));
    let foreign = svid(&stranger, &strange, "bookshop/storefront").await;
    let refused = ask(&bench, &server, Some(&foreign), None).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let token = bench.token("bookshop/catalog");
    let (svid, _) = ask(&bench, &server, Some(&foreign), Some(&token)).await.unwrap();
    assert_eq!(leaf(&svid.chain, &bench.root()).names, ["spiffe://cluster.local/ns/bookshop/sa/catalog"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plaintext_port_signs_nothing() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let token = bench.token("bookshop/storefront");
    let refused = certify(plain(server.grpc), Some(&token), 0).await.unwrap_err();
    assert!([Code::Unimplemented, Code::Unauthenticated].contains(&refused.code()), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lifetimes_are_those_of_the_flags() {
    let bench = Bench::new();
    let server = bench.serve(&["--cert-ttl", "1h", "--min-cert-ttl", "5m", "--max-cert-ttl", "2h"]);
    let token = bench.token("bookshop/storefront");
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    for (asked, life) in [(0, 3600), (-1, 3600), (300, 300), (7200, 7200)] {
        let (svid, _) = certify(channel.clone(), Some(&token), asked).await.unwrap();
        let remaining = leaf(&svid.chain, &bench.root()).remaining;
        assert!((life - 60..=life).contains(&remaining), "{asked}: {remaining}");
    }
    for asked in [1, 299, 7201, i64::MAX] {
        let refused = certify(channel.clone(), Some(&token), asked).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{asked}: {refused}");
        assert!(refused.message().contains("validity_duration"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_signing_request_is_refused_with_the_reason_and_the_next_one_is_signed() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let token = bench.token("bookshop/storefront");
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    let (_, good) = signing_request();
    let (middle, _) = good.char_indices().nth(good.len() / 2).unwrap();
    let mut flipped = good.clone();
    let other = if &good[middle..=middle] == "A" { "B" } else { "A" };
    flipped.replace_range(middle..=middle, other);
    let bad = [
        String::new(),
        "not PEM".to_owned(),
        good.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        format!("{good}{good}"),
        flipped,
        "-----BEGIN CERTIFICATE REQUEST-----\n".repeat(40_000),
    ];
    for csr in bad {
        let refused = create_certificate(channel.clone(), Some(&token), csr, 0).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().to_lowercase().contains("csr"), "the field: {refused}");
    }
    create_certificate(channel, Some(&token), good, 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_further_issuer_are_accepted() {
    let (bench, cluster) = (Bench::new(), Bench::new());
    cluster.run(&["ca", "init"]).success();
    let token = cluster.token("bookshop/storefront");
    let token = altered(&cluster, &token, &[("iss", json!("https://issuer.example"))]);
    let keys = cluster.state().join("token-jwks.json");
    let server =
        bench.serve(&["--token-issuer", "https://issuer.example", "--token-jwks", keys.to_str().unwrap()]);
    for token in [token, bench.token("bookshop/storefront")] {
        let (svid, _) = ask(&bench, &server, None, Some(&token)).await.unwrap();
        assert_eq!(leaf(&svid.chain, &bench.root()).names, [STOREFRONT]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_serving_certificate_has_the_names_that_are_asked_for() {
    let bench = Bench::new();
    let server = bench.serve(&["--serving-name", "mesh.example", "--serving-name", "192.0.2.7"]);
    for name in ["mesh.example", "192.0.2.7"] {
        tls_to(name, server.tls, &bench.root(), None).await.unwrap();
    }
    let refused = tls_to("istiod.istio-system.svc", server.tls, &bench.root(), None).await.unwrap_err();
    assert!(refused.to_string().contains("mesh.example"), "{refused}");

    let usual = Bench::new();
    let server = usual.serve(&["--root-namespace", "mesh"]);
    for name in ["istiod.istio-system.svc", "istiod.mesh.svc", "localhost", "127.0.0.1"] {
        tls_to(name, server.tls, &usual.root(), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_another_cluster_are_unauthenticated() {
    let bench = Bench::new();
    let server = bench.serve(&["--cluster-id", "east"]);
    let token = bench.token("bookshop/storefront");
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    for (clusters, accepted) in
        [(&[][..], true), (&["east"], true), (&["Kubernetes"], false), (&["east", "east"], false)]
    {
        let (_, csr) = signing_request();
        let mut request = bearing(
            IstioCertificateRequest { csr, validity_duration: 0, metadata: None },
            Some(token.as_str()),
        );
        for cluster in clusters {
            request.metadata_mut().append("clusterid", cluster.parse().unwrap());
        }
        let answer = IstioCertificateServiceClient::new(channel.clone()).create_certificate(request).await;
        match answer {
            Ok(_) => assert!(accepted, "{clusters:?}"),
            Err(refused) => {
                assert!(!accepted && refused.code() == Code::Unauthenticated, "{clusters:?}: {refused}")
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tls_port_says_that_it_is_healthy() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let mut health = HealthClient::new(tls(server.tls, &bench.root(), None).await.unwrap());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tls_port_says_what_it_serves() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let mut reflection = ServerReflectionClient::new(tls(server.tls, &bench.root(), None).await.unwrap());
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { message_request, ..Default::default() };
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "istio.v1.auth.IstioCertificateService",
        "envoy.service.discovery.v3.AggregatedDiscoveryService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.contains(&"SpiffeWorkloadAPI"), "that is the agent's: {names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_issued_by_hand_serves_as_a_client_certificate() {
    let bench = Bench::new();
    bench.run(&["ca", "init"]).success();
    let issued = bench.run(&["ca", "issue", STOREFRONT, "--out", "issued", "--ttl", "1h"]);
    assert!(issued.success().contains(STOREFRONT), "{}", issued.out);
    assert_eq!(mode(&bench.path("issued")), 0o700);
    assert_eq!(mode(&bench.path("issued/key.pem")), 0o600);
    let read = |name: &str| fs::read_to_string(bench.path("issued").join(name)).unwrap();
    let held = Svid { chain: read("cert-chain.pem"), key: read("key.pem") };
    let root = read("root-cert.pem");
    let found = leaf(&held.chain, &root);
    assert_eq!(found.names, [STOREFRONT]);
    assert!((3_500..=3_600).contains(&found.remaining), "{}", found.remaining);

    let server = bench.serve(&[]);
    assert_eq!(certificates(&root), certificates(&bench.root()), "`ca init` made the root that `serve` uses");
    let (renewed, _) = ask(&bench, &server, Some(&held), None).await.unwrap();
    assert_eq!(leaf(&renewed.chain, &root).names, [STOREFRONT]);
}

#[test]
fn the_authority_is_shown_before_and_while_a_server_runs() {
    let bench = Bench::new();
    for command in [&["ca", "show"][..], &["ca", "bundle"], &["ca", "issue", STOREFRONT]] {
        bench.run(command).failure(2, &["state", "eastwest ca init"]);
    }
    assert!(bench.run(&["ca", "init", "--trust-domain", "shop.example"]).success().contains("shop.example"));
    assert_eq!(mode(&bench.state()), 0o700);
    let before = bench.run(&["ca", "show", "-o", "json"]).json();
    assert_eq!(before["roots"][0]["key"], "ECDSA P-256");
    let again = bench.run(&["ca", "init", "-o", "json"]);
    assert_eq!(again.json(), before, "`ca init` keeps what is there");

    let _server = bench.serve(&["--trust-domain", "shop.example"]);
    assert_eq!(bench.run(&["ca", "show", "-o", "json"]).json(), before);
    assert_eq!(certificates(bench.run(&["ca", "bundle"]).success()), certificates(&bench.root()));
    bench.run(&["ca", "issue", "spiffe://shop.example/ns/shop/sa/web", "--out", "issued"]).success();
    bench
        .run(&["ca", "issue", STOREFRONT, "--out", "issued"])
        .failure(2, &["in the trust domain shop.example"]);
    let other = ["ca", "init", "--trust-domain", "other.example", "--state-dir", "copy"];
    bench.run(&["ca", "init", "--trust-domain", "shop.example", "--state-dir", "copy"]).success();
    bench.run(&other).failure(2, &["there is a CA already", "--trust-domain shop.example"]);
    fs::write(bench.path("file"), "").unwrap();
    bench.run(&["ca", "init", "--state-dir", "file"]).failure(2, &["file: is a file"]);
    bench.run(&["ca", "init"]).failure(1, &["another eastwest"]);
}

#[test]
fn mistakes_in_a_certificate_request_are_reported_together() {
    let bench = Bench::new();
    bench.run(&["ca", "init"]).success();
    let refused = bench.run(&["ca", "issue", "storefront", "--ttl", "long"]);
    refused.failure(2, &["SPIFFE-ID", "spiffe://", "--ttl", "\"long\""]);
    bench.run(&["ca", "issue", STOREFRONT, "--ttl", "1s"]).failure(2, &["--ttl", "minimum"]);
    bench.run(&["ca", "issue", STOREFRONT, "--ttl", "91d"]).failure(2, &["--ttl", "maximum"]);
}
