//! Tokens that are bound to pods, and proxies that speak for the pods of their nodes (CA.md A9 to A16 and
//! A20).

use std::{sync::Arc, time::Duration};

use eastwest_ca::{KeySet, NodeAccounts};
use eastwest_ca_server::{BoundPods, IssuerKeys, ProofConfig};
use eastwest_proto::istio::v1::auth::IstioCertificateRequest;
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::json;
use time::OffsetDateTime;
use tonic::Code;

use super::{
    common::{Ca, Client, REVIEWS, identity, request},
    issuer::{Cluster, Issuer},
};

struct Node {
    ca: Ca,
    cluster: Arc<Cluster>,
    issuer: Issuer,
}

impl Node {
    async fn start() -> Self {
        let cluster = Arc::new(Cluster::default());
        cluster.add("istio-system/ztunnel", "ztunnel-1", "n1");
        cluster.add("istio-system/ztunnel", "ztunnel-2", "n2");
        cluster.add("istio-system/istiod", "istiod-0", "n1");
        cluster.add("shop/reviews", "reviews-0", "n1");
        cluster.add("shop/ratings", "ratings-0", "n2");
        cluster.put("shop/job", "job-0", "n1", |pod| pod.ended = true);
        let issuer = Issuer::new("https://cluster", "k");
        let keys = KeySet::from_json(&issuer.jwks()).unwrap();
        let accounts = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
        let proofs = ProofConfig {
            issuers: vec![IssuerKeys::fixed(issuer.name.clone(), keys)],
            bound_pods: Some(BoundPods { pods: cluster.clone(), patience: Duration::ZERO }),
            pods: Some(cluster.clone()),
            node_accounts: NodeAccounts::new(
                accounts(&["istio-system/ztunnel"]),
                accounts(&["istio-system/istiod"]),
            ),
            ..ProofConfig::default()
        };
        Self { ca: Ca::start_with(proofs).await, cluster, issuer }
    }

    /// The proxy of node n1.
    fn ztunnel(&self) -> String {
        self.issuer.bound("istio-system/ztunnel", "ztunnel-1", "uid-ztunnel-1", Some("n1"))
    }

    async fn ask(&self, token: &str, asked: &str) -> Code {
        code(&mut self.ca.client().token(token).await, text(asked)).await
    }
}

fn text(text: &str) -> Option<Kind> {
    Some(Kind::StringValue(text.to_owned()))
}

fn impersonating(kind: Option<Kind>) -> IstioCertificateRequest {
    let fields = [("ImpersonatedIdentity".to_owned(), Value { kind })].into();
    IstioCertificateRequest { metadata: Some(Struct { fields }), ..request() }
}

async fn code(client: &mut Client, asked: Option<Kind>) -> Code {
    let answer = client.create(impersonating(asked)).await;
    answer.map_or_else(
        |status| {
            assert_eq!(status.message(), "request authenticate failure", "the peer learns nothing");
            status.code()
        },
        |_| Code::Ok,
    )
}

#[tokio::test]
async fn a_nodes_proxy_gets_the_identity_of_a_pod_beside_it() {
    let node = Node::start().await;
    let mut client = node.ca.client().token(&node.ztunnel()).await;
    for cluster in [vec![], vec![""], vec!["Kubernetes"]] {
        client.clusters.clone_from(&cluster);
        let answer = client.create(impersonating(text(REVIEWS))).await.unwrap();
        assert_eq!(identity(&answer), REVIEWS, "pending pods count: {cluster:?}");
    }
    let own = client.create(impersonating(text(""))).await.unwrap();
    assert_eq!(identity(&own), "spiffe://cluster.local/ns/istio-system/sa/ztunnel", "empty is none");
    let second = node.issuer.bound("istio-system/ztunnel", "ztunnel-2", "uid-ztunnel-2", None);
    let ratings = "spiffe://cluster.local/ns/shop/sa/ratings";
    assert_eq!(node.ask(&second, ratings).await, Code::Ok, "older tokens name no node");
}

