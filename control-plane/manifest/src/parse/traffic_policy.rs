//! Traffic policies of a DestinationRule: general, of a port, of a subset (POLICY.md V2, V3).

use std::collections::BTreeSet;

use eastwest_model::policy::{ClientTls, ClientTlsMode, PolicyBlocks, PortTrafficPolicy, TrafficPolicy};

use super::policy_blocks;
use crate::field::Field;

const PORT_FIELDS: &[&str] = &["tls", "loadBalancer", "connectionPool", "outlierDetection"];
const ONLY_GENERAL_FIELDS: &[&str] = &["portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"];
const TLS_FIELDS: &[&str] = &[
    "mode",
    "clientCertificate",
    "privateKey",
    "caCertificates",
    "credentialName",
    "subjectAltNames",
    "sni",
    "insecureSkipVerify",
    "caCrl",
];
/// What a credential replaces.
const FILES: &[&str] = &["clientCertificate", "privateKey", "caCertificates", "caCrl"];
const MODES: &[(&str, ClientTlsMode)] = &[
    ("DISABLE", ClientTlsMode::Disable),
    ("SIMPLE", ClientTlsMode::Simple),
    ("MUTUAL", ClientTlsMode::Mutual),
    ("ISTIO_MUTUAL", ClientTlsMode::IstioMutual),
];
/// The longest server name, in bytes.
const MAX_SNI: usize = 255;

/// What the policies of one rule have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule<'a> {
    /// The namespace of the rule.
    pub(super) namespace: &'a str,
    /// It has a workload selector.
    pub(super) selects: bool,
}

impl Rule<'_> {
    /// A `trafficPolicy`, if there is one.
    pub(super) fn traffic_policy(&self, field: &Field<'_>) -> Option<TrafficPolicy> {
        if !field.is_set() {
            return None;
        }
        let fields = [PORT_FIELDS, ONLY_GENERAL_FIELDS].concat();
        if !field.knows(&fields).has_any(&fields) {
            field.error(format_args!("is empty: set one of {}, or drop it", fields.join(", ")));
        }
        let (tunnel, proxy_protocol) = (field.get("tunnel"), field.get("proxyProtocol"));
        if tunnel.is_set() && proxy_protocol.is_set() {
            tunnel.error("excludes proxyProtocol: drop one of the two");
        }
        let blocks = self.blocks(field);
        Some(TrafficPolicy {
            ports: self.ports(&field.get("portLevelSettings"), blocks.tls.is_some()),
            blocks,
            tunnel: policy_blocks::tunnel(&tunnel),
            proxy_protocol: policy_blocks::proxy_protocol(&proxy_protocol),
            retry_budget: policy_blocks::retry_budget(&field.get("retryBudget")),
        })
    }

    /// The blocks that a general policy and an entry for a port have in common.
    fn blocks(&self, field: &Field<'_>) -> PolicyBlocks {
        PolicyBlocks {
            tls: self.tls(&field.get("tls")),
            load_balancer: policy_blocks::load_balancer(&field.get("loadBalancer")),
            connection_pool: policy_blocks::connection_pool(&field.get("connectionPool")),
            outlier_detection: policy_blocks::outlier_detection(&field.get("outlierDetection")),
        }
    }

    fn ports(&self, field: &Field<'_>, general_tls: bool) -> Vec<PortTrafficPolicy> {
        let mut seen = BTreeSet::new();
        let ports = field.list().into_iter().filter_map(|entry| {
            let settings = self.port(&entry)?;
            let number = entry.get("port").get("number");
            if !seen.insert(settings.port) {
                number.warn(format_args!("{} stands twice: the first entry holds, this one is ignored", settings.port));
            }
            if u16::try_from(settings.port).is_ok_and(|port| port > 0) {
                if general_tls && settings.blocks.tls.is_none() {
                    entry.warn("an entry replaces the whole general policy: without tls of its own this port loses the general tls");
                }
            } else {
                number.warn(format_args!("{} is no port of any Service: this entry does nothing", settings.port));
            }
            Some(settings)
        });
        ports.collect()
    }

    fn port(&self, entry: &Field<'_>) -> Option<PortTrafficPolicy> {
        entry.knows(&[PORT_FIELDS, &["port"]].concat());
        if !entry.has_any(PORT_FIELDS) {
            entry.error(format_args!("an entry needs content: set one of {}", PORT_FIELDS.join(", ")));
        }
        let blocks = self.blocks(entry);
        let port = entry.get("port");
        port.required("an entry needs port.number, the number of a Service port").knows(&["number"]);
        let port = port.is_mapping().then(|| port.get("number").integer(0..=u32::MAX.into()).unwrap_or(0))?;
        Some(PortTrafficPolicy { port, blocks })
    }

    /// A `tls` block, if there is one. Without `mode` it means DISABLE (T3).
    fn tls(&self, field: &Field<'_>) -> Option<ClientTls> {
        if !field.is_set() {
            return None;
        }
        let mode = field.knows(TLS_FIELDS).get("mode");
        if !mode.is_set() {
            mode.warn("missing, and that means DISABLE: write the mode out");
        }
        let tls = ClientTls {
            mode: mode.choice("modes", MODES).unwrap_or(ClientTlsMode::Disable),
            sni: field.get("sni").name(),
            subject_alt_names: field.get("subjectAltNames").names(),
            client_certificate: field.get("clientCertificate").name(),
            private_key: field.get("privateKey").name(),
            ca_certificates: field.get("caCertificates").name(),
            credential_name: field.get("credentialName").name(),
            insecure_skip_verify: field.get("insecureSkipVerify").flag().unwrap_or(false),
        };
        self.check_credential(field, &tls);
        check_skip_verify(field, &tls);
        check_files(field, &tls);
        if tls.sni.as_ref().is_some_and(|name| name.len() > MAX_SNI) {
            field.get("sni").error(format_args!("has more than {MAX_SNI} bytes, which no server name has"));
        }
        if tls.subject_alt_names.iter().any(|name| name.is_empty()) {
            field.get("subjectAltNames").warn("has an empty name, which no certificate carries: drop it");
        }
        Some(tls)
    }

    fn check_credential(&self, field: &Field<'_>, tls: &ClientTls) {
        let Some(name) = &tls.credential_name else { return };
        let field_name = field.get("credentialName");
        let of_config_map = name.strip_prefix("configmap://");
        if let Some(reference) = of_config_map {
            let own = self.namespace;
            match reference.split_once('/') {
                Some((namespace, name)) if namespace == own && !name.is_empty() && !name.contains('/') => {}
                _ => field_name.error(format_args!(
                    "{name:?} is refused: a ConfigMap must be of the rule's own namespace, configmap://{own}/NAME"
                )),
            }
        }
        if !matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual) {
            return field_name.warn(format_args!("has no effect with mode {}: drop it", tls.mode));
        }
        let files: Vec<_> = FILES.iter().filter(|key| field.get(key).name().is_some()).copied().collect();
        if !files.is_empty() {
            let files = files.join(", ");
            field_name.error(format_args!(
                "credentialName {name:?} excludes {files}: give one source of certificates"
            ));
        }
        if of_config_map.is_none() && !self.selects {
            field_name.warn("is ignored by sidecars unless the rule has a workloadSelector: the connections are PLAINTEXT");
        }
    }
}

