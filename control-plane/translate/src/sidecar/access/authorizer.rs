//! External authorizers as the filters `ext_authz` (AUTHORIZATION.md Z11).

use eastwest_engine::{access::Text, listeners::ClusterKey};
use eastwest_model::{
    Name,
    mesh::{Authorizer, AuthorizerProtocol},
};
use eastwest_proto::envoy::r#type::{
    matcher::v3::{
        ListStringMatcher, MetadataMatcher, ValueMatcher,
        metadata_matcher::{PathSegment, path_segment},
        value_matcher,
    },
    v3::HttpStatus,
};
use eastwest_proto::envoy::{
    config::core::v3::{
        ApiVersion, GrpcService, HeaderValue, HttpUri,
        grpc_service::{EnvoyGrpc, TargetSpecifier},
        http_uri::HttpUpstreamType,
    },
    extensions::filters::{
        http::ext_authz::v3::{
            AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
            ext_authz::Services,
        },
        network::ext_authz::v3::ExtAuthz as NetworkExtAuthz,
    },
};
use prost_types::Duration;

use super::{HTTP_FILTER, NETWORK_FILTER, STAT_PREFIX, condition};
use crate::resource::envoy_duration;

pub(super) const NAME_HTTP: &str = "envoy.filters.http.ext_authz";
pub(super) const NAME_NETWORK: &str = "envoy.filters.network.ext_authz";
/// What the names of CUSTOM rules begin with.
pub(super) const POLICY: &str = "istio-ext-authz";
/// What RBAC notes a CUSTOM rule that matches under.
pub(super) const SHADOW_PREFIX: &str = "istio_ext_authz_";
const SHADOW_ID: &str = "istio_ext_authz_shadow_effective_policy_id";
/// How long an answer may take where nothing is said.
const TIMEOUT: Duration = Duration { seconds: 600, nanos: 0 };
/// What refusals are while the authorizer cannot be asked.
const FORBIDDEN: u32 = 403;

/// The HTTP filter.
pub(super) fn http(one: &Authorizer) -> ExtAuthz {
    let service = match one.protocol {
        AuthorizerProtocol::Grpc => Services::GrpcService(grpc(one)),
        AuthorizerProtocol::Http => Services::HttpService(http_service(one)),
    };
    let body = one.body.map(|body| BufferSettings {
        max_request_bytes: body.max_bytes,
        allow_partial_message: body.allow_partial,
        pack_as_bytes: body.pack_as_bytes,
    });
    let status = if one.status_on_error == 0 { FORBIDDEN } else { one.status_on_error };
    ExtAuthz {
        services: Some(service),
        transport_api_version: ApiVersion::V3 as i32,
        failure_mode_allow: one.fail_open,
        status_on_error: i32::try_from(status).ok().map(|code| HttpStatus { code }),
        with_request_body: body,
        filter_enabled_metadata: Some(enabled(HTTP_FILTER, one)),
        allowed_headers: (one.protocol == AuthorizerProtocol::Http)
            .then(|| names(&one.request_headers))
            .flatten(),
        ..Default::default()
    }
}

/// The network filter; only gRPC authorizers are asked about bytes.
pub(super) fn network(one: &Authorizer) -> NetworkExtAuthz {
    NetworkExtAuthz {
        stat_prefix: STAT_PREFIX.to_owned(),
        grpc_service: Some(grpc(one)),
        failure_mode_allow: one.fail_open,
        transport_api_version: ApiVersion::V3 as i32,
        filter_enabled_metadata: Some(enabled(NETWORK_FILTER, one)),
        ..Default::default()
    }
}

/// Only what the shadow rules matched is asked about.
fn enabled(filter: &str, one: &Authorizer) -> MetadataMatcher {
    let prefix = Text::Prefix(format!("{POLICY}-{}", one.name).into());
    let text = value_matcher::MatchPattern::StringMatch(condition::matcher(&prefix, false));
    MetadataMatcher {
        filter: filter.to_owned(),
        path: vec![PathSegment { segment: Some(path_segment::Segment::Key(SHADOW_ID.to_owned())) }],
        value: Some(ValueMatcher { match_pattern: Some(text) }),
        ..Default::default()
    }
}

fn cluster(one: &Authorizer) -> String {
    ClusterKey { host: &one.host(), port: one.port }.name()
}

fn timeout(one: &Authorizer) -> Duration {
    one.timeout.map_or(TIMEOUT, envoy_duration)
}

fn grpc(one: &Authorizer) -> GrpcService {
    let target =
        EnvoyGrpc { cluster_name: cluster(one), authority: one.host().to_string(), ..Default::default() };
    GrpcService {
        timeout: Some(timeout(one)),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)),
        ..Default::default()
    }
}

fn http_service(one: &Authorizer) -> HttpService {
    let uri = HttpUri {
        uri: format!("http://{}", one.host()),
        timeout: Some(timeout(one)),
        http_upstream_type: Some(HttpUpstreamType::Cluster(cluster(one))),
    };
    let header = |(key, value): &(Name, Name)| HeaderValue {
        key: key.to_string(),
        value: value.to_string(),
        ..Default::default()
    };
    let added: Vec<HeaderValue> = one.added_headers.iter().map(header).collect();
    HttpService {
        server_uri: Some(uri),
        path_prefix: one.path_prefix.to_string(),
        authorization_request: (!added.is_empty()).then_some(AuthorizationRequest { headers_to_add: added }),
        authorization_response: Some(AuthorizationResponse {
            allowed_upstream_headers: names(&one.headers_upstream),
            allowed_client_headers: names(&one.headers_downstream_on_deny),
            allowed_client_headers_on_success: names(&one.headers_downstream_on_allow),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Names of headers, with a star at an end; case does not count.
fn names(list: &[Name]) -> Option<ListStringMatcher> {
    let pattern = |name: &Name| {
        let text = Text::of(name);
        condition::matcher(&text, text != Text::Any)
    };
    (!list.is_empty()).then(|| ListStringMatcher { patterns: list.iter().map(pattern).collect() })
}
