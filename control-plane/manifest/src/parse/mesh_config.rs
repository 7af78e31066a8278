//! ConfigMap `istio` of the root namespace: its key `mesh` is the MeshConfig.

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{
    MeshConfig, Meta, Object, TrustDomain,
    mesh::{MESH_CONFIG_MAP, OutboundTrafficPolicy, PathNormalization, TlsVersion},
    names::is_dns_label,
};

use super::{extension_providers, mesh_traffic, tls_parameters};
use crate::{document, field::Field, spelling};

const TLS_VERSIONS: &[(&str, TlsVersion)] =
    &[("TLS_AUTO", TlsVersion::V1_2), ("TLSV1_2", TlsVersion::V1_2), ("TLSV1_3", TlsVersion::V1_3)];
/// Words of an `outboundTrafficPolicy`.
pub(super) const OUTBOUND: &[(&str, OutboundTrafficPolicy)] =
    &[("ALLOW_ANY", OutboundTrafficPolicy::AllowAny), ("REGISTRY_ONLY", OutboundTrafficPolicy::RegistryOnly)];
/// The fields that are honoured. MeshConfig has a hundred more, which are valid and passed over.
const FIELDS: &[&str] = &[
    "trustDomain",
    "trustDomainAliases",
    "rootNamespace",
    "enableAutoMtls",
    "meshMTLS",
    "tlsDefaults",
    "outboundTrafficPolicy",
    "defaultDestinationRuleExportTo",
    "accessLogFile",
    "connectTimeout",
    "tcpKeepalive",
    "h2UpgradePolicy",
    "defaultTrafficPolicy",
    "defaultHttpRetryPolicy",
    "localityLbSetting",
    "pathNormalization",
    "extensionProviders",
];
/// Words of `pathNormalization.normalization`.
const NORMALIZATIONS: &[(&str, PathNormalization)] = &[
    ("DEFAULT", PathNormalization::Base),
    ("NONE", PathNormalization::None),
    ("BASE", PathNormalization::Base),
    ("MERGE_SLASHES", PathNormalization::MergeSlashes),
    ("DECODE_AND_MERGE_SLASHES", PathNormalization::DecodeAndMergeSlashes),
];

/// Whether this ConfigMap is the one.
pub(super) fn is_it(meta: &Meta, defaults: &MeshConfig) -> bool {
    &**meta.name() == MESH_CONFIG_MAP && *meta.namespace() == defaults.root_namespace
}

pub(super) fn read(meta: Meta, root: &Field<'_>, defaults: &MeshConfig) -> Option<Object> {
    let field = root.get("data").get("mesh");
    let text = field.required("ConfigMap istio holds the MeshConfig under the key \"mesh\"").text()?;
    let mut documents = Vec::new();
    for result in document::read(text, "") {
        match result {
            Ok(document) => documents.push(document),
            Err(error) => field.error(format_args!("line {}: {}", error.line, error.message)),
        }
    }
    let mesh = match &documents[..] {
        [] => {
            field.warn("is empty: every setting of the mesh is the default");
            defaults.clone()
        }
        [document] => field.inside(&document.value, |inner| {
            inner.refuse(&document.duplicates);
            read_mesh(inner, defaults)
        }),
        _ => {
            field.error("holds several documents: write one MeshConfig");
            return None;
        }
    };
    Some(Object::MeshConfig(Arc::new(meta), Arc::new(mesh)))
}

