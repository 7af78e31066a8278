//! Tokens of CI jobs among replicas: each counts once.

use std::{fs, time::Duration};

use eastwest_ca::{PrivateKey, TokenKey, jwt::TokenRequest};
use eastwest_tests::process::until;
use nix::sys::signal::Signal;
use serde_json::json;
use time::OffsetDateTime;

use crate::{PATIENCE, cluster::Cluster, server::Server, serving::roots};

const ISSUER: &str = "https://forge.example";

/// A CI system: its key, and rules that trust it.
struct Forge(TokenKey);

impl Forge {
    fn start(cluster: &Cluster) -> Self {
        let key = TokenKey::new(&PrivateKey::generate().unwrap()).unwrap();
        fs::write(cluster.dir().join("forge.jwks"), key.jwks()).unwrap();
        let rules = json!({"rules": [{"name": "deploy", "issuer": ISSUER, "audience": "eastwest",
            "jwks": "forge.jwks", "match": {"sub": "system:serviceaccount:ci:deploy"},
            "namespace": "ci", "serviceAccount": "deploy", "maxTTL": "15m"}]});
        fs::write(cluster.dir().join("rules.yaml"), rules.to_string()).unwrap();
        Self(key)
    }

    /// A new token of the job.
    fn token(&self) -> String {
        let request = TokenRequest {
            issuer: ISSUER,
            namespace: "ci",
            service_account: "deploy",
            audience: "eastwest",
            lifetime: Duration::from_secs(300),
        };
        self.0.mint(request, OffsetDateTime::now_utc()).unwrap()
    }
}

fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

/// A token is spent once, whichever replica is asked; while that cannot be known, nobody gets a certificate for it.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_jobs_token_counts_once_among_replicas_and_not_at_all_while_the_api_is_away() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    let forge = Forge::start(&cluster);
    // Of a token that has run out long ago; and something else with that label.
    let lease = |name: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "labels": {"eastwest.dev/spent-token": "true"}},
            "spec": {"acquireTime": "2020-01-01T00:00:00.000000Z", "leaseDurationSeconds": 300}})
    };
    for name in ["eastwest-spent-old", "of-somebody-else"] {
        cluster.create(&leases(&namespace), &lease(name));
    }
    let rules = cluster.dir().join("rules.yaml").display().to_string();
    let flags = ["--namespace", &namespace, "--oidc-rules", &rules];
    let replicas = [(); 2].map(|()| Server::start(&cluster, &flags));
    let roots = roots(&cluster, &namespace);
    let ask = |server: &Server, token: &str| server.issue(token, "ci/deploy", &roots);

    let token = forge.token();
    let issued = ask(&replicas[0], &token).unwrap();
    assert!(issued.to_string().contains("spiffe://cluster.local/ns/ci/sa/deploy"), "{issued}");
    for replica in replicas.iter().rev() {
        ask(replica, &token).unwrap_err();
        assert!(replica.process.output().contains("used before"), "{}", replica.process.output());
    }
    let token = forge.token();
    let of_two_at_once = std::thread::scope(|scope| {
        let asked = [0, 1].map(|at| {
            let (token, replica) = (&token, &replicas[at]);
            let ask = &ask;
            scope.spawn(move || ask(replica, token).is_ok())
        });
        asked.map(|one| one.join().unwrap())
    });
    assert_eq!(of_two_at_once.iter().filter(|issued| **issued).count(), 1, "{of_two_at_once:?}");

    let names = || cluster.names(&leases(&namespace));
    until("the end of an old one", PATIENCE, || Ok((!names().contains("eastwest-spent-old")).then_some(())))
        .unwrap();
    assert!(names().contains("of-somebody-else"), "{:?}", names());
    assert_eq!(names().iter().filter(|name| name.starts_with("eastwest-spent-")).count(), 2, "{:?}", names());

    let token = forge.token();
    cluster.programs().apiserver().signal(Signal::SIGSTOP).unwrap();
    let refused = ask(&replicas[0], &token).unwrap_err().to_string();
    cluster.programs().apiserver().signal(Signal::SIGCONT).unwrap();
    assert!(refused.contains("cannot check the proof of identity"), "{refused}");
    until("a certificate again", PATIENCE, || Ok(ask(&replicas[0], &forge.token()).ok())).unwrap();
}
