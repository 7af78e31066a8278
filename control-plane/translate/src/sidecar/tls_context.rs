//! TLS contexts: what a sidecar offers and what it asks for (POLICY.md I4, O2 to O6).

use eastwest_engine::settings::{CertificateSource, MeshTls, OriginatedTls, TrustSource};
use eastwest_model::{Name, TrustDomain, mesh::TlsVersion, service::Protocol};
use eastwest_proto::{
    Any, Message, Name as MessageName,
    envoy::{
        config::core::v3::{
            AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, GrpcService,
            ProxyProtocolConfig, TransportSocket, api_config_source::ApiType,
            config_source::ConfigSourceSpecifier, grpc_service, proxy_protocol_config::Version,
            transport_socket,
        },
        extensions::transport_sockets::{
            internal_upstream::v3::InternalUpstreamTransport,
            proxy_protocol::v3::ProxyProtocolUpstreamTransport,
            raw_buffer::v3::RawBuffer,
            tls::v3::{
                CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
                SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
                common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
                downstream_tls_context::SessionTicketKeysType,
                subject_alt_name_matcher::SanType,
                tls_parameters::TlsProtocol,
            },
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
};
use prost_types::Duration;

use crate::sidecar::names::{OWN_CERTIFICATE, SDS_CLUSTER, TRUST_BUNDLE};

/// AEAD suites, and RSA key exchange with GCM for old peers.
const CIPHER_SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// How long the agent, on the same machine, may take to hand out a file.
const FILE_PATIENCE: Duration = Duration { seconds: 2, nanos: 0 };

/// The server side: a client certificate of one of the trust domains is required, and sessions are never resumed, for
/// a resumed session outlives the certificates (ENVOY.md E10).
pub(crate) fn downstream(domains: &[TrustDomain], lowest: TlsVersion, http: bool) -> TransportSocket {
    let prefix = |domain| MatchPattern::Prefix(format!("spiffe://{domain}/"));
    let prefixes = domains.iter().map(|domain| matcher(SanType::Uri, prefix(domain))).collect();
    let alpn: &[&str] = if http { &["h2", "http/1.1"] } else { &["istio-peer-exchange", "h2", "http/1.1"] };
    let parameters = TlsParameters {
        tls_minimum_protocol_version: match lowest {
            TlsVersion::V1_2 => TlsProtocol::TlSv12,
            TlsVersion::V1_3 => TlsProtocol::TlSv13,
        } as i32,
        tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
        cipher_suites: CIPHER_SUITES.map(str::to_owned).into(),
        ..Default::default()
    };
    socket(
        "envoy.transport_sockets.tls",
        &DownstreamTlsContext {
            common_tls_context: Some(mesh(parameters, alpn, prefixes)),
            require_client_certificate: Some(true),
            disable_stateful_session_resumption: true,
            session_ticket_keys_type: Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)),
            ..Default::default()
        },
    )
}

/// The client side inside the mesh.
pub(crate) fn upstream_mesh(tls: &MeshTls, protocol: Protocol) -> TransportSocket {
    let alpn: &[&str] = match protocol {
        Protocol::Http2 => &["istio-peer-exchange", "istio", "h2"],
        _ => &["istio-peer-exchange", "istio"],
    };
    let parameters = TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
        tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
        ..Default::default()
    };
    socket(
        "envoy.transport_sockets.tls",
        &UpstreamTlsContext {
            common_tls_context: Some(mesh(parameters, alpn, exactly(&tls.subject_alt_names))),
            sni: tls.sni.to_string(),
            max_session_keys: Some(0),
            ..Default::default()
        },
    )
}

/// TLS that a rule originates (O5).
pub(crate) fn upstream_originated(tls: &OriginatedTls, protocol: Protocol) -> TransportSocket {
    let names = |list: &[Name]| list.iter().map(ToString::to_string).collect();
    let mut common = CommonTlsContext {
        tls_params: Some(TlsParameters {
            cipher_suites: names(&tls.cipher_suites),
            ecdh_curves: names(&tls.curves),
            ..Default::default()
        }),
        validation_context_type: validation(tls.trust.as_ref(), exactly(&tls.subject_alt_names)),
        ..Default::default()
    };
    if protocol == Protocol::Http2 {
        common.alpn_protocols = vec!["h2".to_owned()];
    }
    match &tls.certificate {
        Some(CertificateSource::Files { certificate, key }) => {
            let name = format!("file-cert:{certificate}~{key}");
            common.tls_certificate_sds_secret_configs.push(file_secret(name));
        }
        Some(CertificateSource::Credential(name)) => {
            common.tls_certificate_sds_secret_configs.push(credential(name));
        }
        None => {}
    }
    socket(
        "envoy.transport_sockets.tls",
        &UpstreamTlsContext {
            common_tls_context: Some(common),
            sni: tls.sni.as_deref().unwrap_or_default().to_owned(),
            max_session_keys: Some(0),
            ..Default::default()
        },
    )
}

