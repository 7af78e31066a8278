//! Histories that end or go back.

use eastwest_tests::kubernetes::{Mode, TcpRelay};

use crate::{
    cluster::Cluster,
    follower::{Follower, names, quick},
    http_relay::HttpRelay,
};

/// etcd is compacted while the follower cannot see it, and the API's cache is empty afterwards.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_version_that_was_compacted_leads_to_a_fresh_list() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    cluster.pod(&namespace, "old");
    cluster.pod(&namespace, "lasting");
    let port = crate::watching::port(cluster.programs());
    let relay = TcpRelay::start(port, Mode::Pass).unwrap();
    let kubeconfig = format!("https://127.0.0.1:{}", relay.port());
    let kubeconfig = cluster.programs().admin_kubeconfig_at(&kubeconfig).unwrap();
    let follower = Follower::synced(&kubeconfig, quick());
    let relists = |follower: &Follower| follower.read(|world| world.resyncs["Pod"]);
    assert_eq!(relists(&follower), 1);
    relay.set(Mode::Cut);
    cluster.delete(&format!("{pods}/old"));
    for number in 0..20 {
        cluster.pod(&namespace, &format!("new-{number}"));
    }
    cluster.programs().compact().unwrap();
    cluster.programs().restart_apiserver().unwrap();
    relay.set(Mode::Pass);
    let expected = cluster.names(&pods);
    let fresh = follower.wait("what the API has", |world| names(world, "Pod", &namespace) == expected);
    follower.wait_until_live();
    println!("fresh {fresh:?} after the restart");
    assert_eq!(relists(&follower), 2);
    assert!(follower.status("Pod").last_error.is_some());
}

/// etcd is put back to an older snapshot, so that versions come again with other objects.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_history_that_went_back_leads_to_a_fresh_list() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    cluster.pod(&namespace, "early");
    let snapshot = cluster.dir().join("snapshot");
    cluster.programs().save(&snapshot).unwrap();
    cluster.pod(&namespace, "late");
    cluster.delete(&format!("{pods}/early"));
    for number in 0..30 {
        cluster.pod(&namespace, &format!("later-{number}"));
    }
    let relay = HttpRelay::start(cluster.programs.as_ref().unwrap());
    let follower = Follower::synced(&relay.kubeconfig(cluster.dir()), quick());
    assert!(follower.names("Pod", &namespace).contains("late"));

    cluster.programs().restore(&snapshot).unwrap();
    let expected = cluster.names(&pods);
    assert_eq!(expected, ["early".to_owned()].into());
    let fresh = follower.wait("what the API has", |world| names(world, "Pod", &namespace) == expected);
    println!("fresh {fresh:?} after the restoration");
    follower.wait_until_live();
    // What happens in the new history arrives, although its versions are lower than those seen before.
    cluster.pod(&namespace, "anew");
    follower.wait("a new pod", |world| names(world, "Pod", &namespace).len() == 2);
}
