//! Status conditions of policies, and Events about refusals.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use eastwest_cluster::{
    Findings,
    events::{Recorder, Refused, Regarding},
    write_statuses,
};
use eastwest_engine::{Index, lint};
use eastwest_kubernetes::{Api, ApiOptions, Batches, Progress, Source, Update, follow};
use eastwest_manifest::{
    merge::{Merge, SourceId},
    parse::Document,
};
use eastwest_model::{MeshConfig, TrustDomain};
use eastwest_tests::process::until;
use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    PATIENCE,
    cluster::{Cluster, DEFINITIONS, definition},
    follower::quick,
    rights::account,
};

const SECURITY: &str = "security.istio.io";
const NETWORKING: &str = "networking.istio.io";
/// Long enough for a write that should not happen.
const QUIET: Duration = Duration::from_secs(4);

/// Something that follows the API, judges it and writes statuses.
struct Writer {
    runtime: Runtime,
    api: Api,
    source: Source<Document>,
    leads: watch::Sender<bool>,
    findings: watch::Receiver<Option<Findings>>,
    /// How often the mesh was computed.
    computed: Arc<AtomicUsize>,
    work: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(kubeconfig: &Path, leads: bool) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
        let options = ApiOptions { kubeconfig: Some(kubeconfig.to_owned()), context: None };
        let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
        let (leads, _) = watch::channel(leads);
        let (found, findings) = watch::channel(None);
        let computed = Arc::default();
        let theirs = Arc::clone(&computed);
        let (api, source) = runtime.block_on(async {
            let api = Api::find(&options).await.unwrap();
            let (source, updates) = follow(&api, quick(), defaults.clone());
            tokio::spawn(judge(updates, defaults, found, theirs));
            (api, source)
        });
        let mut writer = Self { runtime, api, source, leads, findings, computed, work: None };
        writer.restart();
        writer
    }

    /// Writes anew, as another process would.
    fn restart(&mut self) {
        if let Some(work) = self.work.take() {
            work.abort();
        }
        let recorder = Recorder::new(&self.api, "eastwest-0");
        let (leads, findings) = (self.leads.subscribe(), self.findings.clone());
        let work = write_statuses(&self.api, self.source.facts(), leads, findings, recorder);
        self.work = Some(self.runtime.spawn(work));
    }
}

/// Merges, computes and lints, as `serve` does.
async fn judge(
    mut updates: mpsc::Receiver<Update<Document>>,
    defaults: MeshConfig,
    findings: watch::Sender<Option<Findings>>,
    computed: Arc<AtomicUsize>,
) {
    let id = SourceId::new("cluster");
    let (mut merge, mut index) = (Merge::new([id.clone()]), Index::new(defaults));
    let mut batches = Batches::new(id);
    let mut progress = Progress::default();
    let (mut mesh, mut overridden) = (Vec::new(), Arc::default());
    loop {
        let mut all = Vec::new();
        if updates.recv_many(&mut all, 1000).await == 0 {
            return;
        }
        for update in &all {
            progress.take(update.resource, update.revision);
        }
        let effect = merge.apply(batches.next(all));
        if !effect.is_empty() {
            computed.fetch_add(1, Ordering::Relaxed);
            for change in effect.changes {
                index.apply(change);
            }
            let (found, beaten) = lint::analyse(&index.freeze());
            (mesh, overridden) = (found, Arc::new(beaten));
        }
        let found = merge.diagnostics().iter().chain(&mesh).cloned().collect();
        findings.send_replace(Some(Findings {
            found: Arc::new(found),
            overridden: Arc::clone(&overridden),
            progress: progress.clone(),
        }));
    }
}

/// A definition with a status as Istio's have it: a subresource, whose conditions are one list.
pub(crate) fn define(cluster: &Cluster, kind: &str, plural: &str, group: &str) {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let number =
        json!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true});
    let condition = json!({"type": "object", "properties": {"type": text, "status": text, "reason": text,
        "message": text, "observedGeneration": number, "lastTransitionTime": time, "lastProbeTime": time}});
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let status = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"conditions": {"type": "array", "items": condition}, "observedGeneration": number}});
    let schema =
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": open, "status": status}}});
    let mut definition = definition(kind, plural, group, &["v1", "v1beta1"]);
    for version in definition["spec"]["versions"].as_array_mut().unwrap() {
        version["subresources"] = json!({"status": {}});
        version["schema"] = schema.clone();
    }
    cluster.create(DEFINITIONS, &definition);
}