/// CA.md A9, A10 and A15, and identities that only look like one.
#[tokio::test]
async fn identities_that_no_node_proxy_may_represent() {
    let node = Node::start().await;
    let token = node.ztunnel();
    for asked in [
        "spiffe://a,istiod.istio-system.svc,b/ns/x/sa/y",
        "spiffe://cluster.local/ns/shop/sa/reviews,spiffe://cluster.local/ns/istio-system/sa/istiod",
        "spiffe://other/ns/shop/sa/reviews",
        "spiffe://cluster.local.evil/ns/shop/sa/reviews",
        "spiffe://cluster.local/ns/istio-system/sa/istiod",
        "spiffe://cluster.local/ns/istio-system/sa/ztunnel",
        "spiffe://cluster.local/ns/shop/sa/reviews/sa/istiod",
        "spiffe://cluster.local/ns/shop/sa/reviews/",
        "spiffe://cluster.local/ns/shop/reviews",
        "spiffe://CLUSTER.LOCAL/ns/shop/sa/reviews",
        "spiffe://cluster.local/ns/shop/sa/Reviews",
        "spiffe://cluster.local/ns/shop/sa/r%65views",
        "spiffe://cluster.local/ns/shop/sa/revi\u{0435}ws",
        "spiffe://cluster.local/ns/shop/sa/reviews\0",
        "spiffe://cluster.local/ns/shop/sa/reviews\n",
        "https://cluster.local/ns/shop/sa/reviews",
        "shop/reviews",
        " ",
    ] {
        assert_eq!(node.ask(&token, asked).await, Code::Unauthenticated, "{asked:?}");
    }
    let mut client = node.ca.client().token(&token).await;
    let list = ListValue { values: vec![Value { kind: text(REVIEWS) }] };
    for kind in [Kind::NumberValue(1.0), Kind::BoolValue(true), Kind::ListValue(list)] {
        assert_eq!(code(&mut client, Some(kind.clone())).await, Code::Unauthenticated, "{kind:?}");
    }
    assert_eq!(node.ask(&token, REVIEWS).await, Code::Ok);
}

/// CA.md A11 and A14.
#[tokio::test]
async fn only_live_pods_of_the_same_node() {
    let node = Node::start().await;
    let token = node.ztunnel();
    for account in ["ratings", "job", "nobody"] {
        let asked = format!("spiffe://cluster.local/ns/shop/sa/{account}");
        assert_eq!(node.ask(&token, &asked).await, Code::Unauthenticated, "{account}");
    }
    node.cluster.put("shop/reviews", "reviews-0", "n1", |pod| pod.ended = true);
    assert_eq!(node.ask(&token, REVIEWS).await, Code::Unauthenticated, "it ended");
    node.cluster.put("shop/reviews", "reviews-0", "n1", |pod| pod.node = None);
    assert_eq!(node.ask(&token, REVIEWS).await, Code::Unauthenticated, "it is on no node yet");
    node.cluster.add("shop/reviews", "reviews-1", "n1");
    assert_eq!(node.ask(&token, REVIEWS).await, Code::Ok);
    node.cluster.remove("reviews-1");
    assert_eq!(node.ask(&token, REVIEWS).await, Code::Unauthenticated, "it was deleted");
}

/// CA.md A12 and A13.
#[tokio::test]
async fn only_trusted_pods_that_exist_may_ask() {
    let node = Node::start().await;
    let bound = |account, pod, uid, on| node.issuer.bound(account, pod, uid, on);
    for (what, token) in [
        ("untrusted", bound("shop/reviews", "reviews-0", "uid-reviews-0", Some("n1"))),
        ("bound to no pod", node.issuer.token("istio-system/ztunnel", json!({}))),
        ("our own token, bound to none", node.ca.token("istio-system", "ztunnel")),
        ("of a deleted pod of that name", bound("istio-system/ztunnel", "ztunnel-1", "uid-old", Some("n1"))),
        ("without a UID", bound("istio-system/ztunnel", "ztunnel-1", "", Some("n1"))),
        (
            "of a pod of another account",
            bound("istio-system/ztunnel", "istiod-0", "uid-istiod-0", Some("n1")),
        ),
        (
            "of another node than it says",
            bound("istio-system/ztunnel", "ztunnel-1", "uid-ztunnel-1", Some("n2")),
        ),
        ("another node's", bound("istio-system/ztunnel", "ztunnel-2", "uid-ztunnel-2", Some("n2"))),
    ] {
        assert_eq!(node.ask(&token, REVIEWS).await, Code::Unauthenticated, "{what}");
    }
    let minute = std::time::Duration::from_secs(60);
    let ztunnel = "spiffe://cluster.local/ns/istio-system/sa/ztunnel";
    let certificate = node.ca.issue(ztunnel, minute, OffsetDateTime::now_utc());
    let mut mutual = node.ca.client().certificate(&certificate).await;
    assert_eq!(code(&mut mutual, text(REVIEWS)).await, Code::Unauthenticated, "by certificate");
    assert_eq!(code(&mut mutual, text("")).await, Code::Ok, "which is good for itself");
    node.cluster.put("istio-system/ztunnel", "ztunnel-1", "n1", |pod| pod.ended = true);
    assert_eq!(node.ask(&node.ztunnel(), REVIEWS).await, Code::Unauthenticated, "the proxy ended");
}

