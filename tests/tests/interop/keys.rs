//! Tokens that are judged by the keys of the API.

use std::fs;

use eastwest_tests::process::until;
use serde_json::json;

use crate::{
    PATIENCE,
    authority::Authority,
    cluster::{Cluster, MESH},
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
        Authority::start(cluster.dir(), &[&["ca", "serve", "--token-issuer", &issuer], flags].concat())
    };
    // A service account may read the keys of any cluster; strangers may not.
    let authority = start(&ours);
    authority.issues(&bound, "shop/reviews");
    authority.refuses(&other, "shop/reviews", "not for us");
    drop(authority);
    let authority = start(&address);
    authority.refuses(&bound, "shop/reviews", "not known yet");
    assert!(authority.output().contains("answered 403"), "{}", authority.output());
    drop(authority);

    cluster.bind("system:service-account-issuer-discovery", &anybody);
    for flags in [&address[..], &discovery] {
        let authority = start(flags);
        authority.issues(&bound, "shop/reviews");
        authority.refuses(&other, "shop/reviews", "not for us");
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
    let authority = Authority::start(cluster.dir(), &words);

    authority.issues(&bound, "shop/reviews");
    // The same pod again, as a StatefulSet would make it.
    cluster.api.delete("/api/v1/namespaces/shop/pods/reviews-0").unwrap();
    let again = cluster.pod(REVIEWS, "reviews-0");
    fs::write(manifests.join("pod.json"), again.to_string()).unwrap();
    let refused = || Ok(authority.issue(&bound, "shop/reviews").err());
    until("the end of the token", PATIENCE, refused).unwrap();
    authority.refuses(&bound, "shop/reviews", again["metadata"]["uid"].as_str().unwrap());
    authority.issues(&cluster.api.token(REVIEWS, MESH, Some(&again)).unwrap(), "shop/reviews");
}
