//! Faults of the API and of the network before it, as they meet a whole control plane: afterwards it knows what a process
//! that starts then knows, and while they last, pods whose tokens it knows get certificates.

use std::{cell::Cell, thread, time::Duration};

use eastwest_tests::{
    kubernetes::{Mode, TcpRelay},
    process::until,
};
use serde_json::{Value, json};

use crate::{
    PATIENCE,
    cluster::Cluster,
    comparing::wait_until_like_new,
    http_relay::{Fault, HttpRelay},
    server::Server,
    serving::{roots, token},
};

/// More memory than this after the faults than before is a leak: KiB.
const SLACK: usize = 12 << 10;

/// A namespace of a control plane, with a pod whose token is known and others that come and go.
struct Home {
    namespace: String,
    token: String,
    roots: String,
    made: Cell<usize>,
}

impl Home {
    fn make(cluster: &Cluster) -> Self {
        cluster.define("PeerAuthentication", "peerauthentications", "security.istio.io", &["v1"]);
        let namespace = cluster.namespace();
        cluster.node("n1");
        let pod = cluster.pod_on(&namespace, "known", "n1");
        let token = token(cluster, &namespace, &pod);
        Self { namespace, token, roots: String::new(), made: Cell::default() }
    }

    /// A control plane behind a kubeconfig, which has issued a certificate for the token.
    fn serve(&mut self, cluster: &Cluster, kubeconfig: &str) -> Server {
        let server = Server::start_as(kubeconfig, &self.flags());
        self.roots = roots(cluster, &self.namespace);
        self.renew(&server);
        server
    }

    fn flags(&self) -> [&str; 2] {
        ["--namespace", &self.namespace]
    }

    /// The known pod gets a certificate.
    fn renew(&self, server: &Server) {
        server.issue(&self.token, &format!("{}/default", self.namespace), &self.roots).unwrap();
    }

    fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    /// A pod comes, the one before goes, and a policy changes; the name of the pod.
    fn turn(&self, cluster: &Cluster) -> String {
        let number = self.made.replace(self.made.get() + 1);
        let name = format!("pod-{number}");
        cluster.pod_on(&self.namespace, &name, "n1");
        // A history that went back does not have it.
        let before = format!("{}/pod-{}", self.pods(), number.wrapping_sub(1));
        let at_once = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        cluster.try_ask("DELETE", &before, Some(&at_once));
        let mode = ["STRICT", "PERMISSIVE"][number % 2];
        let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": self.namespace}, "spec": {"mtls": {"mode": mode}}});
        assert!(!cluster.apply(&[policy]).is_empty());
        name
    }

    fn has(&self, server: &Server, pod: &str) -> bool {
        let name = json!(format!("{}/{pod}", self.namespace));
        server.page("/debug/workloads").as_array().unwrap().contains(&name)
    }

    fn wait_for(&self, server: &Server, pod: &str) {
        let met = || Ok(self.has(server, pod).then_some(()));
        until(pod, Duration::from_secs(90), met)
            .unwrap_or_else(|error| panic!("{error}: {:#}", server.page("/debug/sources")));
    }

    /// The server is like new, and knows this pod.
    fn settle(&self, cluster: &Cluster, server: &Server, pod: &str) {
        self.wait_for(server, pod);
        assert!(wait_until_like_new(server, cluster, &self.flags()) >= 2);
        self.renew(server);
    }
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_server_is_like_new_after_the_api_died_forgot_or_went_back() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let mut home = Home::make(&cluster);
    let relay = TcpRelay::start(cluster.programs().port(), Mode::Pass).unwrap();
    let kubeconfig = kubeconfig_at(&cluster, relay.port());
    let server = home.serve(&cluster, &kubeconfig);
    home.wait_for(&server, &home.turn(&cluster));

    // Killed and started again.
    cluster.programs().kill_apiserver().unwrap();
    home.renew(&server);
    assert_eq!(server.readyz().0, 200);
    cluster.programs().restart_apiserver().unwrap();
    home.settle(&cluster, &server, &home.turn(&cluster));

