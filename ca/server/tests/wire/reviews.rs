//! Tokens that the Kubernetes API verifies (CA.md A19), at an API that answers as the real one does, and as
//! it should not.

use std::{sync::Arc, time::Duration};

use eastwest_ca::{KeySet, NodeAccounts};
use eastwest_ca_server::{IssuerKeys, ProofConfig};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tonic::Code;

use super::{
    common::{Ca, REVIEWS, identity, request},
    issuer::{Cluster, Issuer, merge},
    kubernetes_api::ApiAt,
    web::{Asked, Web},
};

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

struct Api {
    web: Web,
    issuer: Issuer,
}

impl Api {
    async fn start() -> Self {
        let api =
            Self { web: Web::start(true).await, issuer: Issuer::new("https://kubernetes.default.svc", "k") };
        api.says(json!({}));
        api
    }

    /// The API answers like this, with changes to the status.
    fn says(&self, changes: Value) {
        self.web.answer(move |asked| {
            let mut status = json!({"authenticated": true, "audiences": audiences(asked), "user": {
                "username": "system:serviceaccount:shop:reviews", "uid": "u",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/pod-name": ["reviews-0"],
                    "authentication.kubernetes.io/pod-uid": ["uid-reviews-0"],
                    "authentication.kubernetes.io/node-name": ["n1"]}}});
            merge(&mut status, changes.clone());
            let review =
                json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status});
            (201, review.to_string())
        });
    }

    fn proofs(&self) -> ProofConfig {
        let api = ApiAt::new(self.web.url(""), self.web.roots());
        ProofConfig { review: Some(Arc::new(api)), ..ProofConfig::default() }
    }

    async fn ca(&self) -> Ca {
        Ca::start_with(self.proofs()).await
    }

    fn token(&self) -> String {
        self.issuer.token("shop/reviews", json!({"jti": format!("{:?}", std::time::Instant::now())}))
    }
}

fn audiences(asked: &Asked) -> Value {
    let question: Value = serde_json::from_str(&asked.body).unwrap();
    question["spec"]["audiences"].clone()
}

