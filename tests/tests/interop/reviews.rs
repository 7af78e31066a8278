//! Tokens that the API reviews (TokenReview).

use std::time::{Duration, Instant};

use eastwest_tests::process::until;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    cluster::{Cluster, MESH},
    control_plane::ControlPlane,
};

/// The API remembers a token for ten seconds, and so do we; some seconds more for a slow machine.
const FORGOTTEN: Duration = Duration::from_secs(25);

const REVIEWS: (&str, &str) = ("shop", "reviews");
const RATINGS: (&str, &str) = ("shop", "ratings");

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn tokens_are_good_as_long_as_the_api_says_so() {
    let cluster = Cluster::start();
    [REVIEWS, RATINGS].into_iter().for_each(|account| cluster.account(account));
    let pod = cluster.pod(REVIEWS, "reviews-0");
    let token = |account, audience, pod| cluster.api.token(account, audience, pod).unwrap();
    let (bound, unbound) = (token(REVIEWS, MESH, Some(&pod)), token(RATINGS, MESH, None));
    let server = ControlPlane::start(
        cluster.dir(),
        &["ca", "serve", "--token-review", "--kubeconfig", &cluster.kubeconfig()],
    );

    server.refuses(&bound, "shop/reviews", "(403): bind the ClusterRole system:auth-delegator");
    cluster.let_us_review();
    let issued = server.issues(&bound, "shop/reviews");
    assert_eq!(issued["identity"], "spiffe://cluster.local/ns/shop/sa/reviews");
    assert_eq!(
        server.issues(&unbound, "shop/ratings")["identity"],
        "spiffe://cluster.local/ns/shop/sa/ratings"
    );
    let record =
        server.ledger("shop/reviews").into_iter().find(|record| record["event"] == "issued").unwrap();
    assert_eq!((&record["pod"], &record["node"]), (&json!("reviews-0"), &json!("n1")), "{record}");

    for audience in [Some("vault"), None] {
        let token = token(REVIEWS, audience, Some(&pod));
        server.refuses(&token, "shop/reviews", "does not authenticate the token");
    }

    let deleted = Instant::now();
    cluster.api.delete("/api/v1/namespaces/shop/pods/reviews-0").unwrap();
    cluster.api.delete("/api/v1/namespaces/shop/serviceaccounts/ratings").unwrap();
    for (token, account) in [(&bound, "shop/reviews"), (&unbound, "shop/ratings")] {
        let refused = || Ok(server.issue(token, account).err());
        until("the end of the token", FORGOTTEN, refused).unwrap();
        println!("{account}: refused {:.1?} after its pod or account was deleted", deleted.elapsed());
    }
    // Another pod of that name is another pod, and another account of that name another account.
    cluster.account(RATINGS);
    let pod = cluster.pod(REVIEWS, "reviews-0");
    server.refuses(&bound, "shop/reviews", "does not authenticate the token");
    server.refuses(&unbound, "shop/ratings", "does not authenticate the token");
    server.issues(&token(REVIEWS, MESH, Some(&pod)), "shop/reviews");
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn an_api_that_does_not_know_us_is_named_in_the_log() {
    let cluster = Cluster::start();
    cluster.account(REVIEWS);
    let kubeconfig = cluster.api.kubeconfig("stranger", &json!({"token": "a.b.c"})).unwrap();
    let kubeconfig = kubeconfig.display().to_string();
    let server =
        ControlPlane::start(cluster.dir(), &["ca", "serve", "--token-review", "--kubeconfig", &kubeconfig]);
    let token = cluster.api.token(REVIEWS, MESH, None).unwrap();
    server.refuses(&token, "shop/reviews", "the Kubernetes API does not accept our credentials (401)");
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_client_certificate_does_as_well_as_a_token_at_the_api() {
    let cluster = Cluster::start();
    cluster.account(REVIEWS);
    let kubeconfig = cluster.api.admin_kubeconfig().unwrap().display().to_string();
    let server =
        ControlPlane::start(cluster.dir(), &["ca", "serve", "--token-review", "--kubeconfig", &kubeconfig]);
    server.issues(&cluster.api.token(REVIEWS, MESH, None).unwrap(), "shop/reviews");
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn while_an_api_hangs_no_caller_is_authenticated() {
    let cluster = Cluster::start();
    cluster.let_us_review();
    cluster.account(REVIEWS);
    let server = ControlPlane::start(
        cluster.dir(),
        &["ca", "serve", "--token-review", "--kubeconfig", &cluster.kubeconfig()],
    );
    let token = cluster.api.token(REVIEWS, MESH, None).unwrap();
    cluster.api.apiserver().signal(Signal::SIGSTOP).unwrap();
    server.refuses(&token, "shop/reviews", "no answer within 5s");
    cluster.api.apiserver().signal(Signal::SIGCONT).unwrap();
    server.issues(&token, "shop/reviews");
}
