//! What is there, what comes, changes and goes.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
};

use eastwest_kubernetes::{Key, NamedObject, State};
use eastwest_tests::{
    kubernetes::{Kubernetes, Mode, TcpRelay},
    process::until,
};
use serde_json::{Value, json};

use crate::{
    PATIENCE,
    cluster::Cluster,
    follower::{Follower, names, quick},
};

fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.into(), name: name.into() }
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn what_was_there_is_listed_and_what_happens_arrives() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    cluster.pod(&namespace, "before");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "reviews"},
        "spec": {"selector": {"app": "reviews"}, "ports": [{"name": "http", "port": 9080}]}});
    cluster.create(&format!("/api/v1/namespaces/{namespace}/services"), &service);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "reviews-1", "labels": {"kubernetes.io/service-name": "reviews"}},
        "endpoints": [{"addresses": ["10.0.0.7"]}], "ports": [{"name": "http", "port": 9080}]});
    cluster.create(&format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"), &slice);

    let follower = Follower::synced(cluster.kubeconfig(), quick());
    let object = |kind, name: &str| {
        follower.read(|world| world.objects.get(&name_of(kind, &namespace, name)).cloned())
    };
    assert_eq!(follower.names("Pod", &namespace), ["before".to_owned()].into());
    assert_eq!(follower.names("ServiceAccount", &namespace), ["default".to_owned()].into());
    let listed = object("Service", "reviews").unwrap();
    assert_eq!((&listed["kind"], &listed["apiVersion"]), (&json!("Service"), &json!("v1")));
    assert_eq!(listed["spec"]["ports"][0]["port"], 9080);
    assert_eq!(object("EndpointSlice", "reviews-1").unwrap()["endpoints"][0]["addresses"][0], "10.0.0.7");
    assert!(follower.read(|world| world.objects.contains_key(&name_of("Namespace", "", &namespace))));

    cluster.pod(&namespace, "after");
    follower.wait("a new pod", |world| names(world, "Pod", &namespace).len() == 2);
    let path = format!("/api/v1/namespaces/{namespace}/pods/after");
    cluster.change(&path, |pod| pod["metadata"]["labels"]["version"] = json!("v2"));
    let changed = name_of("Pod", &namespace, "after");
    follower.wait("a changed pod", |world| {
        world.objects.get(&changed).is_some_and(|pod| pod["metadata"]["labels"]["version"] == "v2")
    });
    // What nothing reads is not even decoded.
    let pod = object("Pod", "after").unwrap();
    assert!(
        pod["metadata"]["managedFields"].is_null() && pod["spec"]["containers"][0]["image"].is_null(),
        "{pod}"
    );
    cluster.delete(&path);
    follower
        .wait("the end of a pod", |world| names(world, "Pod", &namespace) == ["before".to_owned()].into());
    assert_eq!(follower.read(|world| world.deletions), 1);

    let pods = follower.status("Pod");
    assert_eq!((pods.version, pods.state, pods.live, pods.restarts), (Some("v1"), State::Watching, true, 0));
    assert!(pods.objects >= 1 && pods.age_seconds.is_some_and(|age| age < 30.0), "{pods:?}");
    assert!(pods.last_event.is_some() && pods.last_sync.is_some() && pods.last_error.is_none(), "{pods:?}");
}

pub(crate) fn name_of(kind: &'static str, namespace: &str, name: &str) -> crate::follower::Name {
    (kind, namespace.to_owned(), name.to_owned())
}

