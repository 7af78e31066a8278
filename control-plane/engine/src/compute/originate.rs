//! The complete setting of a cluster from the block that counts (POLICY.md O2, O5 to O8).

use std::fmt;

use eastwest_model::{
    Host, MeshConfig, Name,
    credential::TRUST_SUFFIX,
    policy::{ClientTls, ClientTlsMode},
    workload::ProxyCertificate,
};

use crate::settings::{CertificateSource, ClientTlsSetting, Discovery, MeshTls, OriginatedTls, TrustSource};

/// Credentials that anybody may read (O7).
const CONFIG_MAP: &str = "configmap://";

/// What a setting depends on besides the block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub mesh: &'a MeshConfig,
    pub host: &'a Host,
    pub port: u16,
    pub subset: Option<&'a Name>,
    pub discovery: Discovery,
    /// Whether the host comes from a ServiceEntry.
    pub is_entry: bool,
    /// Whether the rule has a workloadSelector.
    pub has_selector: bool,
    /// O4.
    pub accounts: &'a [Name],
    /// Whether the host is outside the mesh.
    pub external: bool,
    /// The certificate that the client's proxy brings along (O9).
    pub own: Option<&'a ProxyCertificate>,
}

/// Mutual TLS by inference, with generated server name and SANs (O2, A3).
pub(crate) fn automatic(context: &Context<'_>) -> MeshTls {
    MeshTls { sni: generated_sni(context), subject_alt_names: generated_sans(context) }
}

/// O9: a certificate that the proxy brings along takes the place of the mesh's, for every endpoint alike.
pub(crate) fn by_own_certificate(context: &Context<'_>, own: &ProxyCertificate) -> ClientTlsSetting {
    let tls = ClientTls {
        sni: Some(generated_sni(context)).filter(|sni| !sni.is_empty()),
        subject_alt_names: generated_sans(context),
        ..of_files(own)
    };
    ClientTlsSetting::Mutual(originated(context, &tls))
}

/// MUTUAL with these files, and nothing else said.
fn of_files(own: &ProxyCertificate) -> ClientTls {
    ClientTls {
        mode: ClientTlsMode::Mutual,
        sni: None,
        subject_alt_names: Vec::new(),
        client_certificate: Some(own.chain.clone()),
        private_key: Some(own.key.clone()),
        ca_certificates: own.root.clone(),
        credential_name: None,
        insecure_skip_verify: false,
    }
}

/// O9: what a block comes to for a proxy with a certificate of its own; `None` for blocks that ask for none. Within the
/// mesh it is that certificate, with the names of the rule alone. Outside the rule stays, without generated names.
fn with_own_certificate(
    context: &Context<'_>,
    tls: &ClientTls,
    own: &ProxyCertificate,
) -> Option<ClientTlsSetting> {
    match (tls.mode, context.external) {
        (ClientTlsMode::Disable | ClientTlsMode::Simple, _) | (ClientTlsMode::Mutual, true) => None,
        (ClientTlsMode::IstioMutual, true) => {
            let subset = context.subset.map_or("", |name| name);
            let cluster = format!("outbound|{}|{subset}|{}", context.port, context.host);
            Some(ClientTlsSetting::IstioMutual(MeshTls {
                sni: tls.sni.clone().unwrap_or_else(|| cluster.into()),
                subject_alt_names: tls.subject_alt_names.clone(),
            }))
        }
        _ => {
            let named = ClientTls {
                sni: tls.sni.clone(),
                subject_alt_names: tls.subject_alt_names.clone(),
                insecure_skip_verify: tls.insecure_skip_verify,
                ..of_files(own)
            };
            Some(ClientTlsSetting::Mutual(originated(context, &named)))
        }
    }
}

/// The setting of a block.
pub(crate) fn by_block(context: &Context<'_>, tls: &ClientTls) -> ClientTlsSetting {
    if let Some(setting) = context.own.and_then(|own| with_own_certificate(context, tls, own)) {
        return setting;
    }
    match tls.mode {
        ClientTlsMode::Disable => ClientTlsSetting::Disable,
        ClientTlsMode::IstioMutual => ClientTlsSetting::IstioMutual(istio_mutual(context, tls)),
        _ if is_withheld(context, tls) => ClientTlsSetting::Disable,
        ClientTlsMode::Simple => ClientTlsSetting::Simple(originated(context, tls)),
        ClientTlsMode::Mutual => ClientTlsSetting::Mutual(originated(context, tls)),
    }
}