async fn code(ca: &Ca, token: &str) -> Code {
    ca.client().token(token).await.create(request()).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn the_api_is_asked_as_it_expects() {
    let api = Api::start().await;
    let ca = api.ca().await;
    let token = api.token();
    let answer = ca.client().token(&token).await.create(request()).await.unwrap();
    assert_eq!(identity(&answer), REVIEWS);
    let asked = api.web.pages().asked[0].clone();
    assert_eq!(asked.path, PATH);
    assert!(asked.headers.starts_with("POST "), "{asked:?}");
    let question: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(question["kind"], "TokenReview");
    assert_eq!(question["apiVersion"], "authentication.k8s.io/v1");
    assert_eq!(question["spec"], json!({"token": token, "audiences": ["istio-ca"]}));
}

/// CA.md A19, and everything else that must hold.
#[tokio::test]
async fn what_the_api_says_must_hold_in_everything() {
    let api = Api::start().await;
    let ca = api.ca().await;
    for status in [
        json!({"audiences": null}),
        json!({"audiences": []}),
        json!({"audiences": ["https://kubernetes.default.svc"]}),
        json!({"audiences": ["istio-ca2", "ISTIO-CA"]}),
        json!({"authenticated": false}),
        json!({"authenticated": null}),
        json!({"authenticated": "yes"}),
        json!({"error": "service account token has been invalidated"}),
        json!({"user": null}),
        json!({"user": {"username": "kubernetes-admin", "groups": ["system:masters", "system:serviceaccounts"]}}),
        json!({"user": {"username": "system:serviceaccount:shop:reviews", "groups": ["system:authenticated"]}}),
        json!({"user": {"username": "system:serviceaccount:shop", "groups": ["system:serviceaccounts"]}}),
        json!({"user": {"username": "system:serviceaccount:shop:a:b", "groups": ["system:serviceaccounts"]}}),
        json!({"user": {"username": "system:serviceaccountx:shop:a", "groups": ["system:serviceaccounts"]}}),
        json!({"user": {"username": "system:serviceaccount:shop:a/sa/b", "groups": ["system:serviceaccounts"]}}),
    ] {
        api.says(status.clone());
        assert_eq!(code(&ca, &api.token()).await, Code::Unauthenticated, "{status}");
    }
    for (status, text) in [
        (500, String::new()),
        (401, r#"{"kind": "Status"}"#.to_owned()),
        (403, String::new()),
        (429, String::new()),
        (302, api.web.url("/elsewhere")),
        (201, String::new()),
        (201, "null".to_owned()),
        (201, r#"{"kind": "Status", "status": "Success"}"#.to_owned()),
        (201, r#"{"kind": "TokenReview"}"#.to_owned()),
        (201, "x".repeat(300_000)),
    ] {
        api.web.answer(move |_| (status, text.clone()));
        assert_eq!(code(&ca, &api.token()).await, Code::Unauthenticated, "{status}");
    }
    api.says(json!({}));
    assert_eq!(code(&ca, &api.token()).await, Code::Ok);
}

#[tokio::test]
async fn one_question_a_token_at_a_time_and_a_short_memory() {
    for latency in [0, 5, 50] {
        let api = Api::start().await;
        api.web.pages().delay = Duration::from_millis(latency);
        let ca = Arc::new(api.ca().await);
        let token = api.token();
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let (ca, token) = (Arc::clone(&ca), token.clone());
            tasks.spawn(async move { code(&ca, &token).await });
        }
        assert!(tasks.join_all().await.iter().all(|code| *code == Code::Ok), "{latency} ms");
        assert_eq!(api.web.count(), 1, "sixteen requests with one token at {latency} ms");
        assert_eq!(code(&ca, &api.token()).await, Code::Ok);
        assert_eq!(api.web.count(), 2, "another token is another question");

        // A good answer never outlives the token, and a bad one is not remembered.
        let end = OffsetDateTime::now_utc().unix_timestamp() + 2;
        let short = api.issuer.token("shop/reviews", json!({"exp": end}));
        assert_eq!(code(&ca, &short).await, Code::Ok);
        while OffsetDateTime::now_utc().unix_timestamp() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let before = api.web.count();
        assert_eq!(code(&ca, &short).await, Code::Unauthenticated);
        assert_eq!(api.web.count(), before, "that a token has run out is no question");
        api.says(json!({"authenticated": false}));
        let token = api.token();
        assert_eq!(code(&ca, &token).await, Code::Unauthenticated);
        api.says(json!({}));
        assert_eq!(code(&ca, &token).await, Code::Ok);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_api_are_kept_and_those_that_broke_replaced() {
    let api = Api::start().await;
    let ca = api.ca().await;
    for _ in 0..3 {
        assert_eq!(code(&ca, &api.token()).await, Code::Ok);
    }
    let connections =
        |api: &Api| api.web.pages().asked.iter().map(|asked| asked.connection).collect::<Vec<_>>();
    assert_eq!(connections(&api), [1, 1, 1]);

    api.web.pages().hangs_up = true;
    for _ in 0..3 {
        assert_eq!(code(&ca, &api.token()).await, Code::Ok);
    }
    assert_eq!(connections(&api), [1, 1, 1, 1, 2, 3]);
}

/// An API that does not answer authenticates no caller, and does not affect the other methods.
#[tokio::test]
async fn an_api_that_is_away_is_no_proof_and_no_harm() {
    let api = Api::start().await;
    let local = Issuer::new("https://local", "k");
    let keys = KeySet::from_json(&local.jwks()).unwrap();
    let issuers = vec![IssuerKeys::fixed(local.name.clone(), keys)];
    let ca = Ca::start_with(ProofConfig { issuers, ..api.proofs() }).await;
    let wrong = local.token("shop/reviews", json!({"aud": "other"}));
    assert_eq!(code(&ca, &wrong).await, Code::Unauthenticated);
    assert_eq!(code(&ca, "a.b.c").await, Code::Unauthenticated);
    assert_eq!(code(&ca, &api.issuer.token("shop/reviews", json!({"exp": 1}))).await, Code::Unauthenticated);
    assert_eq!(
        api.web.count(),
        0,
        "tokens of issuers whom we know, and what is no token, are not its business"
    );
    api.web.pages().delay = Duration::from_secs(3600);
    assert_eq!(code(&ca, &api.token()).await, Code::Unauthenticated, "within the patience");
    let good = local.token("shop/reviews", json!({}));
    assert_eq!(code(&ca, &good).await, Code::Ok);
    drop(api);
    assert_eq!(code(&ca, &good).await, Code::Ok);
}

/// The extras of a review bind the token as its claims would.
#[tokio::test]
async fn a_reviewed_token_may_represent_too() {
    let api = Api::start().await;
    let cluster = Arc::new(Cluster::default());
    cluster.add("istio-system/ztunnel", "ztunnel-1", "n1");
    cluster.add("shop/reviews", "reviews-0", "n1");
    let trusted: Vec<_> = vec!["istio-system/ztunnel".parse().unwrap()];
    let node_accounts = NodeAccounts::new(trusted, Vec::new());
    let ca = Ca::start_with(ProofConfig { pods: Some(cluster), node_accounts, ..api.proofs() }).await;
    let ask = async |uid: &str| {
        api.says(json!({"user": {"username": "system:serviceaccount:istio-system:ztunnel",
            "groups": ["system:serviceaccounts"],
            "extra": {"authentication.kubernetes.io/pod-name": ["ztunnel-1"],
                "authentication.kubernetes.io/pod-uid": [uid]}}}));
        let kind = Some(prost_types::value::Kind::StringValue(REVIEWS.to_owned()));
        let fields = [("ImpersonatedIdentity".to_owned(), prost_types::Value { kind })].into();
        let mut message = request();
        message.metadata = Some(prost_types::Struct { fields });
        ca.client().token(&api.token()).await.create(message).await
    };
    assert_eq!(identity(&ask("uid-ztunnel-1").await.unwrap()), REVIEWS);
    assert_eq!(ask("uid-old").await.unwrap_err().code(), Code::Unauthenticated);
}