/// `insecureSkipVerify` contradicts whatever says what to verify.
fn check_skip_verify(field: &Field<'_>, tls: &ClientTls) {
    if !tls.insecure_skip_verify {
        return;
    }
    let skip = field.get("insecureSkipVerify");
    let mut verified: Vec<&str> = Vec::new();
    verified.extend(tls.ca_certificates.as_ref().map(|_| "caCertificates"));
    verified.extend((!tls.subject_alt_names.is_empty()).then_some("subjectAltNames"));
    match tls.mode {
        ClientTlsMode::Simple => verified.extend(tls.credential_name.as_ref().map(|_| "credentialName")),
        ClientTlsMode::Mutual if tls.credential_name.is_some() => {
            skip.warn("the trust bundle of credentialName is not used: any server certificate is accepted");
        }
        ClientTlsMode::Mutual => {}
        mode => return skip.warn(format_args!("has no effect with mode {mode}: drop it")),
    }
    if !verified.is_empty() {
        skip.error(format_args!("excludes {}: verify the server, or do not", verified.join(", ")));
    }
}

/// Client certificate and key: needed by MUTUAL, useless in every other mode.
fn check_files(field: &Field<'_>, tls: &ClientTls) {
    let client = [("clientCertificate", &tls.client_certificate), ("privateKey", &tls.private_key)];
    match tls.mode {
        ClientTlsMode::Mutual if tls.credential_name.is_some() => {}
        ClientTlsMode::Mutual => {
            for (key, _) in client.iter().filter(|(_, path)| path.is_none()) {
                let remedy =
                    "give the path, or a credentialName, or use ISTIO_MUTUAL for the mesh's certificates";
                field.get(key).error(format_args!("missing: mode MUTUAL needs {key}; {remedy}"));
            }
        }
        mode => {
            let ca = ("caCertificates", &tls.ca_certificates);
            let unused = client.into_iter().chain((mode != ClientTlsMode::Simple).then_some(ca));
            for (key, _) in unused.filter(|(_, path)| path.is_some()) {
                field.get(key).warn(format_args!("has no effect with mode {mode}: drop it"));
            }
        }
    }
}
