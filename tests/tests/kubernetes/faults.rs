//! Faults of the network and of the API's answers. After each: nothing lost, nothing that is gone stays, and in the
//! meantime it was known to be stale.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use eastwest_kubernetes::Timing;
use eastwest_tests::{
    kubernetes::{Mode, TcpRelay},
    process::until,
};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    PATIENCE,
    cluster::Cluster,
    follower::{Follower, names, quick},
    http_relay::{Fault, HttpRelay},
};

/// A namespace with pods that change while the follower cannot see it.
struct Change<'a> {
    cluster: &'a Cluster,
    namespace: String,
    made: std::cell::Cell<usize>,
}

impl<'a> Change<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let change = Self { cluster, namespace: cluster.namespace(), made: std::cell::Cell::new(0) };
        for _ in 0..3 {
            change.add();
        }
        change
    }

    fn add(&self) {
        let number = self.made.replace(self.made.get() + 1);
        self.cluster.pod(&self.namespace, &format!("pod-{number}"));
    }

    /// The oldest pod goes, a new one comes.
    fn turn(&self) {
        self.add();
        let oldest = self.now().into_iter().next().unwrap();
        self.cluster.delete(&format!("{}/{oldest}", self.collection()));
    }

    fn collection(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    fn now(&self) -> BTreeSet<String> {
        self.cluster.names(&self.collection())
    }

    fn arrives(&self, follower: &Follower) -> Duration {
        let expected = self.now();
        follower.wait("what the API has", |world| names(world, "Pod", &self.namespace) == expected)
    }
}

fn wait_until_stale(follower: &Follower, within: Duration) -> Duration {
    let start = Instant::now();
    until("staleness of everything", within, || {
        let report = follower.report();
        Ok(report.sources.iter().all(|source| !source.live).then_some(()))
    })
    .unwrap();
    start.elapsed()
}

