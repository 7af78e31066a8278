//! Documents → objects of the model and diagnostics, one file a kind.
//!
//! A kind that decides nothing here is skipped without a diagnostic: a directory may also hold Deployments. Of a kind
//! that does, every mistake is reported, and an object with an error is refused without effect on others.

mod credential;
mod destination_rule;
mod endpoint_slice;
mod export_to;
mod host;
mod labels;
mod mesh_config;
mod metadata;
mod peer_authentication;
mod pod;
mod policy_blocks;
mod port;
mod service;
mod service_entry;
mod sidecar;
mod traffic_policy;
mod workload_entry;

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{Diagnostic, Group, Kind, MeshConfig, Meta, Name, Object, ObjectRef, Origin, Severity};

use serde_json::Value;

use crate::{
    document,
    field::{Field, Finding, Findings},
    spelling,
};

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The valid objects, in the order of the file.
    pub objects: Vec<Object>,
    /// Everything that is wrong or surprising, errors first.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that are named but refused: their last good versions stay.
    pub refused: BTreeSet<ObjectRef>,
    /// What stands in for some of them where no good version is known ([`Entry::stand_in`]).
    pub stand_ins: Vec<Object>,
    /// A part of the file does not parse, so it is unknown which objects it was meant to hold.
    pub broken: bool,
}

/// What one document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A kind that decides nothing here.
    Irrelevant,
    /// It does not name an object. An error among the diagnostics means that it was meant to.
    Unidentified(Vec<Diagnostic>),
    /// It names an object.
    Entry(Entry),
}

/// An object as a source states it: accepted, refused, or valid but without a meaning here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What names it.
    pub reference: ObjectRef,
    /// The object. `None` if it is refused, or has no meaning here as Helm's Secrets have none.
    pub object: Option<Object>,
    /// An error stands among the diagnostics.
    pub refused: bool,
    /// What can be read of a refused object, if less protection would be in force without it (POLICY.md V4). It counts
    /// only where no good version is known.
    pub stand_in: Option<Object>,
    /// What is wrong or surprising about it, errors first.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the documents of a file: YAML, or JSON if `file` ends in `.json`.
///
/// `defaults` are the mesh's settings where its ConfigMap is silent, and tell the root namespace and the cluster
/// domain.
pub fn documents(text: &str, file: &str, defaults: &MeshConfig) -> Parsed {
    let file = Name::from(file);
    let at = |line| Origin { file: Some(file.clone()), line: Some(line) };
    let mut parsed = Parsed::default();
    let (documents, errors) = document::read(text, &file);
    for error in errors {
        parsed.add(Document::lost(&at(error.line), "", error.message));
    }
    for document in &documents {
        parsed.add(object(&document.value, &at(document.line), defaults));
    }
    parsed.diagnostics.sort();
    parsed
}

/// Reads one object, of any kind, as the Kubernetes API serves it or a manifest holds it.
///
/// `origin` is where it was read, `defaults` are as for [`documents`].
pub fn object(value: &Value, origin: &Origin, defaults: &MeshConfig) -> Document {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
        return Document::not_kubernetes(value, origin);
    };
    let (group, version) = api_version.rsplit_once('/').unwrap_or((CORE, api_version));
    let reader = match find_reader(group, version, kind) {
        Ok(reader) => reader,
        Err(None) => return Document::Irrelevant,
        Err(Some((field, message))) => return Document::lost(origin, field, message),
    };
    let findings = Findings::default();
    let root = Field::root(value, &findings);
    let Some(meta) = metadata::read(&root, reader.kind, origin) else {
        let lost = |finding: Finding| {
            diagnostic(about_file(origin), origin, Finding { severity: Severity::Error, ..finding })
        };
        return Document::Unidentified(findings.into_set().into_iter().map(lost).collect());
    };
    if is_istio(group) {
        root.slips(&["apiVersion", "kind", "metadata", "spec", "status"]);
    }
    let reference = meta.object.clone();
    let object = (reader.read)(meta, &root, defaults);
    let findings = findings.into_set();
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let errors: Vec<&str> = errors.map(|finding| &*finding.field).collect();
    let refused = !errors.is_empty();
    let (object, stand_in) = match (object, refused) {
        (object, false) => (object, None),
        (Some(Object::PeerAuthentication(policy)), true) => {
            (None, peer_authentication::stand_in(&policy, &errors))
        }
        (_, true) => (None, None),
    };
    let about = |finding| diagnostic(reference.to_string(), origin, finding);
    let diagnostics = findings.into_iter().map(about).collect();
    Document::Entry(Entry { object, refused, stand_in, diagnostics, reference })
}

