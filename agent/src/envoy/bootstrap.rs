//! Envoy's bootstrap, as data (ENVOY.md E3 and E4).
//!
//! Envoy connects to the control plane directly, with the certificate from the agent: there is no proxy on the path of
//! ADS. Keep-alive and a bounded back-off, both off by default in Envoy, let it detect an unreachable control plane and
//! reconnect within seconds. A test reads the document as the typed `Bootstrap`, which accepts no fields that Envoy
//! does not know.

use std::net::IpAddr;

use rustls_pki_types::ServerName;
use serde_json::{Map, Value, json};

use crate::{
    config::Settings,
    sds::{CONTROL_PLANE_ROOTS, WORKLOAD},
};

/// The cluster of the control plane.
const XDS_CLUSTER: &str = "xds-grpc";
/// The cluster of the agent's secret discovery service; resources of control planes refer to it.
const SDS_CLUSTER: &str = "sds-grpc";
const PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The bootstrap in YAML.
///
/// # Errors
/// The document cannot be written as YAML; this does not happen.
pub(crate) fn yaml(settings: &Settings) -> Result<String, serde_saphyr::ser_error::Error> {
    let document = serde_saphyr::to_string(&bootstrap(settings))?;
    Ok(format!("# Written by `eastwest agent` at each start: edits are lost.\n{document}"))
}

/// The bootstrap.
pub(crate) fn bootstrap(settings: &Settings) -> Value {
    let admin = settings.admin_address();
    let mut bootstrap = json!({
        "node": node(settings),
        "admin": {"address": socket_address(&admin.ip().to_string(), admin.port())},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [grpc_service(XDS_CLUSTER)],
            },
            "cds_config": ads(),
            "lds_config": ads(),
        },
        "static_resources": {"clusters": [control_plane_cluster(settings), agent_cluster(settings)]},
    });
    if settings.config.internal_listeners {
        allow_internal_listeners(&mut bootstrap);
    }
    bootstrap
}

/// Allows internal listeners. By default Envoy ends a connection to one with a reset, which discards data in flight:
/// the last response before `connection: close`.
fn allow_internal_listeners(bootstrap: &mut Value) {
    bootstrap["bootstrap_extensions"] = json!([{
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
        },
    }]);
    bootstrap["layered_runtime"] = json!({"layers": [{
        "name": "eastwest",
        "static_layer": {
            "envoy.reloadable_features.enable_send_rst_on_user_space_socket": false,
            // Policies of access: long names in patterns, and paths with a fragment, which is cut off (ENVOY.md E32).
            "envoy.reloadable_features.http_reject_path_with_fragment": false,
            "re2.max_program_size.error_level": 32768,
        },
    }]});
}

/// The node. The control plane authorizes by certificate, and the node must agree with it.
fn node(settings: &Settings) -> Value {
    let config = &settings.config;
    let (pod, namespace) = (&config.pod, &config.namespace);
    let ips: Vec<_> = settings.ips.iter().map(ToString::to_string).collect();
    let ip = &ips[0]; // There is at least one.
    let app = config.labels.get("app").unwrap_or(pod);
    let labels: Map<_, _> = config.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "id": format!("sidecar~{ip}~{pod}.{namespace}~{namespace}.svc.{}", config.cluster_domain),
        "cluster": format!("{app}.{namespace}"),
        "metadata": {
            "NAME": pod,
            "NAMESPACE": namespace,
            "SERVICE_ACCOUNT": config.service_account,
            "LABELS": labels,
            "INSTANCE_IPS": ips.join(","),
            "CLUSTER_ID": config.cluster_id,
            "AGENT_VERSION": concat!("eastwest ", env!("CARGO_PKG_VERSION")),
            "INTERCEPTION_MODE": "REDIRECT",
            "INBOUND_LISTENER_PORT": config.inbound_port.to_string(),
            "OUTBOUND_LISTENER_PORT": config.outbound_port.to_string(),
            "ENVOY_STATUS_PORT": config.status_port.to_string(),
            "INTERNAL_LISTENERS": config.internal_listeners.to_string(),
        },
    })
}

fn control_plane_cluster(settings: &Settings) -> Value {
    let peer = &settings.control_plane;
    let mut cluster = grpc_cluster(XDS_CLUSTER, socket_address(&peer.host, peer.port));
    match peer.host.parse::<IpAddr>() {
        Ok(_) => cluster["type"] = json!("STATIC"),
        Err(_) => {
            cluster["cluster_type"] = json!({
                "name": "envoy.cluster.dns",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
                    "dns_lookup_family": "ALL",
                    "all_addresses_in_single_endpoint": true,
                },
            });
        }
    }
    // One connection for each stream: when the control plane refuses one because the certificate has expired, the next
    // one must present the renewed certificate.
    cluster["typed_extension_protocol_options"][PROTOCOL_OPTIONS]["common_http_protocol_options"] =
        json!({"max_requests_per_connection": 1});
    cluster["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": tls_context(&peer.name),
    });
    cluster
}

/// TLS to the control plane, whose certificate must have `name`. Sessions are not resumed, so each connection presents
/// the certificate held at that time.
fn tls_context(name: &ServerName<'_>) -> Value {
    let san_type = if matches!(name, ServerName::DnsName(_)) { "DNS" } else { "IP_ADDRESS" };
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "max_session_keys": 0,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [sds(WORKLOAD)],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [
                        {"san_type": san_type, "matcher": {"exact": name.to_str()}},
                    ],
                },
                "validation_context_sds_secret_config": sds(CONTROL_PLANE_ROOTS),
            },
        },
    });
    if matches!(name, ServerName::DnsName(_)) {
        context["sni"] = json!(name.to_str());
    }
    context
}

fn agent_cluster(settings: &Settings) -> Value {
    let mut cluster = grpc_cluster(SDS_CLUSTER, json!({"pipe": {"path": settings.sds_socket()}}));
    cluster["type"] = json!("STATIC");
    cluster
}

fn grpc_cluster(name: &str, address: Value) -> Value {
    json!({
        "name": name,
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            PROTOCOL_OPTIONS: {
                "@type": format!("type.googleapis.com/{PROTOCOL_OPTIONS}"),
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "15s", "timeout": "5s"}},
                },
            },
        },
    })
}

fn sds(name: &str) -> Value {
    json!({
        "name": name,
        "sds_config": {
            "resource_api_version": "V3",
            "initial_fetch_timeout": "0s",
            "api_config_source": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [grpc_service(SDS_CLUSTER)],
            },
        },
    })
}

fn grpc_service(cluster: &str) -> Value {
    let back_off = json!({"base_interval": "0.5s", "max_interval": "5s"});
    json!({"envoy_grpc": {"cluster_name": cluster, "retry_policy": {"retry_back_off": back_off}}})
}

fn ads() -> Value {
    json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"})
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

#[cfg(test)]
mod tests;
