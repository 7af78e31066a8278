//! Documents → objects of the model and diagnostics, one file a kind.
//!
//! A kind that decides nothing here is skipped without a diagnostic: a directory may also hold Roles. Of a kind that does,
//! every mistake is reported, and an object with an error is refused without effect on others. A kind that Istio reads and
//! that is not read here gets a warning that it is not in force.

mod authorization_policy;
mod authorization_values;
mod credential;
mod destination_rule;
mod duration;
mod endpoint_slice;
mod export_to;
mod extension_providers;
mod host;
mod labels;
mod mesh_config;
mod mesh_traffic;
mod metadata;
mod passed_over;
mod peer_authentication;
mod pod;
mod policy_blocks;
mod port;
mod request_authentication;
mod retries;
mod scoped;
mod service;
mod service_entry;
mod sidecar;
mod tls_parameters;
mod traffic_policy;
mod workload_entry;

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{Diagnostic, Group, Kind, MeshConfig, Meta, Name, Object, ObjectRef, Origin, Severity};

use serde_json::Value;

use crate::{
    document::{self, Duplicate},
    field::{Field, Finding, Findings},
};
use passed_over::Unread;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The valid objects, in the order of the file.
    pub objects: Vec<Object>,
    /// Everything that is wrong or surprising, errors first.
    pub diagnostics: Vec<Diagnostic>,
    /// Objects that are named but refused: their last good versions stay.
    pub refused: BTreeSet<ObjectRef>,
    /// The documents that are not in force, in the order of the file.
    pub broken: Vec<Broken>,
    /// What stands in for some of them where no good version is known ([`Entry::stand_in`]).
    pub stand_ins: Vec<Object>,
}

/// A document of a file that is not in force, or that may be cut off. It may be what is left of another object of the file,
/// or of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What it says.
    pub text: Name,
    /// The object that it names; `None` if it was meant to name one and does not.
    pub names: Option<ObjectRef>,
    /// It is the last document, so the file may be cut off in it.
    pub is_last: bool,
}

/// What one document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A kind that decides nothing here.
    Irrelevant,
    /// It names no object that is read, and was not meant to as far as is known.
    PassedOver(Diagnostic),
    /// It was meant to name an object that is read, and does not.
    Lost(Vec<Diagnostic>),
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
    let mut unlisted = Unlisted::default();
    let mut last = None;
    for document in document::read(text, &file) {
        last = None;
        if let Some(broken) = parsed.broken.last_mut() {
            broken.is_last = false;
        }
        match document {
            Ok(document) => {
                let read = read(&document.value, &document.duplicates, &at(document.line), defaults);
                last = read.accepted_policy().map(|one| (one.clone(), at(document.line)));
                parsed.add(read, || document.value.to_string().into());
            }
            Err(error) => {
                parsed.add(Document::lost(&at(error.line), "", error.message), || error.text.into());
            }
        }
        unlisted.shorten(&mut parsed.diagnostics);
    }
    if let (Some((reference, origin)), Some(key)) = (last, document::empty_at_the_end(text)) {
        parsed.may_be_cut(reference, &origin, key);
    }
    parsed.diagnostics.extend(unlisted.finding(&file));
    parsed.diagnostics.sort();
    parsed
}

/// Reads one object, of any kind, as the Kubernetes API serves it or a manifest holds it.
///
/// `origin` is where it was read, `defaults` are as for [`documents`].
pub fn object(value: &Value, origin: &Origin, defaults: &MeshConfig) -> Document {
    read(value, &[], origin, defaults)
}

