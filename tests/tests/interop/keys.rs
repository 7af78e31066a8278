//! Tokens that are verified with the keys of the API.

use std::fs;

use eastwest_tests::process::until;
use serde_json::json;

use crate::{
    PATIENCE,
    cluster::{Cluster, MESH},
    control_plane::ControlPlane,
};

const REVIEWS: (&str, &str) = ("shop", "reviews");

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn keys_come_from_the_api_by_its_address_or_by_discovery() {
    let cluster = Cluster::start();
    cluster.account(REVIEWS);
    let pod = cluster.pod(REVIEWS, "reviews-0");
    let bound = cluster.api.token(REVIEWS, MESH, Some(&pod)).unwrap();
    let other = cluster.api.token(REVIEWS, Some("vault"), Some(&pod)).unwrap();
    let (issuer, roots) = (cluster.api.url(), cluster.api.ca().display().to_string());
    let (jwks, kubeconfig) = (format!("{issuer}/openid/v1/jwks"), cluster.kubeconfig());
    let anybody =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"});

    let ours = ["--token-jwks", "kubernetes", "--kubeconfig", &kubeconfig];
    let address = ["--token-jwks", &jwks, "--token-jwks-ca", &roots];
    let discovery = ["--token-jwks-ca", &roots];
    let start = |flags: &[&str]| {
        ControlPlane::start(cluster.dir(), &[&["ca", "serve", "--token-issuer", &issuer], flags].concat())
    };
    // A service account may read the keys of any cluster; unauthenticated clients may not.
    let server = start(&ours);
    server.issues(&bound, "shop/reviews");
    server.refuses(&other, "shop/reviews", "not for us");
    drop(server);
    let server = start(&address);
    server.refuses(&bound, "shop/reviews", "not known yet");
    assert!(server.output().contains("answered 403"), "{}", server.output());
    drop(server);

    cluster.bind("system:service-account-issuer-discovery", &anybody);
    for flags in [&address[..], &discovery] {
        let server = start(flags);
        server.issues(&bound, "shop/reviews");
        server.refuses(&other, "shop/reviews", "not for us");
    }
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_token_dies_with_the_pod_that_the_manifests_have_from_the_api() {
    let cluster = Cluster::start();
    cluster.account(REVIEWS);
    let pod = cluster.pod(REVIEWS, "reviews-0");
    let bound = cluster.api.token(REVIEWS, MESH, Some(&pod)).unwrap();
    let manifests = cluster.dir().join("manifests");
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("pod.json"), pod.to_string()).unwrap();
    let (issuer, kubeconfig) = (cluster.api.url(), cluster.kubeconfig());
    let mut words = vec!["serve", "--config-dir", "manifests", "--token-issuer", &issuer];
    words.extend(["--token-jwks", "kubernetes", "--kubeconfig", &kubeconfig]);
    let server = ControlPlane::start(cluster.dir(), &words);

    server.issues(&bound, "shop/reviews");
    // The same pod again, as a StatefulSet would make it.
    cluster.api.delete("/api/v1/namespaces/shop/pods/reviews-0").unwrap();
    let again = cluster.pod(REVIEWS, "reviews-0");
    fs::write(manifests.join("pod.json"), again.to_string()).unwrap();
    let refused = || Ok(server.issue(&bound, "shop/reviews").err());
    until("the end of the token", PATIENCE, refused).unwrap();
    server.refuses(&bound, "shop/reviews", again["metadata"]["uid"].as_str().unwrap());
    server.issues(&cluster.api.token(REVIEWS, MESH, Some(&again)).unwrap(), "shop/reviews");
}
