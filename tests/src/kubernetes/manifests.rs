//! Manifests into the API, with what a kubelet would add.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Kubernetes;
use crate::process::until;

/// The node of pods that name none: without a node a pod is no endpoint.
const NODE: &str = "node-1";
/// Kinds in the order in which they are applied: each before those that need it.
const FIRST: &[&str] = &["CustomResourceDefinition", "Namespace", "Node", "ServiceAccount"];

impl Kubernetes {
    /// Applies the objects of a file or a directory of manifests, with the statuses that stand there. Makes the namespaces,
    /// nodes and service accounts that they need.
    ///
    /// # Errors
    /// A file that cannot be read, or the API's refusal of an object.
    pub fn apply(&self, manifests: &Path) -> Result<()> {
        self.apply_all(&read(manifests)?)
    }

    /// Applies these objects, as [`Kubernetes::apply`].
    ///
    /// # Errors
    /// The API's refusal of an object.
    pub fn apply_all(&self, objects: &[Value]) -> Result<()> {
        let all = complete(objects);
        for object in &all {
            self.apply_one(object)?;
        }
        let mut definitions = all.iter().filter(|object| object["kind"] == "CustomResourceDefinition");
        definitions.try_for_each(|definition| self.wait_until_established(definition))
    }

    fn apply_one(&self, object: &Value) -> Result<()> {
        let path = path(object)?;
        let mut bare = object.clone();
        let status = bare.as_object_mut().and_then(|fields| fields.remove("status"));
        let query = "fieldManager=manifests&force=true&fieldValidation=Ignore";
        self.patch(&format!("{path}?{query}"), "application/apply-patch+yaml", &bare)?;
        if let Some(status) = status.filter(|_| object["kind"] != "CustomResourceDefinition") {
            self.patch(
                &format!("{path}/status"),
                "application/merge-patch+json",
                &json!({"status": status}),
            )?;
        }
        Ok(())
    }

    /// Patches an object.
    ///
    /// # Errors
    /// The API's refusal.
    pub fn patch(&self, path: &str, content_type: &str, patch: &Value) -> Result<Value> {
        self.send("PATCH", path, content_type, Some(patch))
    }

    /// Waits until each EndpointSlice that the controllers make has the pods that its Service selects.
    ///
    /// # Errors
    /// The API's refusal, or a wait that is too long.
    pub fn wait_for_endpoints(&self) -> Result<()> {
        let items = |path: &str| -> Result<Vec<Value>> {
            Ok(self.ask("GET", path, None)?["items"].as_array().cloned().unwrap_or_default())
        };
        until("endpoints of all Services", super::START, || {
            let (services, pods) = (items("/api/v1/services")?, items("/api/v1/pods")?);
            let slices = items("/apis/discovery.k8s.io/v1/endpointslices")?;
            let complete = |service: &Value| {
                let Some(selector) = service.pointer("/spec/selector").and_then(Value::as_object) else {
                    return true;
                };
                let at_home =
                    |object: &&Value| object["metadata"]["namespace"] == service["metadata"]["namespace"];
                let selected = pods.iter().filter(at_home).filter(|pod| {
                    selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
                        && !pod["status"]["podIP"].is_null()
                });
                let of_it = slices.iter().filter(at_home).filter(|slice| {
                    slice["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
                });
                let endpoints = of_it.filter_map(|slice| slice["endpoints"].as_array()).map(Vec::len);
                endpoints.sum::<usize>() >= selected.count()
            };
            Ok(services.iter().all(complete).then_some(()))
        })
    }

    fn wait_until_established(&self, definition: &Value) -> Result<()> {
        let path = path(definition)?;
        until("an established definition", super::START, || {
            let now = self.ask("GET", &path, None)?;
            let conditions = now["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let met = |one: &Value| one["type"] == "Established" && one["status"] == "True";
            Ok(conditions.iter().any(met).then_some(()))
        })
    }
}

/// The documents of a file, or of all files of a directory.
///
/// # Errors
/// A file that cannot be read.
pub fn read(manifests: &Path) -> Result<Vec<Value>> {
    if !manifests.is_dir() {
        let text = fs::read_to_string(manifests).with_context(|| manifests.display().to_string())?;
        let documents = serde_saphyr::from_multiple::<Value>(&text);
        let documents = documents.with_context(|| manifests.display().to_string())?;
        return Ok(documents.into_iter().filter(|document| document["kind"].is_string()).collect());
    }
    let mut files: Vec<_> = fs::read_dir(manifests)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let is_manifest = |path: &Path| {
        path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|one| extension == *one))
    };
    let files = files.iter().filter(|path| path.is_dir() || is_manifest(path));
    Ok(files.map(|path| read(path)).collect::<Result<Vec<_>>>()?.concat())
}