fn collection(namespace: &str, plural: &str) -> String {
    format!("/apis/{SECURITY}/v1/namespaces/{namespace}/{plural}")
}

/// Makes an object once its definition is established.
fn create(cluster: &Cluster, collection: &str, kind: &str, name: &str, spec: &Value) -> String {
    let group = collection.split('/').nth(2).unwrap();
    let object =
        json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": name}, "spec": spec});
    until("a policy", PATIENCE, || {
        Ok((cluster.try_ask("POST", collection, Some(&object)).0 == 201).then_some(()))
    })
    .unwrap();
    format!("{collection}/{name}")
}

fn policy(cluster: &Cluster, namespace: &str, name: &str, mode: &str) -> String {
    let spec = json!({"mtls": {"mode": mode}});
    create(cluster, &collection(namespace, "peerauthentications"), "PeerAuthentication", name, &spec)
}

/// Status, reason, message and generation of a condition.
type Told = (String, String, String, i64);

fn condition(object: &Value, kind: &str) -> Option<Told> {
    let all = object["status"]["conditions"].as_array()?;
    let one = all.iter().find(|one| one["type"] == kind)?;
    let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
    assert!(one["lastTransitionTime"].as_str().is_some_and(|time| time.ends_with('Z')), "{one}");
    Some((text("status"), text("reason"), text("message"), one["observedGeneration"].as_i64()?))
}

/// Waits for a condition with this status and reason of the current generation; its message.
fn wait_for(cluster: &Cluster, object: &str, kind: &str, status: &str, reason: &str) -> String {
    let mut last = Value::Null;
    let told = until("a condition", PATIENCE, || {
        last = cluster.ask("GET", object, None);
        let told = condition(&last, kind).filter(|(is, why, _, generation)| {
            (is.as_str(), why.as_str()) == (status, reason) && last["metadata"]["generation"] == *generation
        });
        Ok(told.map(|(_, _, message, _)| message))
    });
    told.unwrap_or_else(|error| panic!("{error}: {kind} {status} {reason} of {last:#}"))
}

