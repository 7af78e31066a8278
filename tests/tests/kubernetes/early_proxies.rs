//! Proxies that come before their Pod is known, or whose Pod is made again.

use std::{thread, time::Duration};

use eastwest_proto::eastwest::v1::inbound::Mode;
use serde_json::json;

use crate::{
    cluster::Cluster,
    proxies::{Identity, Proxy, Variant, Versions},
    server::Server,
    serving::{pod_path, roots, token},
};

/// A namespace in which pods with the label `app: late` are STRICT, and a certificate of its account `default`.
struct Mesh<'a> {
    cluster: &'a Cluster,
    namespace: String,
    server: Server,
    identity: Identity,
}

impl<'a> Mesh<'a> {
    fn start(cluster: &'a Cluster) -> Self {
        cluster.define("PeerAuthentication", "peerauthentications", "security.istio.io", &["v1"]);
        let namespace = cluster.namespace();
        cluster.node("n1");
        let strict = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "late", "namespace": namespace},
            "spec": {"selector": {"matchLabels": {"app": "late"}}, "mtls": {"mode": "STRICT"}}});
        assert_eq!(cluster.apply(&[strict]).len(), 2, "the namespace and the policy");
        let server = Server::start(cluster, &["--namespace", &namespace]);
        let first = cluster.pod_on(&namespace, "first", "n1");
        let (token, account) = (token(cluster, &namespace, &first), format!("{namespace}/default"));
        let identity = server.identity(&token, &account, &roots(cluster, &namespace));
        Self { cluster, namespace, server, identity }
    }

    fn connect(&self, pod: &str) -> Proxy {
        let of = (&*self.namespace, pod);
        Proxy::connect(&self.server, &self.identity, of, Variant::Delta, Versions::new())
    }

    /// A pod with the label that the policy selects.
    fn pod(&self, name: &str, account: &str) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "late"}},
            "spec": {"nodeName": "n1", "serviceAccountName": account,
                "containers": [{"name": "app", "image": "app"}]}});
        self.cluster.create(&format!("/api/v1/namespaces/{}/pods", self.namespace), &pod);
    }
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_proxy_that_comes_before_its_pod_waits_a_moment_then_goes_by_its_certificate_and_is_corrected() {
    let cluster = Cluster::start();
    let mesh = Mesh::start(&cluster);
    // Half a second before its Pod: the first answer is that of the Pod.
    let proxy = mesh.connect("early");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(proxy.read(|held| held.responses.len()), 0, "it waits");
    mesh.pod("early", "default");
    proxy.wait("settings", |held| !held.modes.is_empty());
    assert_eq!(proxy.read(|held| held.modes.clone()), [Mode::Strict]);
    // No Pod: it is served by what its certificate says, and corrected on the same stream when the Pod comes.
    let proxy = mesh.connect("unknown");
    proxy.wait("settings", |held| !held.modes.is_empty());
    assert_eq!(proxy.read(|held| held.modes.clone()), [Mode::Permissive]);
    mesh.pod("unknown", "default");
    proxy.wait("the policy of its Pod", |held| held.modes.last() == Some(&Mode::Strict));
    assert!(proxy.read(|held| held.end.is_none()));
}

/// A Pod that is made again under its name: with its account the proxy goes on, with another one it has to prove itself
/// again, and cannot.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_pod_that_is_made_again_with_another_account_ends_the_stream() {
    let cluster = Cluster::start();
    let mesh = Mesh::start(&cluster);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other"}});
    cluster.create(&format!("/api/v1/namespaces/{}/serviceaccounts", mesh.namespace), &account);
    let (path, known) = (pod_path(&mesh.namespace, "again"), format!("{}/again", mesh.namespace));
    let is_known = |known_or_not: bool| {
        mesh.server.wait_for_page("/debug/workloads", "the pod", |page| {
            page.as_array().unwrap().contains(&json!(known)) == known_or_not
        });
    };
    mesh.pod("again", "default");
    let proxy = mesh.connect("again");
    proxy.wait("settings", |held| held.is_warm());
    cluster.delete(&path);
    is_known(false);
    proxy.wait("the end of the stream with its Pod", |held| held.end.is_some());
    mesh.pod("again", "default");
    is_known(true);
    let proxy = mesh.connect("again");
    proxy.wait("settings", |held| held.is_warm());
    assert!(proxy.read(|held| held.end.is_none()), "its Pod has the account that it proved");
    cluster.delete(&path);
    mesh.pod("again", "other");
    proxy.wait("the end of the stream", |held| held.end.is_some());
    let refused = mesh.connect("again");
    refused.wait("a refusal", |held| held.end.is_some());
    refused.read(|held| {
        let status = held.end.as_ref().unwrap().as_ref().unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status}");
        assert!(status.message().contains("\"other\""), "{status}");
        assert!(held.responses.is_empty());
    });
}