/// The objects with those that the API asks for before, in an order in which it takes them.
pub fn complete(objects: &[Value]) -> Vec<Value> {
    let objects: Vec<_> = objects.iter().cloned().map(scheduled).collect();
    let named = |one: &Value| {
        let metadata = &one["metadata"];
        (one["kind"].clone(), metadata["namespace"].clone(), metadata["name"].clone())
    };
    let given: Vec<_> = objects.iter().map(named).collect();
    let mut all: Vec<_> = needed(&objects).into_iter().filter(|one| !given.contains(&named(one))).collect();
    all.extend(objects);
    all.sort_by_key(|object| FIRST.iter().position(|kind| object["kind"] == *kind).unwrap_or(FIRST.len()));
    all
}

/// The object; a pod without a node gets one.
fn scheduled(mut object: Value) -> Value {
    if object["kind"] == "Pod" && object.pointer("/spec/nodeName").is_none() {
        object["spec"]["nodeName"] = json!(NODE);
    }
    object
}

/// What the API asks for before it takes the objects: namespaces, and for pods their accounts and nodes.
fn needed(objects: &[Value]) -> Vec<Value> {
    let text =
        |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let namespaces: BTreeSet<_> =
        objects.iter().filter_map(|object| text(object, "/metadata/namespace")).collect();
    let pods = || objects.iter().filter(|object| object["kind"] == "Pod");
    let accounts: BTreeSet<_> = pods()
        .filter_map(|pod| {
            let account = text(pod, "/spec/serviceAccountName").unwrap_or_else(|| "default".to_owned());
            Some((text(pod, "/metadata/namespace")?, account))
        })
        .collect();
    let nodes: BTreeSet<_> = pods().filter_map(|pod| text(pod, "/spec/nodeName")).collect();
    let object =
        |kind: &str, metadata: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
    let namespaces = namespaces.into_iter().map(|name| object("Namespace", json!({"name": name})));
    let nodes = nodes.into_iter().map(|name| object("Node", json!({"name": name})));
    let accounts = accounts
        .into_iter()
        .map(|(namespace, name)| object("ServiceAccount", json!({"namespace": namespace, "name": name})));
    namespaces.chain(nodes).chain(accounts).collect()
}

/// The path of an object: `/api/v1/namespaces/shop/pods/reviews-0`.
///
/// # Errors
/// The object has no kind or no name.
pub fn path(object: &Value) -> Result<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (version, kind) = (text("/apiVersion").context("no apiVersion")?, text("/kind").context("no kind")?);
    let name = text("/metadata/name").context("no name")?;
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let namespace = match text("/metadata/namespace") {
        Some(namespace) => format!("namespaces/{namespace}/"),
        None => String::new(),
    };
    ensure!(kind.is_ascii(), "a kind is ASCII: {kind}");
    Ok(format!("{root}/{version}/{namespace}{}/{name}", plural(kind)))
}

/// The resource of a kind, by the rule that all kinds of these tests follow.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'w']) => format!("{stem}ies"),
        _ if kind.ends_with('s') => kind,
        _ => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_after_their_kinds() {
        for (kind, resource) in [
            ("Pod", "pods"),
            ("ServiceEntry", "serviceentries"),
            ("AuthorizationPolicy", "authorizationpolicies"),
            ("Gateway", "gateways"),
            ("EndpointSlice", "endpointslices"),
            ("PeerAuthentication", "peerauthentications"),
        ] {
            assert_eq!(plural(kind), resource);
        }
    }
}