    // Everything but the newest versions is forgotten, while the server cannot see it.
    relay.set(Mode::Cut);
    let last = (0..5).map(|_| home.turn(&cluster)).last().unwrap();
    cluster.programs().compact().unwrap();
    cluster.programs().restart_apiserver().unwrap();
    home.renew(&server);
    relay.set(Mode::Pass);
    home.settle(&cluster, &server, &last);

    // Later versions never were: what came meanwhile is gone, what went is back.
    let snapshot = cluster.dir().join("snapshot");
    cluster.programs().save(&snapshot).unwrap();
    let ghosts: Vec<_> = (0..5).map(|_| home.turn(&cluster)).collect();
    home.wait_for(&server, ghosts.last().unwrap());
    assert!(!home.has(&server, &last));
    cluster.programs().restore(&snapshot).unwrap();
    home.settle(&cluster, &server, &last);
    assert!(!home.has(&server, ghosts.last().unwrap()));
    // The new history is followed.
    home.settle(&cluster, &server, &home.turn(&cluster));
}

/// A kubeconfig of the administrator for a relay, with a name of its own.
fn kubeconfig_at(cluster: &Cluster, port: u16) -> String {
    let programs = cluster.programs.as_ref().unwrap();
    let (certificate, key) = programs.admin();
    let user: Value = json!({"client-certificate": certificate, "client-key": key});
    let url = format!("https://127.0.0.1:{port}");
    programs.kubeconfig_at(&url, "relay", &user).unwrap().display().to_string()
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn fifty_stalls_lose_nothing_and_leave_no_memory_behind() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let mut home = Home::make(&cluster);
    let relay = TcpRelay::start(cluster.programs().port(), Mode::Pass).unwrap();
    let server = home.serve(&cluster, &kubeconfig_at(&cluster, relay.port()));
    let stall = || {
        relay.set(Mode::Stall);
        let pod = home.turn(&cluster);
        home.renew(&server);
        relay.set(Mode::Cut);
        thread::sleep(Duration::from_millis(30));
        relay.set(Mode::Pass);
        home.wait_for(&server, &pod);
    };
    (0..5).for_each(|_| stall());
    let before = server.memory();
    (0..50).for_each(|_| stall());
    let after = server.memory();
    println!("{before} KiB before, {after} KiB after");
    assert!(after < before + SLACK, "{before} KiB before, {after} KiB after");
    assert!(wait_until_like_new(&server, &cluster, &home.flags()) >= 2);
}

/// The right to one kind is taken away while it is followed.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_kind_that_becomes_forbidden_stays_as_it_was_until_it_is_allowed_again() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let mut home = Home::make(&cluster);
    let relay = HttpRelay::start(cluster.programs.as_ref().unwrap());
    let kubeconfig = relay.kubeconfig(cluster.dir()).display().to_string();
    let server = home.serve(&cluster, &kubeconfig);
    let before = home.turn(&cluster);
    home.wait_for(&server, &before);
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
        "reason": "Forbidden", "message": "pods is forbidden"});
    relay.spoil(&["/api/v1/pods?"], usize::MAX / 2, Fault::Answer("403 Forbidden", status.to_string()));
    // Its watches end, and so do all others.
    cluster.programs().restart_apiserver().unwrap();
    let forbidden = |page: &Value| {
        let sources = page["sources"].as_array().unwrap();
        let state = |kind: &str| sources.iter().find(|one| one["kind"] == kind).unwrap();
        state("Pod")["state"] == "forbidden" && state("PeerAuthentication")["live"] == true
    };
    until("one forbidden kind", PATIENCE, || Ok(forbidden(&server.page("/debug/sources")).then_some(())))
        .unwrap();
    let later = home.turn(&cluster);
    let changed = |page: &Value| page["inbound"]["default"] == "PERMISSIVE";
    let tls = format!("/debug/tls?workload={}/known", home.namespace);
    server.wait_for_page(&tls, "a change of another kind", changed);
    assert!(home.has(&server, &before) && !home.has(&server, &later));
    assert_eq!(server.readyz().0, 200);
    home.renew(&server);
    relay.heal();
    home.settle(&cluster, &server, &later);
    assert!(!home.has(&server, &before));
}
