//! The roots in every namespace, and as ClusterTrustBundle.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use eastwest_cluster::{Published, publish_roots};
use eastwest_kubernetes::{Api, ApiOptions, Source};
use eastwest_tests::process::until;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::watch};

use crate::{PATIENCE, cluster::Cluster, follower::quick, rights::account};

const NAME: &str = "istio-ca-root-cert";
const BUNDLES: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles";
const BUNDLE: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles/eastwest.dev:workload:root";
/// How soon a change must be answered.
const SOON: Duration = Duration::from_secs(2);
/// Long enough for a write that should not happen.
const QUIET: Duration = Duration::from_secs(4);

/// Something that publishes roots.
struct Publisher {
    _runtime: Runtime,
    _source: Source<()>,
    leads: watch::Sender<bool>,
    roots: watch::Sender<String>,
    published: Published,
}

impl Publisher {
    fn start(kubeconfig: &Path, leads: bool, roots: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
        let options = ApiOptions { kubeconfig: Some(kubeconfig.to_owned()), context: None };
        let (leads, led) = watch::channel(leads);
        let (roots, trusted) = watch::channel(roots.to_owned());
        let (source, published) = runtime.block_on(async {
            let api = Api::find(&options).await.unwrap();
            let (mut source, mut updates) = Source::start(&api, quick(), |_, _| ());
            tokio::spawn(async move { while updates.recv().await.is_some() {} });
            let (published, work) = publish_roots(&api, &mut source, led, trusted);
            tokio::spawn(work);
            (source, published)
        });
        Self { _runtime: runtime, _source: source, leads, roots, published }
    }

    fn wait_until_complete(&self) {
        let complete = || Ok(self.published.now().complete.then_some(()));
        if let Err(error) = until("published roots", PATIENCE, complete) {
            panic!("{error}: {:?}", self.published.now());
        }
    }
}

