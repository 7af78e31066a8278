//! Configuration and start of the certificate authority, with or without a mesh.

use std::{net::IpAddr, sync::Arc, time::Duration};

use eastwest_ca::{AllowedNames, Lifetimes, ServingName, ServingNames, SharedPods};
use eastwest_ca_server::{
    CertificateAuthority, CertificateAuthorityConfig, KeyMaterial, Limits, ProofConfig, SharedSpentTokens,
    default_serving_names, test_root,
};
use eastwest_model::TrustDomain;
use time::OffsetDateTime;

use super::{proofs::ProvingConfig, startup::Startup, state::State};

/// Life of our own serving certificate.
const SERVING_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The validated configuration of the CA in `serve` and `ca serve`.
pub(crate) struct CaConfig {
    pub(crate) cluster_id: String,
    pub(crate) proving: ProvingConfig,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) limits: Limits,
    /// Names of hosts in workload certificates.
    pub(crate) allowed_names: AllowedNames,
    /// Names of our own server; the usual ones if there are none.
    pub(crate) serving_names: Vec<ServingName>,
}

impl CaConfig {
    /// The names in our own serving certificate.
    pub(super) fn names_at(&self, place: &Place<'_>) -> ServingNames {
        match self.serving_names.is_empty() {
            true => ServingNames::Usual(default_serving_names(place.root_namespace, &[place.tls])),
            false => ServingNames::Chosen(self.serving_names.clone()),
        }
    }
}

/// Addresses and paths of the CA.
pub(super) struct Place<'a> {
    /// Namespace of its service.
    pub(super) root_namespace: &'a str,
    /// Address of its TLS port.
    pub(super) tls: IpAddr,
    /// Its state.
    pub(super) state: &'a State,
    /// The pods of its mesh, if it has one.
    pub(super) pods: Option<SharedPods>,
    /// What remembers used tokens of CI jobs for all replicas, if there may be several.
    pub(super) spent_tokens: Option<Arc<dyn SharedSpentTokens>>,
    /// How long a request waits for the pod of its token to become known.
    pub(super) pod_patience: Duration,
}

/// Starts the CA that signs with `keys`.
///
/// # Errors
/// A file of an issuer cannot be read, or no serving certificate can be issued.
pub(super) async fn start(
    config: &CaConfig,
    keys: KeyMaterial,
    trust_domain: TrustDomain,
    at: &Place<'_>,
    startup: &Startup,
) -> anyhow::Result<Arc<CertificateAuthority>> {
    let ca = CertificateAuthorityConfig {
        trust_domain,
        cluster_id: config.cluster_id.clone(),
        lifetimes: config.lifetimes,
        allowed_names: config.allowed_names.clone(),
        serving_names: config.names_at(at),
        serving_lifetime: SERVING_LIFETIME,
        proofs: ProofConfig {
            spent_tokens: at.spent_tokens.clone(),
            ..config.proving.open(at.root_namespace, at.pods.clone(), at.pod_patience, startup).await?
        },
        ledger: at.state.ledger(),
        limits: config.limits,
    };
    let ca = CertificateAuthority::new(ca, keys, OffsetDateTime::now_utc())?;
    if ca.has_test_root() {
        tracing::error!("{}", test_root::WARNING);
    }
    Ok(ca)
}