fn read(value: &Value, duplicates: &[Duplicate], origin: &Origin, defaults: &MeshConfig) -> Document {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
        return match passed_over::no_object(value) {
            Ok(message) => {
                Document::PassedOver(about_file(origin, Severity::Warning, "", message.to_owned()))
            }
            Err(message) => Document::lost(origin, "", message.to_owned()),
        };
    };
    let (group, version) = api_version.rsplit_once('/').unwrap_or((CORE, api_version));
    let reader = match find_reader(group, version, kind) {
        Ok(reader) => reader,
        Err(NoReader::Irrelevant) => return Document::Irrelevant,
        Err(NoReader::PassedOver(message)) => {
            let finding = Finding::warning(message);
            return Document::PassedOver(diagnostic(metadata::reference(value, kind), origin, finding));
        }
        Err(NoReader::Unknown(message)) => {
            let finding = Finding::warning(message);
            return Document::Lost(vec![diagnostic(metadata::reference(value, kind), origin, finding)]);
        }
        Err(NoReader::Slip(field, message)) => return Document::lost(origin, field, message),
    };
    let findings = Findings::default();
    let root = Field::root(value, &findings);
    root.refuse(duplicates);
    let Some(meta) = metadata::read(&root, reader.kind, origin) else {
        let lost = |finding: Finding| {
            diagnostic(file_of(origin), origin, Finding { severity: Severity::Error, ..finding })
        };
        return Document::Lost(findings.into_set().into_iter().map(lost).collect());
    };
    if is_istio(group) {
        root.slips(&["apiVersion", "kind", "metadata", "spec", "status"]);
    }
    let reference = meta.object.clone();
    let object = (reader.read)(meta, &root, defaults);
    let findings = findings.into_set();
    let errors = findings.iter().filter(|finding| finding.refuses);
    let errors: Vec<&str> = errors.map(|finding| &*finding.field).collect();
    let refused = !errors.is_empty();
    let (object, stand_in) = match (object, refused) {
        (object, false) => (object, None),
        (Some(Object::PeerAuthentication(policy)), true) => {
            (None, peer_authentication::stand_in(&policy, &errors))
        }
        (Some(Object::AuthorizationPolicy(policy)), true) => {
            (None, authorization_policy::stand_in(&policy, &errors))
        }
        (Some(Object::DestinationRule(rule)), true) => (None, destination_rule::stand_in(&rule, &errors)),
        (_, true) => (None, None),
    };
    let about = |finding| diagnostic(reference.to_string(), origin, finding);
    let diagnostics = findings.into_iter().map(about).collect();
    Document::Entry(Entry { object, refused, stand_in, diagnostics, reference })
}

/// The most errors, and the most warnings, that are listed of a file.
const LISTED: usize = 500;

/// How many errors and warnings of a file are not listed, and how many are.
#[derive(Debug, Default)]
struct Unlisted {
    listed: [usize; 2],
    more: [usize; 2],
    /// How many diagnostics have been looked at.
    seen: usize,
}

impl Unlisted {
    /// Takes what is too much out of the diagnostics that came since the last call.
    fn shorten(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        for diagnostic in diagnostics.split_off(self.seen) {
            let sort = usize::from(diagnostic.severity == Severity::Warning);
            if self.listed[sort] < LISTED {
                self.listed[sort] += 1;
                diagnostics.push(diagnostic);
            } else {
                self.more[sort] += 1;
            }
        }
        self.seen = diagnostics.len();
    }

    /// What is said of them.
    fn finding(&self, file: &Name) -> Option<Diagnostic> {
        let [errors, warnings] = self.more;
        let severity = if errors > 0 { Severity::Error } else { Severity::Warning };
        let origin = Origin { file: Some(file.clone()), line: None };
        let message =
            format!("{errors} more errors and {warnings} more warnings of this file are not listed");
        (errors + warnings > 0).then(|| about_file(&origin, severity, "", message))
    }
}

impl Parsed {
    /// The last document ends with a key without a value: it counts, and may be what is left of a longer file.
    fn may_be_cut(&mut self, reference: ObjectRef, origin: &Origin, key: &str) {
        let message = format!("the file ends with {key:?} without a value, as if it were cut off there");
        self.diagnostics.push(diagnostic(reference.to_string(), origin, Finding::warning(message)));
        self.broken.push(Broken {
            text: reference.to_string().into(),
            names: Some(reference),
            is_last: true,
        });
    }

    /// Takes in a document, the last one so far; `text` is what it says.
    fn add(&mut self, document: Document, text: impl FnOnce() -> Name) {
        let broken = |names| self.broken.push(Broken { text: text(), names, is_last: true });
        match document {
            Document::Irrelevant => {}
            Document::PassedOver(diagnostic) => self.diagnostics.push(diagnostic),
            Document::Lost(diagnostics) => {
                broken(None);
                self.diagnostics.extend(diagnostics);
            }
            Document::Entry(entry) => {
                if entry.refused {
                    broken(Some(entry.reference.clone()));
                    self.refused.insert(entry.reference);
                }
                self.objects.extend(entry.object);
                self.stand_ins.extend(entry.stand_in);
                self.diagnostics.extend(entry.diagnostics);
            }
        }
    }
}