/// The Events about an object.
fn events(cluster: &Cluster, namespace: &str, object: &Value) -> Vec<Value> {
    let list = cluster.ask("GET", &format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"), None);
    let about = |event: &&Value| event["regarding"]["uid"] == object["metadata"]["uid"];
    list["items"].as_array().unwrap().iter().filter(about).cloned().collect()
}

/// A pod that runs.
fn workload(cluster: &Cluster, namespace: &str, name: &str) {
    cluster.pod(namespace, name);
    cluster.change(&format!("/api/v1/namespaces/{namespace}/pods/{name}/status"), |pod| {
        pod["status"] = json!({"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}],
            "conditions": [{"type": "Ready", "status": "True"}]});
    });
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn statuses_tell_what_is_refused_what_loses_and_what_is_in_force() {
    let Some(cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    define(&cluster, "PeerAuthentication", "peerauthentications", SECURITY);
    define(&cluster, "VirtualService", "virtualservices", NETWORKING);
    workload(&cluster, &namespace, "reviews");
    let older = policy(&cluster, &namespace, "a-older", "STRICT");
    let theirs =
        json!({"type": "Reconciled", "status": "True", "lastTransitionTime": "2026-03-01T08:00:00Z"});
    cluster.change(&format!("{older}/status"), |policy| {
        policy["status"] = json!({"conditions": [theirs], "observedGeneration": 1, "other": "stays"});
    });
    let younger = policy(&cluster, &namespace, "b-younger", "DISABLE");
    let wrong = policy(&cluster, &namespace, "wrong", "SOMETIMES");
    let unread = collection(&namespace, "virtualservices").replace(SECURITY, NETWORKING);
    let unread = create(&cluster, &unread, "VirtualService", "all", &json!({}));
    let writer = Writer::start(cluster.kubeconfig(), true);

    wait_for(&cluster, &older, "Accepted", "True", "Accepted");
    wait_for(&cluster, &older, "Effective", "True", "Effective");
    let status = cluster.ask("GET", &older, None)["status"].clone();
    assert_eq!((&status["conditions"][0], status["conditions"].as_array().unwrap().len()), (&theirs, 3));
    assert_eq!((&status["other"], &status["observedGeneration"]), (&json!("stays"), &json!(1)));
    let message = wait_for(&cluster, &younger, "Effective", "False", "Shadowed");
    assert!(message.starts_with(&format!("PeerAuthentication/{namespace}/a-older wins")), "{message}");
    let message = wait_for(&cluster, &wrong, "Accepted", "False", "Invalid");
    assert!(message.starts_with("spec.mtls.mode: ") && message.contains("SOMETIMES"), "{message}");
    wait_for(&cluster, &wrong, "Effective", "False", "NoEffect");
    wait_for(&cluster, &unread, "Effective", "False", "NoEffect");
    wait_for(&cluster, &unread, "Accepted", "Unknown", "NotRead");

    let object = cluster.ask("GET", &wrong, None);
    let told = events(&cluster, &namespace, &object);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((&told[0]["type"], &told[0]["reason"]), (&json!("Warning"), &json!("Refused")));
    assert_eq!(told[0]["note"], *message);
    assert_eq!(told[0]["regarding"]["kind"], "PeerAuthentication");
    assert_eq!(
        (&told[0]["reportingController"], &told[0]["reportingInstance"]),
        (&json!("eastwest.dev/control-plane"), &json!("eastwest-0"))
    );

    // A policy that some workloads do not follow names the one that they do.
    let selector = json!({"matchLabels": {"app": "reviews"}});
    let narrow = json!({"selector": selector, "mtls": {"mode": "PERMISSIVE"}});
    let narrow = create(
        &cluster,
        &collection(&namespace, "peerauthentications"),
        "PeerAuthentication",
        "narrow",
        &narrow,
    );
    let name = format!("PeerAuthentication/{namespace}/narrow wins for some workloads");
    until("the winner", PATIENCE, || {
        let effective = condition(&cluster.ask("GET", &older, None), "Effective");
        Ok(effective.filter(|(is, _, message, _)| is == "True" && message.contains(&name)))
    })
    .unwrap();
    cluster.delete(&narrow);

    // The winner goes; the mistake is corrected.
    cluster.delete(&older);
    wait_for(&cluster, &younger, "Effective", "True", "Effective");
    let computed = writer.computed.load(Ordering::Relaxed);
    assert!(computed > 0);
    cluster.change(&wrong, |policy| {
        policy["spec"] = json!({"selector": {"matchLabels": {"app": "none"}}, "mtls": {"mode": "STRICT"}})
    });
    wait_for(&cluster, &wrong, "Accepted", "True", "Accepted");
    let message = wait_for(&cluster, &wrong, "Effective", "False", "NoEffect");
    assert!(message.contains("selects no workload"), "{message}");
    assert_eq!(events(&cluster, &namespace, &object).len(), 1);
}

/// Neither our own writes nor a new process lead to another write, and without the lead there is none.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn statuses_are_written_once_and_only_by_the_leader() {
    let Some(cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    define(&cluster, "PeerAuthentication", "peerauthentications", SECURITY);
    let good = policy(&cluster, &namespace, "good", "STRICT");
    let wrong = policy(&cluster, &namespace, "wrong", "SOMETIMES");
    let mut writer = Writer::start(cluster.kubeconfig(), false);
    std::thread::sleep(QUIET);
    let both = || [&good, &wrong].map(|one| cluster.ask("GET", one, None));
    assert!(both().iter().all(|one| one["status"].is_null()), "it does not lead");

    let computed = || writer.computed.load(Ordering::Relaxed);
    let before = computed();
    writer.leads.send_replace(true);
    wait_for(&cluster, &good, "Accepted", "True", "Accepted");
    wait_for(&cluster, &wrong, "Accepted", "False", "Invalid");
    let written = both();
    let told = events(&cluster, &namespace, &written[1]);
    std::thread::sleep(QUIET);
    assert_eq!(both(), written, "steady");
    assert_eq!((before, computed()), (before, before), "a status is no change of the mesh");
    assert_eq!(told.len(), 1);

    writer.restart();
    std::thread::sleep(QUIET);
    assert_eq!((both(), events(&cluster, &namespace, &written[1])), (written, told), "a new process");

    writer.leads.send_replace(false);
    let new = policy(&cluster, &namespace, "new", "STRICT");
    std::thread::sleep(QUIET);
    assert!(cluster.ask("GET", &new, None)["status"].is_null(), "it does not lead any more");
    // Somebody removed the conditions meanwhile.
    cluster.change(&format!("{good}/status"), |policy| policy["status"] = json!({}));
    writer.leads.send_replace(true);
    wait_for(&cluster, &new, "Accepted", "True", "Accepted");
    wait_for(&cluster, &good, "Accepted", "True", "Accepted");
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_kind_whose_statuses_may_not_be_written_is_left_alone() {
    let Some(cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    define(&cluster, "PeerAuthentication", "peerauthentications", SECURITY);
    define(&cluster, "AuthorizationPolicy", "authorizationpolicies", SECURITY);
    let refused = policy(&cluster, &namespace, "good", "STRICT");
    let other = "authorizationpolicies";
    let allowed = create(&cluster, &collection(&namespace, other), "AuthorizationPolicy", "all", &json!({}));
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
    let rules = json!([
        rule(&["*"], &["*"], &["get", "list", "watch"]),
        rule(&["events.k8s.io"], &["events"], &["create"]),
        rule(&[SECURITY], &["authorizationpolicies/status"], &["patch"]),
    ]);
    let (token, role) = account(&cluster, &namespace, &rules);
    let writer = Writer::start(&cluster.kubeconfig_of(&token), true);
    wait_for(&cluster, &allowed, "Accepted", "True", "Accepted");
    assert!(cluster.ask("GET", &refused, None)["status"].is_null());
    cluster.change(&role, |role| {
        let more = rule(&[SECURITY], &["peerauthentications/status"], &["patch"]);
        role["rules"].as_array_mut().unwrap().push(more);
    });
    std::thread::sleep(QUIET);
    assert!(cluster.ask("GET", &refused, None)["status"].is_null(), "it is not asked for all the time");
    // Another lead begins from the start.
    writer.leads.send_replace(false);
    std::thread::sleep(Duration::from_millis(100));
    writer.leads.send_replace(true);
    wait_for(&cluster, &refused, "Accepted", "True", "Accepted");
}

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_refusal_of_a_pod_is_one_event_whoever_records_it() {
    let Some(cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    let pod = cluster.pod(&namespace, "reviews");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = ApiOptions { kubeconfig: Some(cluster.kubeconfig().to_owned()), context: None };
    let regarding = Regarding::pod(&namespace, "reviews", pod["metadata"]["uid"].as_str().unwrap());
    let refused = |note: &str| Refused {
        regarding: regarding.clone(),
        action: "IssueCertificate",
        reason: "Refused",
        note: note.to_owned(),
    };
    runtime.block_on(async {
        let api = Api::find(&options).await.unwrap();
        for identity in ["eastwest-0", "eastwest-1"] {
            let recorder = Recorder::new(&api, identity);
            for _ in 0..3 {
                recorder.refused(&refused("the token is of another pod")).await.unwrap();
            }
        }
        Recorder::new(&api, "eastwest-1").refused(&refused("the node differs")).await.unwrap();
    });
    let told = events(&cluster, &namespace, &pod);
    let mut notes: Vec<_> = told.iter().map(|event| event["note"].as_str().unwrap()).collect();
    notes.sort_unstable();
    assert_eq!(notes, ["the node differs", "the token is of another pod"], "{told:#?}");
}

/// Statuses are written at 20 a second. A refusal does not wait for the others.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_refusal_is_told_at_once_in_a_flood_of_other_statuses() {
    const OTHERS: usize = 300;
    let Some(cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    define(&cluster, "PeerAuthentication", "peerauthentications", SECURITY);
    for number in 0..OTHERS {
        policy(&cluster, &namespace, &format!("p-{number:03}"), "STRICT");
    }
    let _writer = Writer::start(cluster.kubeconfig(), true);
    let told = || {
        let list = cluster.ask("GET", &collection(&namespace, "peerauthentications"), None);
        let items = list["items"].as_array().unwrap().iter();
        items.filter(|policy| condition(policy, "Accepted").is_some()).count()
    };
    until("the flood", PATIENCE, || Ok((told() > 10).then_some(()))).unwrap();
    let wrong = policy(&cluster, &namespace, "wrong", "SOMETIMES");
    wait_for(&cluster, &wrong, "Accepted", "False", "Invalid");
    let told = told();
    assert!(told < OTHERS * 2 / 3, "{told} others came first");
}