/// A root, PEM.
fn root(name: &str) -> String {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

fn map_of(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{NAME}")
}

/// The ConfigMaps by namespace.
fn maps(cluster: &Cluster) -> BTreeMap<String, Value> {
    let list = cluster.ask("GET", &format!("/api/v1/configmaps?fieldSelector=metadata.name%3D{NAME}"), None);
    let items = list["items"].as_array().unwrap().iter();
    items.map(|map| (map["metadata"]["namespace"].as_str().unwrap().to_owned(), map.clone())).collect()
}

/// Waits until the ConfigMap of a namespace is right. How long it took.
fn wait_for(cluster: &Cluster, namespace: &str, roots: &str) -> Duration {
    let start = Instant::now();
    until("the roots in a namespace", PATIENCE, || {
        let (_, map) = cluster.try_ask("GET", &map_of(namespace), None);
        let right =
            map["data"]["root-cert.pem"] == roots && map["metadata"]["labels"]["istio.io/config"] == "true";
        Ok(right.then_some(()))
    })
    .unwrap();
    start.elapsed()
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn roots_reach_new_namespaces_within_two_seconds_and_are_put_back() {
    let Some(cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    let roots = root("one");
    let publisher = Publisher::start(cluster.kubeconfig(), true, &roots);
    publisher.wait_until_complete();
    let published = publisher.published.now();
    assert!(published.problems.is_empty() && published.missing == 0, "{published:?}");
    let all = maps(&cluster);
    let namespaces = cluster.names("/api/v1/namespaces");
    assert_eq!(all.keys().cloned().collect::<BTreeSet<_>>(), namespaces, "kube-system as well");
    assert_eq!(published.namespaces, namespaces.len());
    assert!(all.values().all(|map| map["data"]["root-cert.pem"] == *roots));

    let new = cluster.namespace();
    let took = wait_for(&cluster, &new, &roots);
    assert!(took < SOON, "{took:?}");
    let map = cluster.ask("GET", &map_of(&new), None);
    let managers = map["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|one| one["manager"] == "eastwest" && one["operation"] == "Apply"), "{map}");

    cluster.change(&map_of(&namespace), |map| {
        map["data"] = json!({"root-cert.pem": "another", "theirs": "stays"});
    });
    let took = wait_for(&cluster, &namespace, &roots);
    assert!(took < SOON, "changed: {took:?}");
    assert_eq!(cluster.ask("GET", &map_of(&namespace), None)["data"]["theirs"], "stays");
    cluster.delete(&map_of(&namespace));
    let took = wait_for(&cluster, &namespace, &roots);
    assert!(took < SOON, "deleted: {took:?}");
    cluster.change(&map_of(&new), |map| map["metadata"]["labels"]["istio.io/config"] = json!("false"));
    let took = wait_for(&cluster, &new, &roots);
    assert!(took < SOON, "without its label: {took:?}");
    publisher.wait_until_complete();
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn other_roots_are_written_everywhere_and_as_trust_bundle() {
    let Some(cluster) = Cluster::start_own() else { return };
    for _ in 0..30 {
        cluster.namespace();
    }
    let one = root("one");
    let publisher = Publisher::start(cluster.kubeconfig(), true, &one);
    publisher.wait_until_complete();
    let bundle = |roots: &str| {
        until("the trust bundle", PATIENCE, || {
            let (_, bundle) = cluster.try_ask("GET", BUNDLE, None);
            Ok((bundle["spec"]["trustBundle"] == roots).then_some(bundle))
        })
        .unwrap()
    };
    assert_eq!(bundle(&one)["spec"]["signerName"], "eastwest.dev/workload");
    let both = one + &root("two");
    publisher.roots.send_replace(both.clone());
    until("other roots everywhere", PATIENCE, || {
        Ok(maps(&cluster).values().all(|map| map["data"]["root-cert.pem"] == *both).then_some(()))
    })
    .unwrap();
    bundle(&both);
    publisher.wait_until_complete();
    assert!(publisher.published.now().problems.is_empty(), "{:?}", publisher.published.now());
    // What the API does not take is told, and does not keep the ConfigMaps back.
    publisher.roots.send_replace("no certificates".to_owned());
    let problem = until("a problem", PATIENCE, || {
        let problems = publisher.published.now().problems;
        Ok(problems.into_iter().find(|one| one.contains("ClusterTrustBundle eastwest.dev:workload:root")))
    });
    problem.unwrap();
    publisher.wait_until_complete();
    assert!(publisher.published.is_ready());
    cluster.delete(BUNDLE);
    publisher.roots.send_replace(both.clone());
    bundle(&both);
    assert_eq!(cluster.names(BUNDLES).len(), 1);
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn roots_are_not_written_in_a_steady_state_nor_without_the_lead() {
    let Some(cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    let roots = root("one");
    let publisher = Publisher::start(cluster.kubeconfig(), false, &roots);
    std::thread::sleep(QUIET);
    assert!(maps(&cluster).is_empty() && cluster.names(BUNDLES).is_empty(), "it does not lead");
    assert!(publisher.published.is_ready(), "{:?}", publisher.published.now());
    publisher.leads.send_replace(true);
    publisher.wait_until_complete();
    until("the trust bundle", PATIENCE, || Ok((!cluster.names(BUNDLES).is_empty()).then_some(()))).unwrap();

    let versions = || {
        let versions = maps(&cluster).into_iter();
        let versions = versions.map(|(name, map)| (name, map["metadata"]["resourceVersion"].clone()));
        (versions.collect::<BTreeMap<_, _>>(), cluster.ask("GET", BUNDLE, None)["metadata"].clone())
    };
    let before = versions();
    std::thread::sleep(QUIET);
    assert_eq!(versions(), before, "nothing is written");

    publisher.leads.send_replace(false);
    until("the end of the lead", PATIENCE, || Ok((!publisher.published.now().leads).then_some(()))).unwrap();
    cluster.delete(&map_of(&namespace));
    let new = cluster.namespace();
    std::thread::sleep(QUIET);
    let now = maps(&cluster);
    assert!(!now.contains_key(&namespace) && !now.contains_key(&new), "it does not lead any more");
    publisher.leads.send_replace(true);
    for one in [&namespace, &new] {
        wait_for(&cluster, one, &roots);
    }
}

/// The rights that docs/KUBERNETES.md names are enough, and without them a problem names what is missing.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn roots_need_few_rights_and_missing_ones_are_named() {
    let Some(cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    let rule = |groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]| {
        let mut rule = json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = json!(names);
        }
        rule
    };
    let read = ["get", "list", "watch"];
    let rules = json!([
        rule(&[""], &["namespaces"], &[], &read),
        rule(&[""], &["configmaps"], &[NAME], &read),
        rule(&["certificates.k8s.io"], &["clustertrustbundles"], &[], &["get", "create", "patch"]),
    ]);
    let (token, role) = account(&cluster, &namespace, &rules);
    let roots = root("one");
    let publisher = Publisher::start(&cluster.kubeconfig_of(&token), true, &roots);
    let problems = until("two problems", PATIENCE, || {
        let problems = publisher.published.now().problems.join("\n");
        let both = problems.contains("verbs: [create, patch]") && problems.contains("verbs: [attest]");
        Ok(both.then_some(problems))
    });
    problems.unwrap();
    assert!(!publisher.published.is_ready(), "no namespace has them: {:?}", publisher.published.now());
    cluster.change(&role, |role| {
        let rules = role["rules"].as_array_mut().unwrap();
        rules.push(rule(&[""], &["configmaps"], &[NAME], &["create", "patch"]));
        rules.push(rule(&["certificates.k8s.io"], &["signers"], &["eastwest.dev/workload"], &["attest"]));
    });
    let patience = PATIENCE * 3;
    until("no problem", patience, || Ok(publisher.published.now().problems.is_empty().then_some(())))
        .unwrap();
    publisher.wait_until_complete();
    wait_for(&cluster, &namespace, &roots);
}