impl Document {
    /// The object, if it is one of Istio's kinds or the mesh's settings, and accepted.
    fn accepted_policy(&self) -> Option<&ObjectRef> {
        let Self::Entry(Entry { object: Some(object), reference, .. }) = self else { return None };
        let counts = reference.kind.group().is_istio() || matches!(object, Object::MeshConfig(..));
        counts.then_some(reference)
    }

    /// A document that was meant to name an object and does not.
    fn lost(origin: &Origin, field: &str, message: String) -> Self {
        Self::Lost(vec![about_file(origin, Severity::Error, field, message)])
    }
}

/// What is wrong with a document that names no object: it is about the file.
fn about_file(origin: &Origin, severity: Severity, field: &str, message: String) -> Diagnostic {
    let finding = Finding { severity, field: field.to_owned(), message, refuses: false };
    diagnostic(file_of(origin), origin, finding)
}

/// What a diagnostic is about that has no object.
fn file_of(origin: &Origin) -> String {
    origin.file.as_deref().unwrap_or_default().to_owned()
}

fn diagnostic(object: String, origin: &Origin, finding: Finding) -> Diagnostic {
    let Finding { severity, field, message, .. } = finding;
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
    reader(Kind::Endpoints, &["v1"], endpoint_slice::read_endpoints),
    reader(Kind::Deployment, &["v1"], pod::template),
    reader(Kind::StatefulSet, &["v1"], pod::template),
    reader(Kind::DaemonSet, &["v1"], pod::template),
    reader(Kind::ReplicaSet, &["v1"], pod::template),
    reader(Kind::Job, &["v1"], pod::template),
    reader(Kind::CronJob, &["v1"], pod::template),
    reader(Kind::ConfigMap, &["v1"], credential::config_map),
    reader(Kind::Secret, &["v1"], credential::secret),
    reader(Kind::EndpointSlice, &["v1", "v1beta1"], endpoint_slice::read),
    reader(Kind::PeerAuthentication, &["v1", "v1beta1"], peer_authentication::read),
    reader(Kind::AuthorizationPolicy, &["v1", "v1beta1"], authorization_policy::read),
    reader(Kind::RequestAuthentication, &["v1", "v1beta1"], request_authentication::read),
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

/// Why there is no reader of a document.
enum NoReader {
    /// Its kind decides nothing here.
    Irrelevant,
    /// Its kind is not read here, though somebody may expect that it does something.
    PassedOver(String),
    /// Nobody knows its kind, and its group is one of which every kind is known.
    Unknown(String),
    /// The field that is certainly a slip, and what is wrong with it.
    Slip(&'static str, String),
}

/// The reader of a kind.
fn find_reader(group: &str, version: &str, kind: &str) -> Result<&'static Reader, NoReader> {
    let Some(reader) = READERS.iter().find(|reader| reader.kind.to_string() == kind) else {
        return Err(match passed_over::judge(group, kind) {
            Unread::Irrelevant => NoReader::Irrelevant,
            Unread::PassedOver(message) => NoReader::PassedOver(message),
            Unread::Unknown(message) => NoReader::Unknown(message),
            Unread::Slip(message) => NoReader::Slip("kind", message),
        });
    };
    if reader.group() != group {
        let message = || format!("{kind} belongs to {}: write {0}/{}", reader.group(), reader.versions[0]);
        let slip = passed_over::is_slip_of(group, reader.group());
        return Err(if slip { NoReader::Slip("apiVersion", message()) } else { NoReader::Irrelevant });
    }
    if !reader.versions.contains(&version) {
        let versions = reader.versions.join(", ");
        let message = format!("{kind} has no version {version:?}: use one of {versions}");
        return Err(NoReader::Slip("apiVersion", message));
    }
    Ok(reader)
}

#[cfg(test)]
mod tests;