/// O7: a credential for SIMPLE or MUTUAL without a workloadSelector means plaintext, unless it is a ConfigMap.
pub(crate) fn is_withheld(context: &Context<'_>, tls: &ClientTls) -> bool {
    if context.own.is_some_and(|own| with_own_certificate(context, tls, own).is_some()) {
        return false;
    }
    let originates = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    let secret = tls.credential_name.as_ref().is_some_and(|name| !name.starts_with(CONFIG_MAP));
    originates && secret && !context.has_selector
}

/// O2: name and SANs of the rule, else generated ones; certificates in the block are dropped.
fn istio_mutual(context: &Context<'_>, tls: &ClientTls) -> MeshTls {
    MeshTls {
        sni: tls.sni.clone().unwrap_or_else(|| generated_sni(context)),
        subject_alt_names: match tls.subject_alt_names.is_empty() {
            true => generated_sans(context),
            false => tls.subject_alt_names.clone(),
        },
    }
}

/// O1, O2: `outbound_.<port>_.<subset>_.<host>`; dynamic forward proxies have none.
fn generated_sni(context: &Context<'_>) -> Name {
    if context.discovery == Discovery::DynamicForwardProxy {
        return "".into();
    }
    let subset = context.subset.map_or("", |name| name);
    mesh_server_name(context.port, subset, context.host).into()
}

/// The server name that a client of the mesh sends.
pub(crate) fn mesh_server_name(port: u16, subset: &str, host: impl fmt::Display) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

fn generated_sans(context: &Context<'_>) -> Vec<Name> {
    match context.discovery {
        Discovery::DynamicForwardProxy => Vec::new(),
        _ => context.accounts.to_vec(),
    }
}

/// O5 and O6.
fn originated(context: &Context<'_>, tls: &ClientTls) -> OriginatedTls {
    let dynamic = context.discovery == Discovery::DynamicForwardProxy;
    let subject_alt_names = if tls.insecure_skip_verify {
        Vec::new()
    } else if tls.subject_alt_names.is_empty() && context.is_entry && !dynamic {
        context.accounts.to_vec()
    } else {
        tls.subject_alt_names.clone()
    };
    let by_rule = tls.sni.is_some() || !tls.subject_alt_names.is_empty();
    OriginatedTls {
        sni: tls.sni.clone(),
        subject_alt_names,
        auto_san_validation: !tls.insecure_skip_verify && (dynamic || !by_rule),
        certificate: certificate(tls),
        trust: trust(tls),
        cipher_suites: context.mesh.tls_default_cipher_suites.clone(),
        curves: context.mesh.tls_default_curves.clone(),
    }
}

/// O5: client files with SIMPLE are ignored; O7: a credential stands for certificate and key.
fn certificate(tls: &ClientTls) -> Option<CertificateSource> {
    if tls.mode != ClientTlsMode::Mutual {
        return None;
    }
    match (&tls.credential_name, &tls.client_certificate, &tls.private_key) {
        (Some(name), ..) => Some(CertificateSource::Credential(resource(name))),
        (None, Some(certificate), Some(key)) => {
            Some(CertificateSource::Files { certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    }
}

/// O6: nothing is checked; O7: the credential's roots; O5: the file, else the system's roots.
fn trust(tls: &ClientTls) -> Option<TrustSource> {
    if tls.insecure_skip_verify {
        return None;
    }
    Some(match (&tls.credential_name, &tls.ca_certificates) {
        (Some(name), _) => TrustSource::Credential(format!("{}{TRUST_SUFFIX}", resource(name)).into()),
        (None, Some(file)) => TrustSource::File(file.clone()),
        (None, None) => TrustSource::System,
    })
}

/// O7: the name of a credential as a resource starts with the kind of object; a name without one is a Secret.
fn resource(name: &Name) -> Name {
    if name.contains("://") { name.clone() } else { format!("kubernetes://{name}").into() }
}