fn stalls(timing: &Timing, rounds: usize) {
    let Some(cluster) = Cluster::start_own() else { return };
    let programs = cluster.programs.as_ref().unwrap();
    let relay = TcpRelay::start(crate::watching::port(programs), Mode::Pass).unwrap();
    let change = Change::new(&cluster);
    let kubeconfig = programs.admin_kubeconfig_at(&format!("https://127.0.0.1:{}", relay.port())).unwrap();
    let follower = Follower::synced(&kubeconfig, timing.clone());
    for _ in 0..rounds {
        change.arrives(&follower);
        relay.set(Mode::Stall);
        change.turn();
        let before = follower.names("Pod", &change.namespace);
        let bound = timing.watch + timing.grace + timing.answer;
        let stale = wait_until_stale(&follower, bound);
        println!("a stall was noticed after {stale:?}");
        assert_eq!(follower.names("Pod", &change.namespace), before, "nothing is wiped");
        relay.set(Mode::Pass);
        let fresh = change.arrives(&follower);
        follower.wait_until_live();
        println!("fresh {fresh:?} after the end of the stall");
    }
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_connection_that_stalls_is_noticed_and_replaced() {
    stalls(&quick(), 3);
}

/// With the deadlines of a control plane: known to be stale within a minute.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_connection_that_stalls_is_noticed_within_a_minute() {
    let timing = Timing::default();
    assert!(timing.watch + timing.grace + timing.answer <= Duration::from_secs(65));
    stalls(&timing, 1);
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn connections_that_are_cut_or_slow_lose_nothing() {
    let Some(cluster) = Cluster::start_own() else { return };
    let programs = cluster.programs.as_ref().unwrap();
    let relay = TcpRelay::start(crate::watching::port(programs), Mode::Pass).unwrap();
    let change = Change::new(&cluster);
    let kubeconfig = programs.admin_kubeconfig_at(&format!("https://127.0.0.1:{}", relay.port())).unwrap();
    let follower = Follower::synced(&kubeconfig, quick());
    for round in 0..5 {
        relay.set(Mode::Cut);
        change.turn();
        let stale = wait_until_stale(&follower, Duration::from_secs(2));
        relay.set(if round % 2 == 0 { Mode::Pass } else { Mode::Delay(Duration::from_millis(100)) });
        let fresh = change.arrives(&follower);
        println!("a cut was noticed after {stale:?}, fresh {fresh:?} after its end");
        follower.wait_until_live();
    }
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn an_api_server_that_stands_still_is_noticed_and_waited_for() {
    let Some(cluster) = Cluster::start_own() else { return };
    let change = Change::new(&cluster);
    let follower = Follower::synced(cluster.kubeconfig(), quick());
    change.arrives(&follower);
    let apiserver = cluster.programs.as_ref().unwrap().apiserver();
    apiserver.signal(Signal::SIGSTOP).unwrap();
    wait_until_stale(&follower, Duration::from_secs(10));
    assert_eq!(follower.names("Pod", &change.namespace).len(), 3, "nothing is wiped");
    thread::sleep(Duration::from_secs(3));
    apiserver.signal(Signal::SIGCONT).unwrap();
    change.turn();
    change.arrives(&follower);
    follower.wait_until_live();
}

/// A follower behind a relay that speaks HTTP.
fn behind_relay(cluster: &Cluster) -> (HttpRelay, Follower) {
    let relay = HttpRelay::start(cluster.programs.as_ref().unwrap());
    let follower = Follower::synced(&relay.kubeconfig(cluster.dir()), quick());
    (relay, follower)
}

fn refusal(code: u16, reason: &str, message: &str) -> String {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": message})
    .to_string()
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn refusals_of_all_sorts_are_got_over() {
    let Some(cluster) = Cluster::start_own() else { return };
    let change = Change::new(&cluster);
    let (relay, follower) = behind_relay(&cluster);
    let pods = ["/api/v1/pods?"];
    let in_stream = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired",
        "message": "too old resource version"}});
    for (name, status, body, relists) in [
        ("429", "429 Too Many Requests", refusal(429, "TooManyRequests", "slow down"), false),
        ("500", "500 Internal Server Error", refusal(500, "InternalError", "etcd is away"), false),
        ("502", "502 Bad Gateway", "<html>".to_owned(), false),
        ("403", "403 Forbidden", refusal(403, "Forbidden", "no"), false),
        ("410 as a status", "410 Gone", refusal(410, "Expired", "too old resource version"), true),
        ("504", "504 Gateway Timeout", refusal(504, "Timeout", "Too large resource version: 9"), true),
        ("410 in a stream", "200 OK", format!("{in_stream}\n"), true),
        ("no JSON", "200 OK", "{\"type\":\"ADD\n".to_owned(), false),
    ] {
        let lists = follower.status("Pod").lists;
        relay.spoil(&[pods[0], "watch=1"], 2, Fault::Answer(status, body));
        until(name, PATIENCE, || {
            change.turn();
            thread::sleep(Duration::from_millis(100));
            Ok((relay.left() == 0).then_some(()))
        })
        .unwrap();
        let fresh = change.arrives(&follower);
        follower.wait_until_live();
        let after = follower.status("Pod");
        assert_eq!(after.lists > lists, relists, "{name}: {after:?}");
        println!("{name}: fresh {fresh:?} after its end");
    }
    assert_eq!(follower.status("Pod").restarts, 0);
    assert_eq!(follower.read(|world| world.resyncs["Service"]), 1, "others did not notice");
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn lists_that_break_off_neither_forget_nor_keep() {
    let Some(cluster) = Cluster::start_own() else { return };
    let change = Change::new(&cluster);
    for _ in 0..20 {
        change.add();
    }
    let (relay, follower) = behind_relay(&cluster);
    change.arrives(&follower);
    let before = follower.names("Pod", &change.namespace);
    let gone = Fault::Answer("410 Gone", refusal(410, "Expired", "too old resource version"));
    // The watch expires; then a streaming list and a page break off, each with a deletion before the next.
    relay.spoil(&["/api/v1/pods?", "sendInitialEvents"], 1, Fault::Truncate(3000));
    relay.spoil(&["/api/v1/pods?limit"], 1, Fault::Truncate(6000));
    relay.spoil(&["/api/v1/pods?limit"], 1, Fault::Answer("200 OK", "{\"metadata\":{}}".to_owned()));
    relay.spoil(&["/api/v1/pods?", "watch=1"], 1, gone);
    let mut left = relay.left();
    until("all faults", PATIENCE, || {
        if relay.left() < left {
            left = relay.left();
            change.turn();
        }
        if left > 0 {
            assert_eq!(follower.names("Pod", &change.namespace), before, "a broken list changes nothing");
        }
        Ok((left == 0).then_some(()))
    })
    .unwrap();
    change.arrives(&follower);
    assert_ne!(follower.names("Pod", &change.namespace), before);
    follower.wait_until_live();
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn an_api_that_never_ends_a_streaming_list_is_listed_by_pages() {
    let Some(cluster) = Cluster::start_own() else { return };
    let change = Change::new(&cluster);
    let relay = HttpRelay::start(cluster.programs.as_ref().unwrap());
    let endless = Fault::Replace("k8s.io/initial-events-end", "k8s.io/initial-events-xxx");
    relay.spoil(&["/api/v1/pods?", "sendInitialEvents"], 9, endless);
    let unknown = refusal(422, "Invalid", "sendInitialEvents is forbidden for watch unless the gate is on");
    relay.spoil(
        &["/api/v1/services?", "sendInitialEvents"],
        9,
        Fault::Answer("422 Unprocessable Entity", unknown),
    );
    relay.spoil(&["/api/v1/nodes?", "sendInitialEvents"], 9, Fault::Silence);
    let follower = Follower::synced(&relay.kubeconfig(cluster.dir()), quick());
    change.arrives(&follower);
    assert!(relay.asked(&["/api/v1/pods?limit"]) >= 1);
    assert_eq!(relay.asked(&["/api/v1/services?", "sendInitialEvents"]), 1, "it was told once");
    assert!(relay.asked(&["/api/v1/nodes?limit"]) >= 1);
    relay.heal();
    change.turn();
    change.arrives(&follower);
}
