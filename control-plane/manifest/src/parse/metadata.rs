//! `metadata`, the same for every kind.

use std::sync::Arc;

use eastwest_model::{
    Created, Kind, Labels, Meta, ObjectRef, Origin,
    names::{is_dns_label, is_dns_subdomain},
    policy::DRY_RUN,
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::field::Field;

/// The annotations that mean something here.
const ANNOTATIONS: &[&str] = &[
    DRY_RUN,
    "alpha.istio.io/canonical-serviceaccounts",
    "alpha.istio.io/kubernetes-serviceaccounts",
    "networking.istio.io/exportTo",
];

const FIELDS: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The metadata of an object; `None` when it has no name. A missing namespace is `default`, as with kubectl.
pub(super) fn read(root: &Field<'_>, kind: Kind, origin: &Origin) -> Option<Meta> {
    let metadata = root.get("metadata");
    metadata.slips(FIELDS);
    let name = metadata.get("name");
    if !name.is_set() && metadata.get("generateName").is_set() {
        name.error("missing: generateName names nothing before it is created; give the object a name");
        return None;
    }
    let name = name.required("an object needs a name").text()?;
    let namespace = metadata.get("namespace");
    let namespace = match kind {
        Kind::Namespace => "",
        _ => namespace.text().filter(|text| !text.is_empty()).unwrap_or("default"),
    };
    if !is_dns_subdomain(name) {
        let remedy = "is no name of an object: use a-z, 0-9, '-' and '.', at most 253 bytes";
        metadata.get("name").error(format_args!("{name:?} {remedy}"));
    }
    if kind != Kind::Namespace && !is_dns_label(namespace) {
        let remedy = "is no namespace: use a-z, 0-9 and '-', at most 63 bytes";
        metadata.get("namespace").error(format_args!("{namespace:?} {remedy}"));
    }
    let mut annotations = texts(&metadata.get("annotations"));
    annotations.retain(|key, _| ANNOTATIONS.contains(&&**key));
    Some(Meta {
        object: ObjectRef::new(kind, namespace, name),
        created: metadata.get("creationTimestamp").parse(timestamp).unwrap_or_default(),
        labels: Arc::new(texts(&metadata.get("labels"))),
        annotations: Arc::new(annotations),
        origin: origin.clone(),
    })
}

/// `Kind/namespace/name` of an object that is not read.
pub(super) fn reference(value: &Value, kind: &str) -> String {
    let text = |key: &str| value.get("metadata").and_then(|metadata| metadata.get(key)?.as_str());
    format!("{kind}/{}/{}", text("namespace").unwrap_or("default"), text("name").unwrap_or_default())
}

/// A mapping of texts to texts; a null value is the empty text, as in Kubernetes.
pub(super) fn texts(field: &Field<'_>) -> Labels {
    let entries = field.entries();
    entries.iter().map(|(key, value)| ((*key).into(), value.text().unwrap_or_default().into())).collect()
}

fn timestamp(text: &str) -> Result<Created, &'static str> {
    let time = OffsetDateTime::parse(text, &Rfc3339);
    time.map(|time| Created(time.unix_timestamp())).map_err(|_| "write a time like 2025-03-01T08:00:00Z")
}
