//! The connected proxies as the debug pages show them: their state with the objects behind what they refused, and what
//! one of them may have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use eastwest_engine::{
    ClientScope, Snapshot, compute,
    settings::{Outbound, WorkloadTls},
};
use eastwest_model::WorkloadKey;
use eastwest_translate::{
    ResourceType, Source,
    render::{RenderedResource, render_one, sources},
};
use eastwest_xds::{AcceptedResource, EncodedResource, TypeUrl};
use eastwest_xds_server::{ClientConfig, ClientType, ConnectionStatus, TypeStatus};
use serde::Serialize;

use crate::query::{ConfiguredResource, ProxyConfig, QueryError};

/// A connected proxy.
#[derive(Serialize)]
pub(super) struct ProxyStatus {
    #[serde(flatten)]
    connection: ConnectionStatus,
    /// Addresses of its pod that the proxy does not report: nothing says that connections to them are redirected to it.
    uncovered: Vec<IpAddr>,
    /// By type, where a client refused resources: the objects that these come from.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    refused_objects: BTreeMap<String, Vec<Source>>,
}

/// The state of the proxies, with the objects behind what they refused.
pub(super) fn statuses(connections: Vec<ConnectionStatus>, snapshot: &Snapshot) -> Vec<ProxyStatus> {
    let mut outbound = BTreeMap::new();
    let with_objects = |connection: ConnectionStatus| {
        let refused: Vec<_> = connection.types.iter().filter(|one| !one.rejected.is_empty()).collect();
        let settings = match refused[..] {
            [] => None,
            _ => settings(snapshot, &key(&connection), &mut outbound),
        };
        let objects = |one: &&TypeStatus| {
            let type_url = TypeUrl::parse(&one.type_url).ok()?;
            let settings = settings.as_ref()?;
            let named: BTreeSet<_> =
                one.rejected.iter().flat_map(|name| sources(settings, &type_url, name)).collect();
            Some((one.type_url.clone(), named.into_iter().collect()))
        };
        let refused_objects = refused.iter().filter_map(objects).collect();
        ProxyStatus { uncovered: uncovered(snapshot, &connection), connection, refused_objects }
    };
    connections.into_iter().map(with_objects).collect()
}

fn uncovered(snapshot: &Snapshot, connection: &ConnectionStatus) -> Vec<IpAddr> {
    let addresses = snapshot.pod(&key(connection)).map(|pod| pod.addresses.as_slice());
    let reported = |one: &&IpAddr| connection.client.addresses.contains(one);
    addresses.unwrap_or_default().iter().filter(|one| !reported(one)).copied().collect()
}

/// The workload that a node claims to be.
fn key(connection: &ConnectionStatus) -> WorkloadKey {
    let client = &connection.client;
    WorkloadKey { namespace: client.namespace.as_str().into(), name: client.pod.as_str().into() }
}

/// The settings of a workload; those for its calls are made once for each scope.
fn settings(
    snapshot: &Snapshot,
    key: &WorkloadKey,
    outbound: &mut BTreeMap<ClientScope, Arc<Outbound>>,
) -> Option<WorkloadTls> {
    compute::workload_tls_with(snapshot, key, |scope| {
        let shared = outbound.entry(scope);
        Arc::clone(shared.or_insert_with_key(|scope| Arc::new(compute::outbound(snapshot, scope))))
    })
}

/// How what a proxy may have differs from what it has accepted.
#[derive(Serialize)]
struct Change {
    #[serde(rename = "type")]
    resource_type: ResourceType,
    name: Arc<str>,
    change: ChangeKind,
    /// The version that the proxy may have.
    version: Option<String>,
    /// The version that it has accepted.
    accepted_version: Option<String>,
    sources: Vec<Source>,
    resource: Option<RenderedResource>,
    accepted_resource: Option<RenderedResource>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum ChangeKind {
    Added,
    Changed,
    Removed,
    Refused,
}

/// What the connected proxy of a workload may have, of the wanted types or of all.
pub(super) fn config(
    client: &ClientConfig,
    settings: &WorkloadTls,
    types: &[ResourceType],
    diff: bool,
) -> Result<ProxyConfig, QueryError> {
    let wanted = || ResourceType::all().filter(|one| types.is_empty() || types.contains(one));
    let mut resources = Vec::new();
    for one in wanted() {
        let set = client.view.get(&one.type_url()).into_iter().flat_map(|set| set.iter());
        for resource in set {
            resources.push(ConfiguredResource::new(render_one(settings, one, resource)?, settings));
        }
    }
    let mut changes = Vec::new();
    if diff {
        for one in wanted() {
            let requested = client.types.iter().find(|found| found.type_url == one.type_url());
            changes.extend(
                requested.map(|found| differences(settings, one, found)).transpose()?.unwrap_or_default(),
            );
        }
    }
    Ok(ProxyConfig {
        workload: settings.workload.clone(),
        proxy: Some(client.status.client.node.clone()),
        resources,
        changes: diff.then(|| serde_json::to_value(changes)).transpose()?,
    })
}

fn differences(
    settings: &WorkloadTls,
    resource_type: ResourceType,
    found: &ClientType,
) -> Result<Vec<Change>, QueryError> {
    let accepted: BTreeMap<&Arc<str>, &AcceptedResource> =
        found.accepted.iter().map(|one| (&one.name, one)).collect();
    let newest: BTreeMap<&Arc<str>, &Arc<EncodedResource>> =
        found.subscribed.iter().map(|one| (one.name(), one)).collect();
    let names: Vec<_> =
        accepted.keys().chain(newest.keys().filter(|name| !accepted.contains_key(*name))).collect();
    let mut changes = Vec::new();
    for name in names {
        let (old, new) = (accepted.get(*name), newest.get(*name));
        let refused = found.refused.contains(name);
        let change = match (old, new) {
            (Some(old), Some(new)) if old.version == new.version() => continue,
            (_, Some(_)) if refused => ChangeKind::Refused,
            (Some(_), Some(_)) => ChangeKind::Changed,
            (None, Some(_)) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
        };
        let shown = |resource: &Arc<EncodedResource>| render_one(settings, resource_type, resource);
        changes.push(Change {
            resource_type,
            name: Arc::clone(name),
            change,
            version: new.map(|new| new.version().to_string()),
            accepted_version: old.map(|old| old.version.to_string()),
            sources: sources(settings, &resource_type.type_url(), name),
            resource: new.map(|new| shown(new)).transpose()?,
            accepted_resource: old.and_then(|old| old.resource.as_ref()).map(shown).transpose()?,
        });
    }
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(changes)
}