impl Parsed {
    fn add(&mut self, document: Document) {
        match document {
            Document::Irrelevant => {}
            Document::Unidentified(diagnostics) => {
                self.broken |= diagnostics.iter().any(|one| one.severity == Severity::Error);
                self.diagnostics.extend(diagnostics);
            }
            Document::Entry(entry) => {
                self.objects.extend(entry.object);
                self.refused.extend(Some(entry.reference).filter(|_| entry.refused));
                self.stand_ins.extend(entry.stand_in);
                self.diagnostics.extend(entry.diagnostics);
            }
        }
    }
}

impl Document {
    /// A document that cannot be identified: the diagnostic is about the file.
    fn lost(origin: &Origin, field: &str, message: String) -> Self {
        let finding = Finding { severity: Severity::Error, field: field.to_owned(), message };
        Self::Unidentified(vec![diagnostic(about_file(origin), origin, finding)])
    }

    /// A document without kind or version. With neither, it is some other program's file; else it lacks something.
    fn not_kubernetes(value: &Value, origin: &Origin) -> Self {
        let is_foreign =
            value.as_object().is_some_and(|map| !map.contains_key("apiVersion") && !map.contains_key("kind"));
        if !is_foreign {
            let message = "this is no Kubernetes object: it needs apiVersion and kind, both text";
            return Self::lost(origin, "", message.to_owned());
        }
        let message = "is passed over: this is no Kubernetes object, for it has neither apiVersion nor kind";
        let finding =
            Finding { severity: Severity::Warning, field: String::new(), message: message.to_owned() };
        Self::Unidentified(vec![diagnostic(about_file(origin), origin, finding)])
    }
}

/// What a diagnostic is about that has no object.
fn about_file(origin: &Origin) -> String {
    origin.file.as_deref().unwrap_or_default().to_owned()
}

fn diagnostic(object: String, origin: &Origin, finding: Finding) -> Diagnostic {
    let Finding { severity, field, message } = finding;
    Diagnostic { severity, object, origin: origin.clone(), field, message, beaten_by: None, effect: None }
}

/// Reads the parts of an object that its kind defines; `None` = valid, but of no meaning here. Errors are noted in the
/// fields, and then the result does not matter.
type Read = fn(Meta, &Field<'_>, &MeshConfig) -> Option<Object>;

/// A kind that is read.
struct Reader {
    kind: Kind,
    versions: &'static [&'static str],
    read: Read,
}

impl Reader {
    fn group(&self) -> &'static str {
        self.kind.group().name()
    }
}

const CORE: &str = Group::Core.name();
const ISTIO_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// The kinds that are read.
const READERS: &[Reader] = &[
    reader(Kind::Namespace, &["v1"], |meta, _, _| Some(Object::Namespace(Arc::new(meta)))),
    reader(Kind::Service, &["v1"], service::read),
    reader(Kind::Pod, &["v1"], pod::read),
    reader(Kind::ConfigMap, &["v1"], credential::config_map),
    reader(Kind::Secret, &["v1"], credential::secret),
    reader(Kind::EndpointSlice, &["v1", "v1beta1"], endpoint_slice::read),
    reader(Kind::PeerAuthentication, &["v1", "v1beta1"], peer_authentication::read),
    reader(Kind::DestinationRule, ISTIO_VERSIONS, destination_rule::read),
    reader(Kind::ServiceEntry, ISTIO_VERSIONS, service_entry::read),
    reader(Kind::WorkloadEntry, ISTIO_VERSIONS, workload_entry::read),
    reader(Kind::Sidecar, ISTIO_VERSIONS, sidecar::read),
];

const fn reader(kind: Kind, versions: &'static [&'static str], read: Read) -> Reader {
    Reader { kind, versions, read }
}

fn is_istio(group: &str) -> bool {
    [Group::Networking, Group::Security].iter().any(|one| one.name() == group)
}

/// The reader of a kind; without one, nothing or the field that is certainly a slip.
fn find_reader(
    group: &str,
    version: &str,
    kind: &str,
) -> Result<&'static Reader, Option<(&'static str, String)>> {
    let Some(reader) = READERS.iter().find(|reader| reader.kind.to_string() == kind) else {
        let names =
            READERS.iter().filter(|reader| reader.group() == group).map(|reader| reader.kind.to_string());
        let names: Vec<String> = names.collect();
        let hint = spelling::did_you_mean(kind, names.iter().map(String::as_str));
        let slip = is_istio(group) && !hint.is_empty();
        return Err(slip.then(|| ("kind", format!("there is no kind {kind:?} in {group}{hint}"))));
    };
    if reader.group() != group {
        let slip = is_istio(group) && is_istio(reader.group()) || group == CORE && is_istio(reader.group());
        let message = || format!("{kind} belongs to {}: write {0}/{}", reader.group(), reader.versions[0]);
        return Err(slip.then(|| ("apiVersion", message())));
    }
    if !reader.versions.contains(&version) {
        let versions = reader.versions.join(", ");
        let message = format!("{kind} has no version {version:?}: use one of {versions}");
        return Err(Some(("apiVersion", message)));
    }
    Ok(reader)
}

#[cfg(test)]
mod tests;