fn read_mesh(field: &Field<'_>, defaults: &MeshConfig) -> MeshConfig {
    warn_of_slips(field);
    field.get("meshMTLS").slips(&["minProtocolVersion", "cipherSuites", "ecdhCurves"]);
    field.get("tlsDefaults").slips(&["minProtocolVersion", "cipherSuites", "ecdhCurves"]);
    let root_namespace = field.get("rootNamespace");
    if root_namespace.name().is_some_and(|name| name != defaults.root_namespace) {
        let flag = &defaults.root_namespace;
        root_namespace.warn(format_args!("is ignored: the root namespace is {flag:?}, see --root-namespace"));
    }
    let mut mesh = defaults.clone();
    set(&mut mesh.trust_domain, field.get("trustDomain").parse(TrustDomain::parse));
    set(&mut mesh.enable_auto_mtls, field.get("enableAutoMtls").flag());
    let mesh_tls = field.get("meshMTLS");
    set(&mut mesh.min_tls_version, mesh_tls.get("minProtocolVersion").choice("versions", TLS_VERSIONS));
    let outbound = field.get("outboundTrafficPolicy");
    outbound.slips(&["mode", "egressProxy", "tls"]);
    let mode = outbound.get("mode");
    match mode.text() {
        // Allowed for the mesh alone: connections to unknown hosts are passed through without a lookup.
        Some("ALLOW_ANY_DYNAMIC_DNS") => {
            mode.warn("acts as ALLOW_ANY: unknown hosts are dialled where the caller's address leads");
            mesh.outbound_traffic_policy = OutboundTrafficPolicy::AllowAny;
        }
        _ => set(&mut mesh.outbound_traffic_policy, mode.choice("modes", OUTBOUND)),
    }
    let exported = field.get("defaultDestinationRuleExportTo");
    set(&mut mesh.default_destination_rule_export_to, exported.is_set().then(|| namespaces(&exported)));
    let access_log = field.get("accessLogFile");
    set(&mut mesh.access_log_file, access_log.is_set().then(|| access_log.name()));
    mesh.traffic = Arc::new(mesh_traffic::read(field));
    let paths = field.get("pathNormalization");
    let normalization = paths.slips(&["normalization"]).get("normalization");
    set(&mut mesh.path_normalization, normalization.choice("normalizations", NORMALIZATIONS));
    mesh.authorizers = extension_providers::authorizers(&field.get("extensionProviders"));
    mesh.trust_domain_aliases = aliases(&field.get("trustDomainAliases"), &mesh.trust_domain);
    let defaults = field.get("tlsDefaults");
    mesh.tls_default_cipher_suites = tls_parameters::cipher_suites(&defaults.get("cipherSuites"));
    mesh.tls_default_curves = tls_parameters::curves(&defaults.get("ecdhCurves"));
    let version = defaults.get("minProtocolVersion");
    if version.choice("versions", TLS_VERSIONS) == Some(TlsVersion::V1_3) {
        version.warn(
            "does not reach connections to other servers: Envoy's default range of versions holds for them",
        );
    }
    for (key, read) in [
        ("cipherSuites", tls_parameters::cipher_suites as fn(&Field<'_>) -> Vec<_>),
        ("ecdhCurves", tls_parameters::curves),
    ] {
        let list = mesh_tls.get(key);
        if !read(&list).is_empty() {
            list.warn("has no effect: connections in the mesh have suites and curves of their own");
        }
    }
    mesh
}

/// Overwrites a default with what is given.
fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

fn warn_of_slips(field: &Field<'_>) {
    for (key, _) in field.entries().iter().filter(|(key, _)| !FIELDS.contains(key)) {
        let hint = spelling::did_you_mean(key, FIELDS.iter().copied());
        if !hint.is_empty() {
            field.get(key).warn(format_args!("is ignored{hint}"));
        }
    }
}

/// Trust domains. Istio also takes `*`-patterns here, which no SPIFFE ID can match; they are refused.
fn aliases(field: &Field<'_>, own: &TrustDomain) -> Vec<TrustDomain> {
    let mut domains: Vec<TrustDomain> = Vec::new();
    for item in field.list() {
        let Some(domain) = item.parse(TrustDomain::parse) else { continue };
        if domain == *own || domains.contains(&domain) {
            item.warn(format_args!("{domain} is trusted already: drop it"));
        } else {
            domains.push(domain);
        }
    }
    domains
}

fn namespaces(field: &Field<'_>) -> BTreeSet<eastwest_model::Name> {
    let items = field.list();
    for item in &items {
        if item.text().is_some_and(|text| !matches!(text, "." | "*") && !is_dns_label(text)) {
            item.error("is no namespace: use \".\", \"*\" or names of namespaces");
        }
    }
    items.iter().filter_map(Field::text).map(Into::into).collect()
}
