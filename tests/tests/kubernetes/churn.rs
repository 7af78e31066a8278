//! A hundred changes a second: what is known afterwards is what a process that starts then finds.

use std::{
    env,
    time::{Duration, Instant},
};

use eastwest_kubernetes::Api;
use eastwest_tests::process::until;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::interval};

use crate::{
    PATIENCE,
    cluster::Cluster,
    comparing::wait_until_equal,
    proxies::{Identity, Proxy, Variant, Versions},
    server::Server,
    serving::{roots, token},
};

/// Seconds of changes, where it may take long.
const SECONDS: &str = "EASTWEST_CHURN_SECONDS";
/// Changes of one tick, all of different objects.
const AT_ONCE: usize = 10;
const TICK: Duration = Duration::from_millis(100);
const NAMESPACES: usize = 4;
const PODS: usize = 24;

const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

fn namespace(number: usize) -> String {
    format!("churn-{}", number % NAMESPACES)
}

/// A change of the API: method, path, type of the body, body.
type Change = (&'static str, String, &'static str, Value);

/// The changes of a round, one for each kind and place in turn.
fn change(round: usize, place: usize) -> Change {
    let at = round * AT_ONCE + place;
    let home = namespace(round);
    let turn = round / NAMESPACES;
    let object = |version: &str, plural: &str, kind: &str, name: &str, spec: Value| {
        let path = format!("/apis/{version}/namespaces/{home}/{plural}/{name}");
        if turn % 3 == 2 {
            return ("DELETE", path, "application/json", Value::Null);
        }
        let body = json!({"apiVersion": version, "kind": kind,
            "metadata": {"name": name, "namespace": home}, "spec": spec});
        ("PATCH", format!("{path}?fieldManager=churn&force=true"), APPLY, body)
    };
    let host = format!("web.{home}.svc.cluster.local");
    match place {
        0 => {
            let mode = ["STRICT", "PERMISSIVE", "DISABLE"][turn % 3];
            let (version, plural) = ("security.istio.io/v1", "peerauthentications");
            object(version, plural, "PeerAuthentication", "default", json!({"mtls": {"mode": mode}}))
        }
        1 => {
            let subject = json!({"selector": {"matchLabels": {"version": "v1"}}, "mtls": {"mode": "STRICT"}});
            object("security.istio.io/v1", "peerauthentications", "PeerAuthentication", "some", subject)
        }
        2 => {
            let mode = ["ISTIO_MUTUAL", "DISABLE"][turn % 2];
            let spec = json!({"host": host, "trafficPolicy": {"tls": {"mode": mode}}});
            object("networking.istio.io/v1", "destinationrules", "DestinationRule", "web", spec)
        }
        3 => {
            let labels = json!({"metadata": {"labels": {"turn": turn.to_string()}}});
            ("PATCH", format!("/api/v1/namespaces/{home}"), MERGE, labels)
        }
        4 => {
            let version = ["v1", "v2"][turn % 2];
            let labels = json!({"metadata": {"labels": {"version": version}}});
            ("PATCH", format!("{}/web-{}", pods(&home), at % PODS), MERGE, labels)
        }
        _ => {
            let ready = !(turn + place).is_multiple_of(2);
            // Other pods than that of place 4.
            let pod = (at + 1) % PODS;
            let path = format!("{}/web-{pod}/status", pods(&home));
            ("PATCH", path, MERGE, json!({"status": status(pod, ready)}))
        }
    }
}

fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

fn status(pod: usize, ready: bool) -> Value {
    let ip = format!("10.4.{}.{}", pod / 200, pod % 200 + 1);
    let ready = if ready { "True" } else { "False" };
    json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": ready}]})
}

fn world() -> Vec<Value> {
    let mut objects = Vec::new();
    for number in 0..NAMESPACES {
        let home = namespace(number);
        objects.push(json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": home},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}));
        let pod = |pod| {
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("web-{pod}"), "namespace": home,
                    "labels": {"app": "web", "version": "v1", "security.istio.io/tlsMode": "istio"}},
                "spec": {"containers": [{"name": "app", "image": "app"}]},
                "status": status(pod + number * PODS, true)})
        };
        objects.extend((0..PODS).map(pod));
    }
    objects
}

