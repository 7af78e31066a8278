//! Updates of the API as batches of the merge stage, through the one parser of manifests.

use std::collections::BTreeMap;

use eastwest_manifest::{
    merge::{self, Batch, SourceId},
    parse::{self, Document, Entry},
};
use eastwest_model::{Diagnostic, Kind, MeshConfig, ObjectRef, Origin};
use tokio::sync::mpsc;

use crate::{
    client::Api,
    decode::{Key, Object},
    source::Source,
    watch::{
        state::{Delta, Timing},
        task::Update,
    },
};

/// Lists and watches all resources of an API. Objects are parsed in the tasks of their resources; `defaults` are the
/// mesh's settings where its ConfigMap is silent.
///
/// Must be called within a tokio runtime.
pub fn follow(
    api: &Api,
    timing: Timing,
    defaults: MeshConfig,
) -> (Source<Document>, mpsc::Receiver<Update<Document>>) {
    Source::start(api, timing, move |_, object| document(&object, &defaults))
}

/// An object as the parser of manifests reads it.
pub(crate) fn document(object: &Object, defaults: &MeshConfig) -> Document {
    parse::object(&object.value, &Origin::default(), defaults)
}

/// Makes batches of updates.
pub struct Batches {
    source: SourceId,
    /// The warnings about objects of kinds that are not read, by resource and object.
    passed_over: BTreeMap<(String, Key), Diagnostic>,
}

impl Batches {
    /// Batches of this source.
    pub fn new(source: SourceId) -> Self {
        Self { source, passed_over: BTreeMap::new() }
    }

    /// The batch of the updates that come next.
    pub fn next(&mut self, updates: impl IntoIterator<Item = Update<Document>>) -> Batch {
        let (mut converted, mut differs) = (Vec::new(), false);
        for update in updates {
            if update.resource.parsed().is_some() {
                converted.extend(convert(update));
            } else {
                differs |= self.pass_over(update);
            }
        }
        if differs {
            converted.push(merge::Update::Problems(self.passed_over.values().cloned().collect()));
        }
        Batch { source: self.source.clone(), updates: converted }
    }

    /// Notes what an update of a resource that is not read passes over; returns whether that differs from before.
    fn pass_over(&mut self, update: Update<Document>) -> bool {
        let resource = update.resource.name();
        let of = |key: Key, document| match document {
            Document::PassedOver(warning) => Some(((resource.clone(), key), warning)),
            Document::Irrelevant | Document::Lost(_) | Document::Entry(_) => None,
        };
        match update.delta {
            Delta::Resync(all) => {
                let now: BTreeMap<_, _> = all.into_iter().filter_map(|(key, one)| of(key, one)).collect();
                let is_of = |known: &(String, Key)| known.0 == resource;
                let before = self.passed_over.extract_if(.., |known, _| is_of(known)).collect();
                let differs = now != before;
                self.passed_over.extend(now);
                differs
            }
            Delta::Upsert(key, document) => {
                let Some((place, warning)) = of(key, document) else { return false };
                self.passed_over.insert(place, warning.clone()) != Some(warning)
            }
            Delta::Delete(key) => self.passed_over.remove(&(resource, key)).is_some(),
        }
    }
}

fn convert(update: Update<Document>) -> Vec<merge::Update> {
    let Update { resource, object, delta, .. } = update;
    let Some(kind) = resource.parsed() else { return Vec::new() };
    match (delta, object) {
        (Delta::Resync(all), None) => {
            let entries = all.into_iter().filter_map(|(_, document)| entry(document)).collect();
            vec![merge::Update::Resync { kind, entries }]
        }
        // A list of one object that is watched by name: other objects of the kind have lists of their own.
        (Delta::Resync(all), Some(key)) if all.is_empty() => vec![delete(kind, &key)],
        (Delta::Resync(all), Some(_)) => {
            all.into_iter().map(|(key, document)| upsert(kind, &key, document)).collect()
        }
        (Delta::Upsert(key, document), _) => vec![upsert(kind, &key, document)],
        (Delta::Delete(key), _) => vec![delete(kind, &key)],
    }
}

fn entry(document: Document) -> Option<Entry> {
    match document {
        Document::Entry(entry) => Some(entry),
        Document::Irrelevant | Document::PassedOver(_) | Document::Lost(_) => None,
    }
}

/// An object that does not name itself as the API does cannot be in force.
fn upsert(kind: Kind, key: &Key, document: Document) -> merge::Update {
    entry(document).map_or_else(|| delete(kind, key), merge::Update::Upsert)
}

fn delete(kind: Kind, key: &Key) -> merge::Update {
    merge::Update::Delete(ObjectRef::new(kind, &*key.namespace, &*key.name))
}

#[cfg(test)]
mod tests {
    use eastwest_manifest::merge::Merge;
    use eastwest_model::{Change, TrustDomain};
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::{CONFIG_MAP, RESOURCES, Resource, SECRET};

    fn document(value: &Value) -> Document {
        let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
        parse::object(value, &Origin::default(), &defaults)
    }

    fn object(resource: &Resource, namespace: &str, name: &str) -> (Key, Document) {
        object_of(resource, resource.versions[0], namespace, name)
    }