/// Plaintext, where a transport socket must be named.
pub(crate) fn raw_buffer() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})
}

/// To an internal listener: bytes as they are, and what filters left for it.
pub(crate) fn internal_upstream() -> TransportSocket {
    let upstream = InternalUpstreamTransport { transport_socket: Some(raw_buffer()) };
    socket("envoy.transport_sockets.internal_upstream", &upstream)
}

/// The agent's certificate and trust bundle; peers must carry a name that one of `names` matches.
fn mesh(parameters: TlsParameters, alpn: &[&str], names: Vec<SubjectAltNameMatcher>) -> CommonTlsContext {
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: names,
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(agent_secret(TRUST_BUNDLE)),
    };
    CommonTlsContext {
        tls_params: Some(parameters),
        alpn_protocols: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
        tls_certificate_sds_secret_configs: vec![agent_secret(OWN_CERTIFICATE)],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..Default::default()
    }
}

fn validation(
    trust: Option<&TrustSource>,
    sans: Vec<SubjectAltNameMatcher>,
) -> Option<ValidationContextType> {
    let context = CertificateValidationContext { match_typed_subject_alt_names: sans, ..Default::default() };
    let roots = match trust? {
        TrustSource::File(path) => file_secret(format!("file-root:{path}")),
        TrustSource::System => file_secret("file-root:system".to_owned()),
        TrustSource::Credential(name) => credential(name),
    };
    Some(ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(context),
        validation_context_sds_secret_config: Some(roots),
    }))
}

/// Each name exactly. What is no URI may be of either kind.
fn exactly(names: &[Name]) -> Vec<SubjectAltNameMatcher> {
    let kinds = |name: &str| match name.contains("://") {
        true => &[SanType::Uri][..],
        false => &[SanType::Dns, SanType::Uri],
    };
    let exact = |name: &Name| MatchPattern::Exact(name.to_string());
    names.iter().flat_map(|name| kinds(name).iter().map(|kind| matcher(*kind, exact(name)))).collect()
}

fn matcher(kind: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: kind as i32,
        matcher: Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() }),
        ..Default::default()
    }
}

/// A secret of the agent. Fetched without a time limit: nothing may go out before it is there.
fn agent_secret(name: &str) -> SdsSecretConfig {
    of_agent(name.to_owned(), Duration::default())
}

/// A file of the pod that the agent serves (O5), as Istio's agent does under the same name. A file that is missing is
/// never answered: the cluster is taken without it then, so that its connections fail, instead of waiting beside
/// settings that no longer hold.
fn file_secret(name: String) -> SdsSecretConfig {
    of_agent(name, FILE_PATIENCE)
}

fn of_agent(name: String, patience: Duration) -> SdsSecretConfig {
    let envoy = grpc_service::EnvoyGrpc { cluster_name: SDS_CLUSTER.to_owned(), ..Default::default() };
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(envoy)),
        ..Default::default()
    };
    let api = ApiConfigSource {
        api_type: ApiType::Grpc as i32,
        transport_api_version: ApiVersion::V3 as i32,
        grpc_services: vec![service],
        set_node_on_first_message_only: true,
        ..Default::default()
    };
    let source = ConfigSource {
        initial_fetch_timeout: Some(patience),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(api)),
    };
    SdsSecretConfig { name, sds_config: Some(source) }
}

/// A secret of the control plane (O7), fetched with Envoy's own time limit: one that never comes must not hold up the
/// rest.
fn credential(name: &str) -> SdsSecretConfig {
    let source = ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    };
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(source) }
}

/// A socket that tells the server first who calls.
pub(crate) fn proxy_protocol(version: Version, inner: TransportSocket) -> TransportSocket {
    let config = Some(ProxyProtocolConfig { version: version as i32 });
    let transport =
        ProxyProtocolUpstreamTransport { config, transport_socket: Some(inner), ..Default::default() };
    socket("envoy.transport_sockets.upstream_proxy_protocol", &transport)
}

fn socket<M: Message + MessageName>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(Any::pack(config))),
    }
}