async fn send(api: Api, (method, path, of, body): Change) {
    let request = http::Request::builder().method(method).uri(&path).header("content-type", of);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let response = api.client().send(request.body(body.into()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let absent = method == "DELETE" && status == 404;
    assert!(status < 300 || absent, "{method} {path}: {status} {}", String::from_utf8_lossy(&text));
}

/// Changes a hundred objects a second; how long it took.
fn churn(cluster: &Cluster, rounds: usize) -> Duration {
    let start = Instant::now();
    cluster.block_on(async {
        let mut ticks = interval(TICK);
        for round in 0..rounds {
            ticks.tick().await;
            let mut changes = JoinSet::new();
            for place in 0..AT_ONCE {
                changes.spawn(send(cluster.api().clone(), change(round, place)));
            }
            changes.join_all().await;
        }
    });
    start.elapsed()
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn after_a_hundred_changes_a_second_a_server_is_like_new_and_replicas_agree() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let seconds: usize = env::var(SECONDS).map_or(10, |text| text.parse().unwrap());
    cluster.define("PeerAuthentication", "peerauthentications", "security.istio.io", &["v1"]);
    cluster.define("DestinationRule", "destinationrules", "networking.istio.io", &["v1"]);
    cluster.programs().start_controllers().unwrap();
    cluster.apply(&world());
    let home = cluster.namespace();
    let flags = ["--namespace", &*home];
    let server = Server::start(&cluster, &flags);
    let identities: Vec<_> =
        (0..NAMESPACES).map(|one| identity(&cluster, &server, &namespace(one))).collect();
    let connect = |server: &Server, number: usize, variant, known| {
        Proxy::connect(server, &identities[number], (&namespace(number), "web-0"), variant, known)
    };
    let everywhere = |server: &Server| {
        let all = (0..NAMESPACES)
            .flat_map(|number| [Variant::Delta, Variant::StateOfTheWorld].map(|variant| (number, variant)));
        let all: Vec<_> = all
            .map(|(number, variant)| (variant, connect(server, number, variant, Versions::new())))
            .collect();
        for (variant, proxy) in &all {
            proxy.wait(&format!("everything, {variant:?}"), |held| held.is_warm());
        }
        all
    };
    let proxies = everywhere(&server);
    let took = churn(&cluster, seconds * 10);
    println!("{} changes in {took:?}", seconds * 100);

    let fresh = Server::start(&cluster, &flags);
    let workloads = wait_until_equal(&server, &fresh);
    assert!(workloads >= NAMESPACES * PODS, "{workloads} workloads");
    for ((variant, proxy), (_, new)) in proxies.iter().zip(&everywhere(&fresh)) {
        hold_the_same(*variant, proxy, new);
    }
    proxies_move(&proxies[..2], |variant, known| connect(&fresh, 0, variant, known));
}

/// A stream that lived through all changes has brought what a new one brings from a new process: nothing that a change
/// left out, and nothing that is gone.
fn hold_the_same(variant: Variant, proxy: &Proxy, new: &Proxy) {
    let new = new.read(|new| new.resources.clone());
    let differs = || {
        proxy.read(|held| {
            let mut wrong = Vec::new();
            for (url, theirs) in &new {
                let ours = &held.resources[url];
                let differing = theirs.iter().filter(|(name, bytes)| ours.get(*name) != Some(bytes));
                wrong.extend(differing.map(|(name, _)| format!("{url} {name} differs")));
                // In state of the world, clients forget endpoints and routes that nothing names any more.
                let told =
                    variant == Variant::Delta || url.ends_with(".Cluster") || url.ends_with(".Listener");
                let gone = ours.keys().filter(|name| told && !theirs.contains_key(*name));
                wrong.extend(gone.map(|name| format!("{url} {name} stays")));
            }
            wrong
        })
    };
    let held: usize = new.values().map(std::collections::BTreeMap::len).sum();
    assert!(new.len() == 5 && held > 10, "{held} resources");
    until("the same resources", PATIENCE, || Ok(differs().is_empty().then_some(())))
        .unwrap_or_else(|error| panic!("{error}: {variant:?} {:#?}", differs()));
}

/// A proxy that goes from one replica to the other is sent nothing: over delta no resource, in state of the world, whose
/// first response is always complete, the versions that it holds, which are hashes of the content.
fn proxies_move(proxies: &[(Variant, Proxy)], connect: impl Fn(Variant, Versions) -> Proxy) {
    for (variant, proxy) in proxies {
        let asked = |known: &Versions| {
            let moved = connect(*variant, known.clone());
            moved.wait("an answer to each subscription", |held| held.is_warm());
            moved
        };
        // What was sent last may still be on its way.
        let mut moved = asked(&proxy.read(|held| held.versions.clone()));
        let sent_nothing = |moved: &Proxy| {
            moved.read(|moved| match variant {
                Variant::Delta => moved.responses.values().flatten().all(|changed| *changed == 0),
                Variant::StateOfTheWorld => proxy.read(|before| before.versions == moved.versions),
            })
        };
        for _ in 0..10 {
            if sent_nothing(&moved) {
                break;
            }
            std::thread::sleep(TICK);
            moved = asked(&proxy.read(|held| held.versions.clone()));
        }
        let held: usize =
            proxy.read(|held| held.versions.values().map(std::collections::BTreeMap::len).sum());
        assert!(held >= 5, "{held} versions are held");
        assert!(sent_nothing(&moved), "{variant:?}: {:?}", moved.read(|held| held.responses.clone()));
    }
}

fn identity(cluster: &Cluster, server: &Server, namespace: &str) -> Identity {
    let pod = cluster.ask("GET", &format!("{}/web-0", pods(namespace)), None);
    let token = token(cluster, namespace, &pod);
    server.identity(&token, &format!("{namespace}/default"), &roots(cluster, namespace))
}
