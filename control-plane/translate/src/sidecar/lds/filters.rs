//! Pieces that listeners are made of: network filters, listener filters, access logs.

use eastwest_engine::{access::Access, traffic::Relay};
use eastwest_model::{Families, Name, mesh::PathNormalization};
use eastwest_proto::{
    Any, Message, Name as MessageName,
    envoy::{
        config::{
            accesslog::v3::{
                AccessLog, AccessLogFilter, ResponseFlagFilter, access_log,
                access_log_filter::FilterSpecifier,
            },
            core::v3::{
                DataSource, Http1ProtocolOptions, SubstitutionFormatString, data_source,
                substitution_format_string::Format,
            },
            listener::v3::{Filter, FilterChain, FilterChainMatch, ListenerFilter, listener_filter},
        },
        extensions::{
            access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
            filters::{
                common::set_filter_state::v3::{FilterStateValue, filter_state_value},
                http::{router::v3::Router, set_filter_state::v3::Config as SetFilterState},
                listener::{
                    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
                    tls_inspector::v3::TlsInspector,
                },
                network::{
                    http_connection_manager::v3::{
                        HttpConnectionManager,
                        http_connection_manager::{
                            ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
                            ServerHeaderTransformation, SetCurrentClientCertDetails, UpgradeConfig,
                        },
                    },
                    set_filter_state::v3::Config as SetConnectionState,
                    tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
                },
            },
        },
        r#type::v3::{
            HashPolicy,
            hash_policy::{PolicySpecifier, SourceIp},
        },
    },
};
use prost_types::Duration;

use crate::{
    resource::envoy_duration,
    sidecar::{
        access, dynamic_hosts,
        names::REMOTE_ADDRESS,
        typed::{http_filter, network_filter},
    },
};

/// How long a listener waits for the first bytes before it goes on without knowing the protocol: the delay of
/// server-first protocols where plaintext and TLS share a port (ENVOY.md E23).
pub(super) const INSPECTION: Duration = Duration { seconds: 1, nanos: 0 };

/// The key under which an internal listener is told the address that a connection was meant for.
const LOCAL_ADDRESS: &str = "envoy.filters.listener.original_dst.local_ip";

/// A line a request or connection, with both peers' identities.
const LOG_FORMAT: &str = "[%START_TIME%] %PROTOCOL% %REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(:PATH)% \
    code=%RESPONSE_CODE% flags=%RESPONSE_FLAGS% sent=%BYTES_SENT% received=%BYTES_RECEIVED% ms=%DURATION% \
    from=%DOWNSTREAM_REMOTE_ADDRESS% to=%UPSTREAM_HOST% cluster=%UPSTREAM_CLUSTER% \
    downstream_peer=%DOWNSTREAM_PEER_URI_SAN% upstream_peer=%UPSTREAM_PEER_URI_SAN% \
    sni=%REQUESTED_SERVER_NAME%\n";

/// Which side of the workload a connection manager is on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side<'a> {
    /// Towards the application: peers are named to it, a forged name is dropped, and access is controlled.
    Inbound(&'a Access),
    /// From the application.
    Outbound,
}

/// Spellings of `x-forwarded-client-cert` that CGI, WSGI and their like cannot tell from it: they write `_` for `-`
/// (ENVOY.md E29). Envoy itself drops or sets the one with hyphens alone.
pub(super) fn spellings_of_forwarded_certificate() -> Vec<String> {
    let separators = (1..8_u8).map(|bits| [4, 2, 1].map(|bit| if bits & bit == 0 { '-' } else { '_' }));
    separators.map(|[a, b, c]| format!("x{a}forwarded{b}client{c}cert")).collect()
}

/// A connection manager. `alpn` is what the next hop is told to speak, where its sidecar must find that out from the
/// handshake (ENVOY.md E27); `dynamic`: some route leads to hosts that are looked up when they are called, in these
/// families.
pub(super) fn http(
    side: Side<'_>,
    stat_prefix: &str,
    routes: RouteSpecifier,
    alpn: Option<&str>,
    dynamic: Option<Families>,
    log: Option<&Name>,
) -> Filter {
    let access = match side {
        Side::Inbound(access) => Some(access),
        Side::Outbound => None,
    };
    let inbound = access.is_some();
    let paths = access.map(|access| access.paths);
    let alpn = alpn.map(|alpn| http_filter("envoy.filters.http.set_filter_state", &upstream_alpn(alpn)));
    let lookup = dynamic.map(|families| {
        http_filter("envoy.filters.http.dynamic_forward_proxy", &dynamic_hosts::by_host(families))
    });
    let router = http_filter("envoy.filters.http.router", &Router::default());
    let details =
        SetCurrentClientCertDetails { subject: Some(true), dns: true, uri: true, ..Default::default() };
    let forward =
        if inbound { ForwardClientCertDetails::SanitizeSet } else { ForwardClientCertDetails::Sanitize };
    let manager = HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        http_filters: access
            .map(access::http)
            .into_iter()
            .flatten()
            .chain(alpn)
            .chain(lookup)
            .chain([router])
            .collect(),
        normalize_path: paths.map(|paths| paths != PathNormalization::None),
        merge_slashes: matches!(
            paths,
            Some(PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes)
        ),
        path_with_escaped_slashes_action: escaped_slashes(paths) as i32,
        http_protocol_options: Some(Http1ProtocolOptions { accept_http_10: true, ..Default::default() }),
        server_header_transformation: ServerHeaderTransformation::PassThrough as i32,
        stream_idle_timeout: Some(Duration::default()),
        access_log: access_log(log),
        use_remote_address: Some(false),
        forward_client_cert_details: forward as i32,
        set_current_client_cert_details: inbound.then_some(details),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        route_specifier: Some(routes),
        ..Default::default()
    };
    network_filter("envoy.filters.network.http_connection_manager", &manager)
}