/// CA.md A16.
#[tokio::test]
async fn proxies_of_other_clusters_represent_no_pod() {
    let node = Node::start().await;
    let mut client = node.ca.client().token(&node.ztunnel()).await;
    for cluster in [vec!["elsewhere"], vec!["Kubernetes", "Kubernetes"], vec!["kubernetes"]] {
        client.clusters.clone_from(&cluster);
        assert_eq!(code(&mut client, text(REVIEWS)).await, Code::Unauthenticated, "{cluster:?}");
    }
}

/// CA.md A20.
#[tokio::test]
async fn a_bound_token_is_refused_once_its_pod_is_gone() {
    let node = Node::start().await;
    let token = node.issuer.bound("shop/reviews", "reviews-0", "uid-reviews-0", Some("n1"));
    assert_eq!(node.ask(&token, "").await, Code::Ok);
    node.cluster.remove("reviews-0");
    assert_eq!(node.ask(&token, "").await, Code::Unauthenticated, "deleted");
    node.cluster.put("shop/reviews", "reviews-0", "n1", |pod| pod.uid = Some("uid-new".into()));
    assert_eq!(node.ask(&token, "").await, Code::Unauthenticated, "made anew");
    node.cluster.put("shop/other", "reviews-0", "n1", |pod| pod.uid = Some("uid-reviews-0".into()));
    assert_eq!(node.ask(&token, "").await, Code::Unauthenticated, "of another account");
    node.cluster.put("shop/reviews", "reviews-0", "n1", |pod| pod.uid = None);
    assert_eq!(node.ask(&token, "").await, Code::Ok, "a manifest without UID is known by its name");
    let other = node.issuer.bound("shop/reviews", "ratings-0", "uid-ratings-0", None);
    assert_eq!(node.ask(&other, "").await, Code::Unauthenticated, "another account's pod");
    let contradicting =
        json!({"kubernetes.io": {"namespace": "other", "pod": {"name": "reviews-0", "uid": ""}}});
    let token = node.issuer.token("shop/reviews", contradicting);
    assert_eq!(node.ask(&token, "").await, Code::Unauthenticated);
}

/// A token says on which node its pod is, and holds there alone (CA.md C16).
#[tokio::test]
async fn a_bound_token_is_refused_on_another_node_than_its_own() {
    let node = Node::start().await;
    let bound = |on| node.issuer.bound("shop/reviews", "reviews-0", "uid-reviews-0", on);
    for (on, code) in [(Some("n1"), Code::Ok), (None, Code::Ok), (Some("n2"), Code::Unauthenticated)] {
        assert_eq!(node.ask(&bound(on), "").await, code, "{on:?}");
    }
    node.cluster.put("shop/reviews", "reviews-0", "n2", |_| ());
    assert_eq!(
        node.ask(&bound(Some("n1")), "").await,
        Code::Unauthenticated,
        "the pod is on another node now"
    );
    node.cluster.put("shop/reviews", "reviews-0", "n1", |pod| pod.node = None);
    assert_eq!(node.ask(&bound(Some("n1")), "").await, Code::Unauthenticated, "the pod is on no node");
    assert_eq!(node.ask(&bound(None), "").await, Code::Ok);
    node.cluster.put("shop/reviews", "reviews-0", "n1", |pod| (pod.node, pod.uid) = (None, None));
    assert_eq!(
        node.ask(&bound(Some("n1")), "").await,
        Code::Ok,
        "a manifest without a node is known by its name"
    );
}

/// The metrics distinguish two pods of one identity, and do not report one that is gone as overdue.
#[tokio::test]
async fn metrics_tell_of_each_pods_certificate() {
    let node = Node::start().await;
    node.cluster.add("shop/reviews", "reviews-1", "n2");
    for pod in ["reviews-0", "reviews-1"] {
        let token = node.issuer.bound("shop/reviews", pod, &format!("uid-{pod}"), None);
        node.ca.client().token(&token).await.create(request()).await.unwrap();
    }
    let own = node.ca.issue(REVIEWS, std::time::Duration::from_secs(60), OffsetDateTime::now_utc());
    node.ca.client().certificate(&own).await.create(request()).await.unwrap();
    let told = || {
        let metrics = node.ca.metrics();
        let lines =
            metrics.lines().filter_map(|line| line.strip_prefix("eastwest_workload_cert_expiry_timestamp"));
        lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let labels = |pod| format!("{{identity=\"{REVIEWS}\",pod=\"{pod}\"}}");
    assert_eq!(told(), [labels(""), labels("shop/reviews-0"), labels("shop/reviews-1")]);
    node.cluster.remove("reviews-0");
    assert_eq!(told(), [labels(""), labels("shop/reviews-1")]);
}
