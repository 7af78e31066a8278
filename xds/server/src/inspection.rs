//! The state of all clients as messages: istiod's debug types over xDS, and the client status discovery service
//! (XDS.md X66, X67). Secrets are named, never shown.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use eastwest_proto::Any;
use eastwest_proto::envoy::admin::v3::{
    ClustersConfigDump, EndpointsConfigDump, ListenersConfigDump, RoutesConfigDump, UpdateFailureState,
    clusters_config_dump::DynamicCluster,
    endpoints_config_dump::DynamicEndpointConfig,
    listeners_config_dump::{DynamicListener, DynamicListenerState},
    routes_config_dump::DynamicRouteConfig,
};
use eastwest_proto::envoy::config::core::v3 as core;
use eastwest_proto::envoy::service::status::v3::{
    ClientConfig, ConfigStatus, client_config::GenericXdsConfig,
};
use eastwest_xds::{EncodedResource, Stream, SyncState, SyncStatus, TypeUrl};
use prost_types::{Struct, Timestamp, Value, value::Kind};

use crate::connections::{ClientFacts, Connection, Connections, wall_clock};

/// The debug types, which are no resources.
const PREFIX: &str = "istio.io/debug";

/// A debug type that is answered (XDS.md X66).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DebugType {
    /// The state of each proxy.
    Syncz,
    /// What one proxy may have.
    ConfigDump,
}

impl DebugType {
    /// All of them, for messages.
    pub(crate) const NAMES: &str = "istio.io/debug/syncz, istio.io/debug/config_dump";

    /// The debug type of a request: `None` if it is about resources.
    ///
    /// # Errors
    /// A debug type that is not answered.
    pub(crate) fn read(type_url: &str) -> Result<Option<Self>, UnknownDebugType> {
        match type_url.strip_prefix(PREFIX) {
            Some("/syncz") => Ok(Some(Self::Syncz)),
            Some("/config_dump") => Ok(Some(Self::ConfigDump)),
            Some(_) => Err(UnknownDebugType),
            None => Ok(None),
        }
    }

    /// The messages that answer it, each with a name.
    pub(crate) fn answer(self, connections: &Connections, names: &[String]) -> Vec<(String, Any)> {
        let open = connections.open();
        match self {
            Self::Syncz => open.iter().filter_map(|one| by_type(one)).map(named).collect(),
            Self::ConfigDump => match names {
                [name] => {
                    let newest = open.iter().rev().find(|one| is_called(one.client(), name));
                    newest.map(|one| dump(one)).unwrap_or_default()
                }
                _ => Vec::new(),
            },
        }
    }
}

/// A debug type that is not answered.
pub(crate) struct UnknownDebugType;

fn named(config: ClientConfig) -> (String, Any) {
    let name = config.node.as_ref().map_or(String::new(), |node| node.id.clone());
    (name, Any::pack(&config))
}

/// Whether a name means the client: POD.NAMESPACE or the id of its node.
fn is_called(client: &ClientFacts, name: &str) -> bool {
    client.node == name
        || name.strip_prefix(&*client.pod).and_then(|rest| rest.strip_prefix('.')) == Some(&*client.namespace)
}

/// The node as it is shown: its id, and of its metadata what `istioctl proxy-status` prints.
fn node(client: &ClientFacts) -> core::Node {
    let namespace = Some(client.namespace.clone());
    let metadata = [
        ("CLUSTER_ID", &client.cluster),
        ("NAMESPACE", &namespace),
        ("ISTIO_VERSION", &client.agent_version),
    ];
    let text = |text: &String| Value { kind: Some(Kind::StringValue(text.clone())) };
    let fields =
        metadata.into_iter().filter_map(|(key, value)| Some((key.to_owned(), text(value.as_ref()?))));
    core::Node {
        id: client.node.clone(),
        metadata: Some(Struct { fields: fields.collect() }),
        ..core::Node::default()
    }
}

fn config_status(state: SyncState) -> ConfigStatus {
    match state {
        SyncState::NotSent => ConfigStatus::NotSent,
        SyncState::Synced => ConfigStatus::Synced,
        SyncState::Stale => ConfigStatus::Stale,
        SyncState::Error => ConfigStatus::Error,
    }
}

fn timestamp(since: Option<Instant>) -> Option<Timestamp> {
    since.map(|since| Timestamp::from(wall_clock(since)))
}

/// One entry for each type; `None` for a stream that has requested none.
fn by_type(connection: &Connection) -> Option<ClientConfig> {
    let stream = connection.stream();
    let configs: Vec<_> = stream.status().iter().map(type_entry).collect();
    let node = node(connection.client());
    (!configs.is_empty()).then(|| ClientConfig {
        node: Some(node),
        generic_xds_configs: configs,
        ..ClientConfig::default()
    })
}

fn type_entry(status: &SyncStatus) -> GenericXdsConfig {
    GenericXdsConfig {
        type_url: status.type_url.to_string(),
        version_info: status.sent_version.map(|version| version.to_string()).unwrap_or_default(),
        last_updated: timestamp(status.since),
        config_status: config_status(status.state).into(),
        error_state: status.error.clone().map(|details| UpdateFailureState {
            last_update_attempt: timestamp(status.since),
            details,
            ..UpdateFailureState::default()
        }),
        ..GenericXdsConfig::default()
    }
}