/// Watches end and begin again all the time; nothing is listed twice for it, and nothing is lost.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn changes_across_the_ends_of_watches_all_arrive_without_another_list() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let follower = Follower::synced(cluster.kubeconfig(), quick());
    let collection = format!("/api/v1/namespaces/{namespace}/pods");
    let before = follower.status("Pod").watches;
    let mut made = 0;
    until("three more watches", PATIENCE, || {
        cluster.pod(&namespace, &format!("pod-{made}"));
        if made % 2 == 1 {
            cluster.delete(&format!("{collection}/pod-{}", made - 1));
        }
        made += 1;
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok((follower.status("Pod").watches >= before + 3).then_some(()))
    })
    .unwrap();
    let expected = cluster.names(&collection);
    assert!(expected.len() > 10, "{expected:?}");
    follower.wait("all of them", |world| names(world, "Pod", &namespace) == expected);
    let pods = follower.status("Pod");
    assert_eq!((pods.lists, follower.read(|world| world.resyncs["Pod"])), (1, 1));
    assert!(pods.live && pods.last_error.is_none(), "{pods:?}");
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn config_maps_and_secrets_are_followed_by_name_alone() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"ca.crt": "YQ=="}});
    let secrets = format!("/api/v1/namespaces/{namespace}/secrets");
    cluster.create(&secrets, &secret("named"));
    cluster.create(&secrets, &secret("other"));
    let mut follower = Follower::synced(cluster.kubeconfig(), quick());
    assert!(follower.names("Secret", &namespace).is_empty());

    let (named, later) = (key(&namespace, "named"), key(&namespace, "later"));
    let both = [NamedObject::Secret(named), NamedObject::ConfigMap(later)];
    follower.follow_named(both.clone());
    follower.wait("the secret", |world| names(world, "Secret", &namespace) == ["named".to_owned()].into());
    follower.wait_until_live();
    let map = |text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"mesh": text}});
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    cluster.create(&maps, &map("a"));
    let name = name_of("ConfigMap", &namespace, "later");
    let says = |text: &'static str| {
        let name = name.clone();
        move |world: &crate::follower::World| {
            world.objects.get(&name).is_some_and(|map: &Value| map["data"]["mesh"] == text)
        }
    };
    follower.wait("the config map", says("a"));
    cluster.change(&format!("{maps}/later"), |map| map["data"]["mesh"] = json!("b"));
    follower.wait("its change", says("b"));
    cluster.delete(&format!("{maps}/later"));
    follower.wait("its end", |world| !world.objects.contains_key(&name));

    follower.follow_named(both.into_iter().skip(1));
    follower.wait("nobody names the secret", |world| names(world, "Secret", &namespace).is_empty());
    let report = follower.report();
    let rows: Vec<_> = report.sources.iter().filter_map(|source| source.object.as_deref()).collect();
    assert_eq!(rows, [format!("{namespace}/later")]);
}

/// A control plane that is started before its cluster.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn an_api_that_is_not_there_yet_is_waited_for() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let port: u16 = cluster.server().rsplit(':').next().unwrap().parse().unwrap();
    let relay = TcpRelay::start(port, Mode::Cut).unwrap();
    let text = fs::read_to_string(cluster.kubeconfig()).unwrap();
    let path = cluster.dir().join("relay.kubeconfig");
    fs::write(&path, text.replace(&format!(":{port}"), &format!(":{}", relay.port()))).unwrap();
    let follower = Follower::start(&path, quick());
    until("failures", PATIENCE, || Ok(follower.status("Pod").last_error)).unwrap();
    let report = follower.report();
    assert!(!report.synced && !report.live && report.definitions == "unknown", "{report:?}");
    assert_eq!(follower.status("Sidecar").state, State::Pending, "an error is not absence");
    assert_eq!(follower.read(|world| world.resyncs.len()), 0);
    let reasons = follower.unsynced();
    assert!(reasons.iter().any(|reason| reason.starts_with("pods is not listed yet: ")), "{reasons:?}");

    relay.set(Mode::Pass);
    follower.wait_until_live();
    assert!(follower.read(|world| world.objects.contains_key(&name_of("Namespace", "", &namespace))));
    assert!(follower.unsynced().is_empty());
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_task_that_panics_is_started_again_and_counted() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    cluster.pod(&namespace, "before");
    let panics = AtomicUsize::new(2);
    let follower = Follower::decoding(cluster.kubeconfig(), quick(), move |object| {
        let bomb = &*object.key.name == "bomb" && panics.load(Ordering::Relaxed) > 0;
        assert!(!bomb || panics.fetch_sub(1, Ordering::Relaxed) == 0, "as the test has it");
        object.value
    });
    follower.wait_until_live();
    cluster.pod(&namespace, "bomb");
    follower.wait("both pods", |world| names(world, "Pod", &namespace).len() == 2);
    follower.wait_until_live();
    let pods = follower.status("Pod");
    assert_eq!((pods.restarts, pods.objects), (2, cluster.names("/api/v1/pods").len()));
    assert!(pods.last_error.unwrap().message.contains("panicked"));
    assert_eq!(follower.status("Service").restarts, 0);
}

/// What a relay in front of our own API needs.
pub(crate) fn port(programs: &Kubernetes) -> u16 {
    programs.url().rsplit(':').next().unwrap().parse().unwrap()
}
