//! The Secrets and ConfigMaps that DestinationRules name (POLICY.md O7): only these are read, each by its name.

use std::collections::{BTreeMap, BTreeSet};

use eastwest_manifest::parse::{Document, Entry};
use eastwest_model::{
    Kind, Object, ObjectRef,
    credential::{CredentialRef, TRUST_SUFFIX},
    policy::DestinationRule,
};

use crate::{
    decode::Key,
    source::NamedObject,
    watch::{state::Delta, task::Update},
};

/// What an object is decoded to.
pub(crate) trait AsDocument: Send + 'static {
    /// The object as the parser of manifests reads it.
    fn document(&self) -> &Document;
}

impl AsDocument for Document {
    fn document(&self) -> &Document {
        self
    }
}

/// What each DestinationRule names.
#[derive(Debug, Default)]
pub(crate) struct CredentialNames {
    by_rule: BTreeMap<Key, BTreeSet<NamedObject>>,
    without_secrets: bool,
}

impl CredentialNames {
    /// Names ConfigMaps only.
    pub(crate) fn leave_out_secrets(&mut self) {
        self.without_secrets = true;
    }

    /// Takes in an update. Returns whether the names may have changed.
    pub(crate) fn take_in<T: AsDocument>(&mut self, update: &Update<T>) -> bool {
        if update.resource.parsed() != Some(Kind::DestinationRule) {
            return false;
        }
        match &update.delta {
            Delta::Resync(all) => {
                let before = std::mem::take(&mut self.by_rule);
                for (key, decoded) in all {
                    // A refused rule keeps its last good version, and so its credentials.
                    let names = named(decoded.document()).or_else(|| before.get(key).cloned());
                    self.set(key, names.unwrap_or_default());
                }
                self.by_rule != before
            }
            Delta::Upsert(key, decoded) => {
                named(decoded.document()).is_some_and(|names| self.set(key, names))
            }
            Delta::Delete(key) => self.by_rule.remove(key).is_some(),
        }
    }

    fn set(&mut self, key: &Key, names: BTreeSet<NamedObject>) -> bool {
        if names.is_empty() {
            return self.by_rule.remove(key).is_some();
        }
        self.by_rule.insert(key.clone(), names.clone()) != Some(names)
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeSet<NamedObject> {
        let wanted =
            |named: &&NamedObject| !self.without_secrets || matches!(named, NamedObject::ConfigMap(_));
        self.by_rule.values().flatten().filter(wanted).cloned().collect()
    }
}

/// What a rule names; `None` if the document is refused.
fn named(document: &Document) -> Option<BTreeSet<NamedObject>> {
    match document {
        Document::Entry(Entry { object: Some(Object::DestinationRule(rule)), .. }) => Some(of_rule(rule)),
        Document::Entry(Entry { refused: true, .. }) => None,
        _ => Some(BTreeSet::new()),
    }
}

/// A proxy may read Secrets and ConfigMaps of its own namespace, where its rule is.
fn of_rule(rule: &DestinationRule) -> BTreeSet<NamedObject> {
    let home = rule.meta.namespace();
    let names = rule.tls_blocks().filter_map(|tls| tls.credential_name.as_deref());
    let references = names.filter_map(|name| CredentialRef::parse(name, home));
    references.flat_map(|reference| objects(&reference.object, home)).collect()
}

fn objects(object: &ObjectRef, home: &str) -> Vec<NamedObject> {
    let key = |name: &str| Key { namespace: (*object.namespace).into(), name: name.into() };
    match object.kind {
        Kind::ConfigMap => vec![NamedObject::ConfigMap(key(&object.name))],
        Kind::Secret if &*object.namespace == home => {
            let trust = format!("{}{TRUST_SUFFIX}", object.name);
            vec![NamedObject::Secret(key(&object.name)), NamedObject::Secret(key(&trust))]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use eastwest_manifest::parse;
    use eastwest_model::{MeshConfig, Origin, TrustDomain};
    use serde_json::json;

    use super::*;
    use crate::kinds::RESOURCES;

    fn rule(name: &str, credential: &serde_json::Value) -> (Key, Document) {
        let value = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"host": "a.example", "workloadSelector": {"matchLabels": {"app": "a"}},
                "trafficPolicy": {"tls": {"mode": "SIMPLE", "credentialName": credential}}}});
        let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
        let key = Key { namespace: "shop".into(), name: name.into() };
        (key, parse::object(&value, &Origin::default(), &defaults))
    }

    fn update(delta: Delta<Document>) -> Update<Document> {
        let resource = RESOURCES.iter().find(|one| one.kind == "DestinationRule").unwrap();
        Update { resource, object: None, delta, revision: 0 }
    }

    fn secrets(names: &CredentialNames) -> Vec<String> {
        let text = |named: NamedObject| match named {
            NamedObject::ConfigMap(key) => format!("c {}/{}", key.namespace, key.name),
            NamedObject::Secret(key) => format!("s {}/{}", key.namespace, key.name),
        };
        names.all().into_iter().map(text).collect()
    }

    #[test]
    fn the_credentials_of_the_rules_in_force_are_wanted() {
        let mut names = CredentialNames::default();
        let (one, two) = (rule("one", &json!("pair")), rule("two", &json!("configmap://shop/roots")));
        assert!(names.take_in(&update(Delta::Resync(vec![one.clone(), two.clone()]))));
        let both = ["c shop/roots", "s shop/pair", "s shop/pair-cacert"];
        assert_eq!(secrets(&names), both);
        assert!(!names.take_in(&update(Delta::Resync(vec![one.clone(), two]))), "nothing is different");

        let (key, refused) = rule("one", &json!(7));
        assert!(!names.take_in(&update(Delta::Upsert(key, refused))));
        assert_eq!(secrets(&names), both, "the last good version stays");
        let (key, foreign) = rule("one", &json!("pay/pair"));
        assert!(names.take_in(&update(Delta::Upsert(key, foreign))));
        assert_eq!(secrets(&names), ["c shop/roots"], "Secrets of other namespaces are nobody's");
        assert!(names.take_in(&update(Delta::Delete(rule("two", &json!("")).0))));
        assert!(secrets(&names).is_empty());
    }
}