/// One entry for each resource that the client has or refused. A type without any has an entry of its own.
pub(crate) fn by_resource(connection: &Connection, contents: bool) -> ClientConfig {
    let stream = connection.stream();
    let statuses = stream.status();
    let configs = statuses.iter().flat_map(|status| resource_entries(&stream, status, contents)).collect();
    ClientConfig {
        node: Some(node(connection.client())),
        generic_xds_configs: configs,
        ..ClientConfig::default()
    }
}

fn resource_entries(stream: &Stream, status: &SyncStatus, contents: bool) -> Vec<GenericXdsConfig> {
    let accepted = stream.accepted(&status.type_url);
    // The others of a type are not in error with the one that is refused.
    let others = match status.state {
        SyncState::Error if !status.rejected.is_empty() => SyncState::Synced,
        state => state,
    };
    let entry = |state: SyncState| GenericXdsConfig {
        config_status: config_status(state).into(),
        ..type_entry(status)
    };
    let mut entries: Vec<_> = accepted
        .into_iter()
        .filter(|one| !status.rejected.contains(&one.name))
        .map(|one| GenericXdsConfig {
            name: one.name.to_string(),
            version_info: one.version.to_string(),
            xds_config: one.resource.filter(|_| contents).and_then(|resource| shown(&resource)),
            error_state: None,
            ..entry(others)
        })
        .collect();
    let refused = status.rejected.iter();
    entries
        .extend(refused.map(|name| GenericXdsConfig { name: name.to_string(), ..entry(SyncState::Error) }));
    if entries.is_empty() {
        entries.push(type_entry(status));
    }
    entries
}

/// A resource as it may be shown; `None` for a secret.
fn shown(resource: &EncodedResource) -> Option<Any> {
    let type_url = resource.type_url();
    (*type_url != TypeUrl::SECRET).then(|| Any { type_url: type_url.to_string(), value: resource.body() })
}

/// What the client may have of what it has requested, in the messages of Envoy's own dump. Envoy has one for each of
/// these types.
fn dump(connection: &Connection) -> Vec<(String, Any)> {
    let (view, stream) = (connection.view(), connection.stream());
    let types = stream.status().into_iter().map(|one| one.type_url);
    let dumps = types.filter_map(|type_url| {
        let resources = stream.subscribed(&view, &type_url).into_iter();
        Some(match type_url.plural() {
            "clusters" => Any::pack(&ClustersConfigDump {
                dynamic_active_clusters: resources.map(cluster).collect(),
                ..ClustersConfigDump::default()
            }),
            "listeners" => Any::pack(&ListenersConfigDump {
                dynamic_listeners: resources.map(listener).collect(),
                ..ListenersConfigDump::default()
            }),
            "routes" => {
                Any::pack(&RoutesConfigDump { dynamic_route_configs: resources.map(route).collect() })
            }
            "endpoints" => Any::pack(&EndpointsConfigDump {
                dynamic_endpoint_configs: resources.map(endpoints).collect(),
            }),
            _ => return None,
        })
    });
    dumps.map(|any| (any.type_url.clone(), any)).collect()
}

fn now() -> Option<Timestamp> {
    Some(Timestamp::from(SystemTime::now()))
}

fn cluster(one: Arc<EncodedResource>) -> DynamicCluster {
    let version_info = one.version().to_string();
    DynamicCluster { version_info, cluster: shown(&one), last_updated: now(), ..DynamicCluster::default() }
}

fn listener(one: Arc<EncodedResource>) -> DynamicListener {
    let version_info = one.version().to_string();
    let state = DynamicListenerState { version_info, listener: shown(&one), last_updated: now() };
    DynamicListener { name: one.name().to_string(), active_state: Some(state), ..DynamicListener::default() }
}

fn route(one: Arc<EncodedResource>) -> DynamicRouteConfig {
    let version_info = one.version().to_string();
    let (route_config, last_updated) = (shown(&one), now());
    DynamicRouteConfig { version_info, route_config, last_updated, ..DynamicRouteConfig::default() }
}

fn endpoints(one: Arc<EncodedResource>) -> DynamicEndpointConfig {
    let version_info = one.version().to_string();
    let (endpoint_config, last_updated) = (shown(&one), now());
    DynamicEndpointConfig { version_info, endpoint_config, last_updated, ..DynamicEndpointConfig::default() }
}

/// The head of a debug answer, the same in both variants.
pub(crate) fn control_plane(identifier: &str) -> core::ControlPlane {
    core::ControlPlane { identifier: identifier.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_called_by_pod_and_namespace_or_by_node() {
        let client = ClientFacts {
            node: "sidecar~10.0.0.7~web.v1-0.shop~d".to_owned(),
            namespace: "shop".to_owned(),
            pod: "web.v1-0".to_owned(),
            addresses: Vec::new(),
            cluster: None,
            agent_version: None,
            proxy_version: None,
        };
        assert!(is_called(&client, "web.v1-0.shop") && is_called(&client, &client.node));
        for other in ["web.v1-0", "web.v1-0.shop2", "b.v1-0.shop", "", "shop"] {
            assert!(!is_called(&client, other), "{other}");
        }
    }

    #[test]
    fn debug_types_are_told_from_resources() {
        assert_eq!(DebugType::read("istio.io/debug/syncz").ok().flatten(), Some(DebugType::Syncz));
        assert!(DebugType::read(TypeUrl::CLUSTER.as_str()).is_ok_and(|one| one.is_none()));
        assert!(DebugType::read("istio.io/debug").is_err() && DebugType::read("istio.io/debug/x").is_err());
    }
}
