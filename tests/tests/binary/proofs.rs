//! Proofs of identity as they are configured: audiences, pods that tokens are bound to, proxies of a node.

use eastwest_proto::istio::v1::auth::{
    IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient,
};
use prost_types::{Struct, Value, value::Kind};
use serde_json::json;
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    Bench, Server,
    clients::{altered, bearing, certify, signing_request, tls},
};

const STOREFRONT: &str = "spiffe://cluster.local/ns/bookshop/sa/storefront";

/// A proxy and a pod of its node, as a cluster would report them.
const NODE: &str = r"
{apiVersion: v1, kind: Pod, metadata: {name: ztunnel-1, namespace: istio-system, uid: u-1},
 spec: {nodeName: n1, serviceAccountName: ztunnel}, status: {phase: Running}}
---
{apiVersion: v1, kind: Pod, metadata: {name: storefront-1, namespace: bookshop, uid: u-2},
 spec: {nodeName: n1, serviceAccountName: storefront}, status: {phase: Pending}}
";

async fn channel(bench: &Bench, server: &Server) -> Channel {
    tls(server.tls, &bench.root(), None).await.unwrap()
}

fn code<T>(answer: Result<T, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// A good token of an account, bound to a pod.
fn bound(bench: &Bench, account: &str, pod: &str, uid: &str) -> String {
    let claims = json!({"pod": {"name": pod, "uid": uid}, "node": {"name": "n1", "uid": "n"}});
    altered(bench, &bench.token(account), &[("kubernetes.io", claims)])
}

async fn ask(channel: &Channel, token: &str, identity: &str) -> Code {
    let kind = Some(Kind::StringValue(identity.to_owned()));
    let fields = [("ImpersonatedIdentity".to_owned(), Value { kind })].into();
    let (_, csr) = signing_request();
    let message = IstioCertificateRequest { csr, validity_duration: 0, metadata: Some(Struct { fields }) };
    let mut client = IstioCertificateServiceClient::new(channel.clone());
    code(client.create_certificate(bearing(message, Some(token))).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_is_good_while_the_manifests_have_its_pod() {
    let bench = Bench::new();
    bench.write("node.yaml", NODE);
    let server = bench.serve(&[]);
    let channel = channel(&bench, &server).await;
    let token = bound(&bench, "bookshop/storefront", "storefront-1", "u-2");
    assert_eq!(code(certify(channel.clone(), Some(&token), 0).await), Code::Ok);
    let unknown = bound(&bench, "bookshop/storefront", "storefront-9", "u-9");
    assert_eq!(code(certify(channel.clone(), Some(&unknown), 0).await), Code::Unauthenticated);
    bench.edit("node.yaml", "u-2", "u-3");
    let deadline = tokio::time::Instant::now() + crate::harness::PATIENCE;
    while code(certify(channel.clone(), Some(&token), 0).await) == Code::Ok {
        assert!(tokio::time::Instant::now() < deadline, "the token outlives its pod");
    }
    assert!(server.output().contains("u-3"), "the log says why");

    let lax = Bench::new();
    let server = lax.serve(&["--token-any-pod"]);
    let token = bound(&lax, "bookshop/storefront", "storefront-9", "u-9");
    let channel = tls(server.tls, &lax.root(), None).await.unwrap();
    assert_eq!(code(certify(channel, Some(&token), 0).await), Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_node_accounts_represent_the_pods_of_their_nodes() {
    for (flags, variables, expected) in [
        (&["--trusted-node-account", "istio-system/ztunnel"][..], &[][..], Code::Ok),
        (&[], &[("CA_TRUSTED_NODE_ACCOUNTS", "a/b, istio-system/ztunnel")], Code::Ok),
        (
            &["--trusted-node-account", "a/b"],
            &[("CA_TRUSTED_NODE_ACCOUNTS", "istio-system/ztunnel")],
            Code::Unauthenticated,
        ),
        (&[], &[], Code::Unauthenticated),
        (
            &["--trusted-node-account", "istio-system/ztunnel", "--protected-account", "bookshop/storefront"],
            &[],
            Code::Unauthenticated,
        ),
    ] {
        let bench = Bench::new();
        bench.write("node.yaml", NODE);
        let server = bench.serve_with(flags, variables);
        let channel = channel(&bench, &server).await;
        let token = bound(&bench, "istio-system/ztunnel", "ztunnel-1", "u-1");
        assert_eq!(ask(&channel, &token, STOREFRONT).await, expected, "{flags:?} {variables:?}");
        assert_eq!(ask(&channel, &token, "").await, Code::Ok, "itself");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audiences_come_from_the_flag_or_from_istiods_variable() {
    for (flags, variables, good, bad) in [
        (&[][..], &[][..], &["istio-ca"][..], &["vault"][..]),
        (&[], &[("TOKEN_AUDIENCES", "vault, mesh")], &["vault", "mesh"], &["istio-ca"]),
        (
            &["--token-audience", "a", "--token-audience", "b"],
            &[("TOKEN_AUDIENCES", "vault")],
            &["a", "b"],
            &["vault"],
        ),
    ] {
        let bench = Bench::new();
        let server = bench.serve_with(flags, variables);
        let channel = channel(&bench, &server).await;
        for (audiences, expected) in [(good, Code::Ok), (bad, Code::Unauthenticated)] {
            for audience in audiences {
                let mint = ["token", "--service-account", "bookshop/storefront", "--audience", audience];
                let token = bench.run(&mint).success().trim().to_owned();
                assert_eq!(code(certify(channel.clone(), Some(&token), 0).await), expected, "{audience}");
            }
        }
    }
}

#[test]
fn mistakes_in_settings_of_proofs_name_their_flags() {
    let bench = Bench::new();
    let refused = bench.refused(&[
        "--token-jwks",
        "http://issuer.example/keys",
        "--trusted-node-account",
        "ztunnel",
        "--protected-account",
        "Istio/x",
    ]);
    let told =
        ["--token-jwks: ", "https", "--token-issuer: ", "--trusted-node-account: ", "--protected-account: "];
    refused.failure(2, &told);
    let missing = ["--token-issuer", "https://issuer.example", "--token-jwks-ca", "nowhere.pem"];
    bench.refused(&missing).failure(1, &["--token-jwks-ca", "nowhere.pem"]);
}

#[test]
fn wrong_oidc_rules_are_reported_with_their_fields() {
    let bench = Bench::new();
    std::fs::write(bench.path("rules.yaml"), "rules: [{name: a, match: {ref: '*'}}]").unwrap();
    let told = ["--oidc-rules", "rules[0].issuer", "rules[0].match.ref", "rules[0].maxTTL"];
    bench.refused(&["--oidc-rules", "rules.yaml"]).failure(1, &told);
    bench.refused(&["--oidc-ca", "ca.pem"]).failure(2, &["--oidc-rules"]);
}

#[test]
fn an_api_that_cannot_be_found_is_reported() {
    let bench = Bench::new();
    bench.refused(&["--token-review"]).failure(2, &["--token-review", "--kubeconfig"]);
    bench.refused(&["--token-review", "--kubeconfig", "nowhere"]).failure(2, &["--kubeconfig", "nowhere"]);
    bench.refused(&["--kubeconfig", "nowhere"]).failure(2, &["--token-review"]);

    let keys = ["--token-issuer", "https://issuer.example", "--token-jwks", "kubernetes"];
    bench.refused(&keys).failure(2, &["--token-jwks kubernetes", "--kubeconfig"]);
    bench
        .refused(&[&keys[..], &["--kubeconfig", "nowhere"]].concat())
        .failure(2, &["--kubeconfig", "nowhere"]);
    let roots = [&keys[..], &["--token-jwks-ca", "ca.pem"]].concat();
    bench.refused(&roots).failure(2, &["--token-jwks-ca", "--kubeconfig"]);
    // The API knows the issuer of its tokens.
    bench.refused(&["--token-jwks", "kubernetes"]).failure(2, &["--token-jwks kubernetes", "--kubeconfig"]);
}