/// What becomes of `%2F` in paths.
fn escaped_slashes(paths: Option<PathNormalization>) -> PathWithEscapedSlashesAction {
    match paths {
        Some(PathNormalization::DecodeAndMergeSlashes) => PathWithEscapedSlashesAction::UnescapeAndForward,
        Some(_) => PathWithEscapedSlashesAction::KeepUnchanged,
        None => PathWithEscapedSlashesAction::ImplementationSpecificDefault,
    }
}

/// Looks the server name of a handshake up, for the cluster behind it to dial.
pub(super) fn server_name_lookup(port: u16, families: Families) -> Filter {
    let config = dynamic_hosts::by_server_name(port, families);
    network_filter("envoy.filters.network.sni_dynamic_forward_proxy", &config)
}

/// Bytes to one cluster, without limits.
pub(super) fn tcp(cluster: &str, log: Option<&Name>) -> Filter {
    relayed(cluster, Relay::default(), log)
}

/// Bytes to one cluster.
pub(super) fn relayed(cluster: &str, relay: Relay, log: Option<&Name>) -> Filter {
    let by_source = || HashPolicy { policy_specifier: Some(PolicySpecifier::SourceIp(SourceIp {})) };
    let proxy = TcpProxy {
        stat_prefix: cluster.to_owned(),
        idle_timeout: Some(envoy_duration(relay.idle_timeout.unwrap_or_default())),
        max_downstream_connection_duration: relay.max_connection_duration.map(envoy_duration),
        hash_policy: relay.hashes_source.then(by_source).into_iter().collect(),
        access_log: access_log(log),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    network_filter("envoy.filters.network.tcp_proxy", &proxy)
}

/// A chain of one filter.
pub(super) fn chain(name: &str, filter_chain_match: Option<FilterChainMatch>, filter: Filter) -> FilterChain {
    FilterChain { name: name.to_owned(), filter_chain_match, filters: vec![filter], ..Default::default() }
}

pub(super) fn original_dst() -> ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", &OriginalDst::default())
}

pub(super) fn tls_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default())
}

pub(super) fn http_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &HttpInspector::default())
}

/// A log of what no chain takes; all else is logged by its chain.
pub(super) fn refusal_log(path: Option<&Name>) -> Vec<AccessLog> {
    let no_chain = ResponseFlagFilter { flags: vec!["NR".to_owned()] };
    let filter = AccessLogFilter { filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(no_chain)) };
    let only_refused = |log| AccessLog { filter: Some(filter.clone()), ..log };
    access_log(path).into_iter().map(only_refused).collect()
}

fn access_log(path: Option<&Name>) -> Vec<AccessLog> {
    let log = |path: &Name| {
        let file = FileAccessLog {
            path: path.to_string(),
            access_log_format: Some(AccessLogFormat::LogFormat(text(LOG_FORMAT))),
        };
        AccessLog {
            name: "envoy.access_loggers.file".to_owned(),
            config_type: Some(access_log::ConfigType::TypedConfig(Any::pack(&file))),
            ..Default::default()
        }
    };
    path.map(log).into_iter().collect()
}

/// Overrides the ALPN of the upstream TLS handshake.
fn upstream_alpn(protocol: &str) -> SetFilterState {
    let state = told_upstream("envoy.network.application_protocols", protocol);
    SetFilterState { on_request_headers: vec![state], ..Default::default() }
}

/// Tells an internal listener where the connection comes from and wanted to go; [`original_dst`] reads it there.
pub(super) fn pass_addresses_on() -> Filter {
    let address = |key: &str, of: &str| told_upstream(key, &format!("%{of}_ADDRESS%"));
    let addresses =
        vec![address(LOCAL_ADDRESS, "DOWNSTREAM_LOCAL"), address(REMOTE_ADDRESS, "DOWNSTREAM_REMOTE")];
    let config = SetConnectionState { on_new_connection: addresses, ..Default::default() };
    network_filter("envoy.filters.network.set_filter_state", &config)
}

/// A value that the upstream connection, and nothing behind it, gets to know.
fn told_upstream(key: &str, format: &str) -> FilterStateValue {
    FilterStateValue {
        shared_with_upstream: filter_state_value::SharedWithUpstream::Once as i32,
        key: Some(filter_state_value::Key::ObjectKey(key.to_owned())),
        value: Some(filter_state_value::Value::FormatString(text(format))),
        ..Default::default()
    }
}

fn text(format: &str) -> SubstitutionFormatString {
    let source = DataSource {
        specifier: Some(data_source::Specifier::InlineString(format.to_owned())),
        ..Default::default()
    };
    SubstitutionFormatString { format: Some(Format::TextFormatSource(source)), ..Default::default() }
}

fn listener_filter<M: Message + MessageName>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(Any::pack(config))),
        ..Default::default()
    }
}
