//! The resources of a proxy as protobuf's canonical JSON, for `eastwest render` and for golden files.

use eastwest_engine::settings::WorkloadTls;
use eastwest_model::{Kind, WorkloadKey};
use eastwest_proto::{
    Any, Message as _, Name as _,
    envoy::extensions::transport_sockets::tls::v3::Secret,
    json::{JsonError, to_json},
};
use eastwest_xds::{EncodedResource, TypeUrl, View};
use serde::Serialize;
use serde_json::Value;

use crate::{Audience, ProxyFacts, ProxyRole, ResourceType, Translator, origins::Source, sidecar::sds};

/// The resources of one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rendering {
    /// Whose.
    pub workload: WorkloadKey,
    /// Its resources by type, in the order in which they are pushed, then by name.
    pub resources: Vec<RenderedResource>,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RenderedResource {
    /// Its type.
    #[serde(rename = "type")]
    pub resource_type: ResourceType,
    /// Its name.
    pub name: String,
    /// The hash of its content, which is its version on the wire.
    pub version: String,
    /// The resource itself with its type URL as `@type`, every nested `Any` resolved, keys sorted.
    pub resource: Value,
}

/// Renders the resources of a workload's proxy with or without internal listeners, of the wanted types or of all if
/// none is named. Equal settings give equal text. The keys of secrets are redacted: what stands there instead names
/// the certificate.
///
/// # Errors
/// A message that has no JSON: a type that is missing from the protocol crate.
pub fn render(
    settings: &WorkloadTls,
    types: &[ResourceType],
    internal_listeners: bool,
) -> Result<Rendering, JsonError> {
    let mut translator = Translator::default();
    let outbound = translator.outbound(ProxyRole::Sidecar, &settings.outbound, None);
    let facts = ProxyFacts { internal_listeners, ..ProxyFacts::usual(Audience::Other) };
    let view = translator.view(settings, &outbound, facts, None);
    let resources = render_view(settings, &view, types)?;
    Ok(Rendering { workload: settings.workload.clone(), resources })
}

/// The resources of a view, of the wanted types or of all if none is named; `settings` are those of its workload.
///
/// # Errors
/// As those of [`render`].
pub fn render_view(
    settings: &WorkloadTls,
    view: &View,
    types: &[ResourceType],
) -> Result<Vec<RenderedResource>, JsonError> {
    let wanted = ResourceType::all().filter(|one| types.is_empty() || types.contains(one));
    let sets = wanted.filter_map(|one| Some((one, view.get(&one.type_url())?)));
    sets.flat_map(|(of, set)| set.iter().map(move |resource| render_one(settings, of, resource))).collect()
}

/// One resource; `settings` are those of the workload. The key of a secret is redacted.
///
/// # Errors
/// As those of [`render`].
pub fn render_one(
    settings: &WorkloadTls,
    resource_type: ResourceType,
    resource: &EncodedResource,
) -> Result<RenderedResource, JsonError> {
    let mut any = Any { type_url: resource.type_url().as_str().to_owned(), value: resource.body() };
    if resource_type.type_url() == TypeUrl::SECRET {
        any = without_key(settings, resource)?;
    }
    Ok(RenderedResource {
        resource_type,
        name: resource.name().to_string(),
        version: resource.version().to_string(),
        resource: to_json(&any)?,
    })
}

fn without_key(settings: &WorkloadTls, resource: &EncodedResource) -> Result<Any, JsonError> {
    let clusters = settings.outbound.services.values().flat_map(|service| &service.clusters);
    let secret = clusters.flat_map(|cluster| cluster.secrets.get(resource.name())).next();
    let fingerprint = secret.map_or("unknown", |secret| secret.fingerprint());
    let malformed = |reason| JsonError::Malformed { type_name: Secret::full_name(), reason };
    Ok(Any::pack(&sds::redacted(Secret::decode(resource.body()).map_err(malformed)?, fingerprint)))
}

/// The objects that the resource `name` of a workload's proxy comes from, each once: policies and rules that decided it
/// first, then what they are about. Empty for resources that come from the mesh as a whole.
pub fn sources(settings: &WorkloadTls, type_url: &TypeUrl, name: &str) -> Vec<Source> {
    let builders = ProxyRole::Sidecar.types().iter().filter(|builder| builder.type_url() == *type_url);
    let mut found: Vec<_> = builders.flat_map(|builder| builder.sources(settings, name)).collect();
    let is_subject = |one: &Source| matches!(one.object.kind, Kind::Service | Kind::ServiceEntry | Kind::Pod);
    found.sort_by_key(|one| (is_subject(one), one.clone()));
    found.dedup_by(|a, b| a.object == b.object);
    found
}