    fn object_of(resource: &Resource, version: &str, namespace: &str, name: &str) -> (Key, Document) {
        let version = resource.api_version(version);
        let metadata = if namespace.is_empty() {
            json!({"name": name})
        } else {
            json!({"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": "a"}})
        };
        let spec = json!({"hosts": ["a.b"], "host": "a.b", "address": "1.2.3.4", "location": "MESH_EXTERNAL",
            "resolution": "NONE", "ports": [{"number": 80, "port": 80, "name": "http", "protocol": "HTTP"}],
            "egress": [{"hosts": ["*/*"]}]});
        let value = json!({"apiVersion": version, "kind": resource.kind, "metadata": metadata, "spec": spec});
        (Key { namespace: namespace.into(), name: name.into() }, document(&value))
    }

    /// A kind that the parser learns must be named in the table.
    #[test]
    fn the_table_names_exactly_the_kinds_and_versions_that_the_parser_knows() {
        for resource in RESOURCES.iter().chain([CONFIG_MAP, SECRET]) {
            let namespace = if resource.namespaced { "shop" } else { "" };
            let expected = resource.parsed().map(|kind| ObjectRef::new(kind, namespace, "a"));
            for version in resource.versions {
                let (_, document) = object_of(resource, version, namespace, "a");
                let reference = entry(document).map(|entry| entry.reference);
                assert_eq!(reference, expected, "{} {version}", resource.kind);
            }
            assert!(resource.parsed().is_none_or(|kind| kind.to_string() == resource.kind));
        }
    }

    #[test]
    fn lists_and_changes_become_updates_of_the_merge_stage() {
        let source = SourceId::new("cluster");
        let (mut merge, mut batches) = (Merge::new([source.clone()]), Batches::new(source));
        let pods = RESOURCES.iter().find(|resource| resource.kind == "Pod").unwrap();
        let nodes = RESOURCES.iter().find(|resource| resource.kind == "Node").unwrap();
        let update = |resource, delta| Update { resource, object: None, delta, revision: 0 };
        let mut apply = |updates: Vec<Update<Document>>| {
            let changes = merge.apply(batches.next(updates)).changes;
            let show = |change: &Change| match change {
                Change::Upsert(object) => format!("+{}", object.reference()),
                Change::Delete(reference) => format!("-{reference}"),
            };
            changes.iter().map(show).collect::<Vec<_>>()
        };
        let (a, b) = (object(pods, "shop", "a"), object(pods, "shop", "b"));
        let node = object(nodes, "", "n1");
        let listed = vec![
            update(pods, Delta::Resync(vec![a.clone(), b.clone()])),
            update(nodes, Delta::Resync(vec![node])),
        ];
        assert_eq!(apply(listed), ["+Pod/shop/a", "+Pod/shop/b"]);
        assert_eq!(apply(vec![update(pods, Delta::Resync(vec![b.clone()]))]), ["-Pod/shop/a"]);
        assert_eq!(apply(vec![update(pods, Delta::Upsert(a.0.clone(), a.1))]), ["+Pod/shop/a"]);
        assert_eq!(apply(vec![update(pods, Delta::Delete(a.0))]), ["-Pod/shop/a"]);
    }

    /// Each object that is watched by name has a list of its own.
    #[test]
    fn the_list_of_one_object_concerns_no_other() {
        let source = SourceId::new("cluster");
        let (mut merge, mut batches) = (Merge::new([source.clone()]), Batches::new(source));
        let mut apply = |name: &str, delta| {
            let key = Key { namespace: "shop".into(), name: name.into() };
            let update = Update { resource: CONFIG_MAP, object: Some(key), delta, revision: 0 };
            merge.apply(batches.next([update])).changes.len()
        };
        for name in ["a", "b"] {
            assert_eq!(apply(name, Delta::Resync(vec![object(CONFIG_MAP, "shop", name)])), 1);
        }
        assert_eq!(apply("a", Delta::Resync(Vec::new())), 1);
        assert_eq!(apply("a", Delta::Resync(Vec::new())), 0);
        let b = Key { namespace: "shop".into(), name: "b".into() };
        assert_eq!(apply("b", Delta::Delete(b)), 1);
    }

    #[test]
    fn each_object_of_a_kind_that_is_not_read_is_one_warning_for_as_long_as_it_is_there() {
        let source = SourceId::new("cluster");
        let (mut merge, mut batches) = (Merge::new([source.clone()]), Batches::new(source));
        let resource =
            RESOURCES.iter().find(|resource| resource.parsed().is_none() && resource.custom).unwrap();
        let mut apply = |delta| {
            let effect = merge.apply(batches.next([Update { resource, object: None, delta, revision: 0 }]));
            assert!(effect.changes.is_empty());
            (effect.found.len(), effect.solved.len())
        };
        let [a, b] = ["a", "b"].map(|name| object(resource, "shop", name));
        assert_eq!(apply(Delta::Resync(vec![a.clone(), b.clone()])), (2, 0));
        assert_eq!(apply(Delta::Upsert(a.0.clone(), a.1.clone())), (0, 0));
        assert_eq!(apply(Delta::Resync(vec![b.clone()])), (0, 1));
        assert_eq!(apply(Delta::Delete(b.0)), (0, 1));
        assert_eq!(apply(Delta::Upsert(a.0, a.1)), (1, 0));
        let found = &merge.diagnostics()[0];
        assert_eq!(found.object, format!("{}/shop/a", resource.kind));
        assert!(found.message.contains("is not in force"), "{found:?}");
    }
}
