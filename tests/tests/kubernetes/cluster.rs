//! The API under test: one of our own, or that of `EASTWEST_TEST_KUBECONFIG`.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use eastwest_kubernetes::{Api, ApiOptions};
use eastwest_tests::{
    kubernetes::{Kubernetes, complete, path},
    process::until,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::PATIENCE;

/// Each test has an API of its own; two at once would only be slower.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// An API and a client that may do everything.
pub(crate) struct Cluster {
    runtime: Runtime,
    api: Api,
    /// The programs, if they are our own.
    pub(crate) programs: Option<Kubernetes>,
    kubeconfig: PathBuf,
    dir: tempfile::TempDir,
    /// What to delete at the end, in a cluster that stays.
    made: Mutex<Vec<String>>,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let given = env::var_os("EASTWEST_TEST_KUBECONFIG").map(PathBuf::from);
        let programs = given.is_none().then(|| Kubernetes::start(dir.path()).unwrap());
        let kubeconfig = match (&programs, given) {
            (Some(programs), _) => programs.admin_kubeconfig().unwrap(),
            (None, given) => given.unwrap(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = ApiOptions { kubeconfig: Some(kubeconfig.clone()), context: None };
        let api = runtime.block_on(Api::find(&options)).unwrap();
        let made = Mutex::default();
        Self { runtime, api, programs, kubeconfig, dir, made, _alone: alone }
    }

    /// An API whose programs may be stopped; `None`, said aloud, where they are not ours.
    pub(crate) fn start_own() -> Option<Self> {
        if env::var_os("EASTWEST_TEST_KUBECONFIG").is_some() {
            println!("left out: this test stops programs of its own cluster");
            return None;
        }
        Some(Self::start())
    }

    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Applies objects as `Kubernetes::apply`, but leaves out those that the API refuses. Returns the paths of the others
    /// in the order in which they were made.
    pub(crate) fn apply(&self, objects: &[Value]) -> Vec<String> {
        let (mut applied, query) = (Vec::new(), "fieldManager=manifests&force=true&fieldValidation=Ignore");
        for mut object in complete(objects) {
            let path = path(&object).unwrap();
            let status = object.as_object_mut().and_then(|fields| fields.remove("status"));
            let (code, answer) =
                self.send("PATCH", &format!("{path}?{query}"), "application/apply-patch+yaml", Some(&object));
            if code >= 300 {
                println!("{path} is refused: {}", answer["message"]);
                continue;
            }
            if let Some(status) = status {
                let patch = json!({"status": status});
                self.send("PATCH", &format!("{path}/status"), "application/merge-patch+json", Some(&patch));
            }
            applied.push(path);
        }
        applied
    }

    pub(crate) fn programs(&mut self) -> &mut Kubernetes {
        self.programs.as_mut().unwrap()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub(crate) fn server(&self) -> &str {
        self.api.server()
    }

    /// A kubeconfig by which the holder of a token is known.
    pub(crate) fn kubeconfig_of(&self, token: &str) -> PathBuf {
        let mut config: Value =
            serde_saphyr::from_str(&fs::read_to_string(&self.kubeconfig).unwrap()).unwrap();
        for user in config["users"].as_array_mut().unwrap() {
            user["user"] = json!({"token": token});
        }
        let path = self.dir().join("token.kubeconfig");
        fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// Status and body of an answer.
    pub(crate) fn try_ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.send(method, path, "application/json", body)
    }

    /// As [`Cluster::try_ask`], with a body of this type.
    pub(crate) fn send(&self, method: &str, path: &str, of: &str, body: Option<&Value>) -> (u16, Value) {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("content-type", of).header("accept", "application/json");
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.runtime.block_on(async {
            let response = self.api.client().send(request.body(body.into()).unwrap()).await.unwrap();
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            (status, serde_json::from_slice(&bytes).unwrap_or_default())
        })
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.try_ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) fn create(&self, collection: &str, object: &Value) -> Value {
        let made = self.ask("POST", collection, Some(object));
        let name = made["metadata"]["name"].as_str().unwrap_or_default();
        if !collection.contains("/namespaces/") && !name.is_empty() {
            self.made.lock().unwrap().push(format!("{collection}/{name}"));
        }
        made
    }

    pub(crate) fn delete(&self, object: &str) {
        let at_once = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        self.ask("DELETE", object, Some(&at_once));
    }

    /// Changes an object.
    pub(crate) fn change(&self, object: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut now = self.ask("GET", object, None);
        change(&mut now);
        self.ask("PUT", object, Some(&now))
    }

    /// A namespace with a name of its own and its default service account.
    pub(crate) fn namespace(&self) -> String {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "eastwest-"}});
        let made = self.create("/api/v1/namespaces", &namespace);
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        // A controller manager makes it as well.
        self.try_ask("POST", &format!("/api/v1/namespaces/{name}/serviceaccounts"), Some(&account));
        name
    }

    /// A pod, as the API has it.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Value {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [{"name": "app", "image": "app"}]}});
        self.create(&format!("/api/v1/namespaces/{namespace}/pods"), &pod)
    }

    /// A node, without which a pod cannot have one.
    pub(crate) fn node(&self, name: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.try_ask("POST", "/api/v1/nodes", Some(&node));
    }

    /// A pod on a node, as the API has it.
    pub(crate) fn pod_on(&self, namespace: &str, name: &str, node: &str) -> Value {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "app", "image": "app"}]}});
        self.create(&format!("/api/v1/namespaces/{namespace}/pods"), &pod)
    }

    /// Names of a namespaced resource, as the API lists them now.
    pub(crate) fn names(&self, collection: &str) -> BTreeSet<String> {
        let list = self.ask("GET", collection, None);
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// A definition like those of Istio, with these versions served.
    pub(crate) fn define(&self, kind: &str, plural: &str, group: &str, served: &[&str]) {
        self.create(DEFINITIONS, &definition(kind, plural, group, served));
        let path = format!("{DEFINITIONS}/{plural}.{group}");
        until("an established definition", PATIENCE, || {
            let now = self.ask("GET", &path, None);
            let conditions = now["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let met = |one: &Value| one["type"] == "Established" && one["status"] == "True";
            Ok(conditions.iter().any(met).then_some(()))
        })
        .unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.programs.is_none() {
            for object in self.made.lock().unwrap().iter().rev() {
                self.try_ask("DELETE", object, None);
            }
        }
    }
}

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// All versions that Istio has, of which some are served.
pub(crate) fn definition(kind: &str, plural: &str, group: &str, served: &[&str]) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version = |name: &&str| json!({"name": name, "served": served.contains(name), "storage": *name == "v1", "schema": schema});
    let versions: Vec<_> = ["v1", "v1beta1", "v1alpha3"].iter().map(version).collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "versions": versions,
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()}}})
}
