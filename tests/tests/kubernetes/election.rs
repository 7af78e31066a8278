//! The Lease of the leader.

use std::time::{Duration, Instant};

use eastwest_cluster::{
    Election,
    election::{LEASE, identity},
};
use eastwest_kubernetes::{Api, ApiOptions};
use eastwest_tests::process::until;
use serde_json::json;
use tokio::{runtime::Runtime, sync::watch};

use crate::{PATIENCE, cluster::Cluster, rights, server::Server};

/// An elector of a process of its own.
struct Elector {
    election: Option<Election>,
    leads: watch::Receiver<bool>,
    identity: String,
    runtime: Runtime,
}

impl Elector {
    fn start(kubeconfig: &std::path::Path, namespace: &str, name: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(1).build().unwrap();
        let options = ApiOptions { kubeconfig: Some(kubeconfig.to_owned()), context: None };
        let identity = identity(name);
        let (told, leads) = watch::channel(false);
        let election = runtime.block_on(async {
            let api = Api::find(&options).await.unwrap();
            Election::start(&api, namespace, identity.clone(), told)
        });
        Self { election: Some(election), leads, identity, runtime }
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// Waits until it leads; how long that took.
    fn wait(&self) -> Duration {
        let start = Instant::now();
        until("a leader", PATIENCE, || Ok(self.leads().then_some(()))).unwrap();
        start.elapsed()
    }
}

fn lease(cluster: &Cluster, namespace: &str) -> serde_json::Value {
    cluster.ask("GET", &format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}"), None)
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_leader_that_dies_is_followed_within_the_lease() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let first = Elector::start(cluster.kubeconfig(), &namespace, "one");
    assert!(first.wait() < Duration::from_secs(5));
    let second = Elector::start(cluster.kubeconfig(), &namespace, "two");
    let spec = lease(&cluster, &namespace)["spec"].clone();
    assert_eq!(
        (&spec["holderIdentity"], &spec["leaseDurationSeconds"]),
        (&json!(first.identity), &json!(15))
    );
    // It is renewed, and the other one stays back.
    until("a renewal", PATIENCE, || {
        Ok((lease(&cluster, &namespace)["spec"]["renewTime"] != spec["renewTime"]).then_some(()))
    })
    .unwrap();
    assert!(first.leads() && !second.leads());
    let leads = first.leads.clone();
    drop(first);
    assert!(!*leads.borrow(), "whoever asks is told");
    let taken = second.wait();
    // The lease has 15 s and is looked at every two; the rest is for a busy machine.
    assert!(taken <= Duration::from_secs(20), "{taken:?}");
    assert!(taken >= Duration::from_secs(8), "{taken:?}: its lease had not run out");
    let spec = lease(&cluster, &namespace)["spec"].clone();
    assert_eq!((&spec["holderIdentity"], &spec["leaseTransitions"]), (&json!(second.identity), &json!(1)));
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_leader_that_ends_in_good_order_is_followed_within_five_seconds() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let mut first = Elector::start(cluster.kubeconfig(), &namespace, "one");
    first.wait();
    let second = Elector::start(cluster.kubeconfig(), &namespace, "two");
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let election = first.election.take().unwrap();
            first.runtime.block_on(election.release());
        });
        let taken = second.wait();
        ended.join().unwrap();
        assert!(taken <= Duration::from_secs(5), "{taken:?}");
    });
    assert!(!first.leads());
    assert_eq!(lease(&cluster, &namespace)["spec"]["holderIdentity"], json!(second.identity));
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn without_the_right_to_leases_nobody_leads_until_it_is_given() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let rule = |verbs: &[&str]| json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": verbs});
    let (token, role) = rights::account(&cluster, &namespace, &json!([rule(&["get"])]));
    let elector = Elector::start(&cluster.kubeconfig_of(&token), &namespace, "one");
    let begin = Instant::now();
    until("some attempts", PATIENCE, || Ok((begin.elapsed() > Duration::from_secs(3)).then_some(())))
        .unwrap();
    assert!(!elector.leads());
    cluster.change(&role, |role| role["rules"] = json!([rule(&["get", "create", "update"])]));
    elector.wait();
}

/// A process that writes without an election says so if another one is elected.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn an_elected_leader_beside_a_process_without_election_is_told() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let mut elected = Server::start(&cluster, &["--namespace", &namespace]);
    let server = Server::start(&cluster, &["--namespace", &namespace, "--leader-elect=false"]);
    let metric = |value| {
        let line = format!("eastwest_other_leader {value}");
        let shown = || server.get("/metrics").1.lines().any(|one| one == line);
        until(&line, PATIENCE, || Ok(shown().then_some(()))).unwrap();
    };
    metric(1);
    let log = server.process.output();
    let warned = |line: &&str| line.contains("WARN") && line.contains("--leader-elect=false");
    let holder = lease(&cluster, &namespace)["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    let warned: Vec<_> = log.lines().filter(warned).collect();
    assert!(warned.len() == 1 && warned[0].contains(&holder), "{log}");
    elected.terminate();
    metric(0);
    assert_eq!(server.readyz().0, 200);
}
