//! Trust bundles: the endpoint for other domains, the relationships with them, and the stream for agents.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use eastwest_ca::jwt::SvidKey;
use eastwest_ca_server::{
    CertificateAuthority, OwnBundle, StateDir,
    bundles::{
        IdentityService,
        endpoint::{self, Certificate},
        federation::{self, Relationship, Source, Store},
        publish, svid_key as svid_key_of,
    },
};
use eastwest_model::{MeshConfig, TrustDomain};
use tokio::net::TcpListener;

use super::{process::Process, startup::Startup, state::State};

/// The validated configuration of trust bundles.
pub(crate) struct BundleConfig {
    pub(crate) endpoint: Option<EndpointConfig>,
    pub(crate) refresh_hint: Duration,
    pub(crate) relationships: Vec<Relationship>,
}

/// The configuration of the bundle endpoint.
pub(crate) struct EndpointConfig {
    pub(crate) address: SocketAddr,
    /// Certificate and key, for profile `https_web`.
    pub(crate) files: Option<(PathBuf, PathBuf)>,
}

/// The bundle endpoint, bound but not yet served.
pub(super) struct Endpoint {
    listener: TcpListener,
    files: Option<(PathBuf, PathBuf)>,
}

impl Endpoint {
    /// Binds the endpoint, if one is configured.
    ///
    /// # Errors
    /// An address that is in use or not ours.
    pub(super) async fn bind(config: Option<&EndpointConfig>) -> anyhow::Result<Option<Self>> {
        let Some(config) = config else { return Ok(None) };
        let listener = TcpListener::bind(config.address).await;
        let listener =
            listener.with_context(|| format!("--bundle-addr: cannot listen on {}", config.address))?;
        Ok(Some(Self { listener, files: config.files.clone() }))
    }

    /// The bound address.
    pub(super) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn certificate(&self, ca: &Arc<CertificateAuthority>, mesh: &MeshConfig) -> anyhow::Result<Certificate> {
        match &self.files {
            Some((certificate, key)) => {
                Certificate::of_files(certificate.clone(), key.clone()).context("--bundle-cert, --bundle-key")
            }
            None => Certificate::of_ca(Arc::clone(ca), &mesh.root_namespace).context("--bundle-addr"),
        }
    }
}

/// The key for JWT-SVIDs. In a cluster, the start waits until the Secret that has it can be used.
///
/// # Errors
/// The state directory does not have it and cannot get it.
pub(super) async fn svid_key(state: &State, startup: &Startup) -> anyhow::Result<SvidKey> {
    match state {
        State::Directory(_) => Ok(svid_key_of(&*state.storage())?),
        State::Cluster { secrets, .. } => {
            let reason = || secrets.problem().unwrap_or_else(|| "the key for JWT-SVIDs is read".to_owned());
            Ok(startup.until(secrets.svid_key(), reason).await)
        }
    }
}

/// Starts everything that concerns bundles. Returns the bundle of our own domain and the service for agents.
///
/// # Errors
/// A certificate of the endpoint or a file of a relationship that cannot be used.
pub(super) fn start(
    config: &BundleConfig,
    endpoint: Option<Endpoint>,
    ca: &Arc<CertificateAuthority>,
    (state, svid_key): (&State, SvidKey),
    mesh: &MeshConfig,
    process: &mut Process,
) -> anyhow::Result<(Arc<OwnBundle>, IdentityService)> {
    let own = OwnBundle::with_key(Arc::clone(ca), state.storage(), config.refresh_hint, svid_key);
    let own = Arc::new(own);
    if let Some(endpoint) = endpoint {
        let certificate = endpoint.certificate(ca, mesh)?;
        ca.tell_of(certificate.followed());
        process.spawn(endpoint::serve(endpoint.listener, certificate, Arc::clone(&own)));
    }
    let store = store(&config.relationships, state, &mesh.trust_domain)?;
    let (published, publishing) = publish(Arc::clone(&own), store.subscribe());
    process.spawn(publishing);
    if !config.relationships.is_empty() {
        process.spawn(federation::follow(config.relationships.clone(), store));
    }
    let service = IdentityService::new(ca, published, own.svid_key(), process.shutdown().token());
    Ok((own, service))
}

/// The store of other domains' bundles, with those that are known at the start.
fn store(relationships: &[Relationship], state: &State, own: &TrustDomain) -> anyhow::Result<Arc<Store>> {
    let mut domains = Vec::new();
    for relationship in relationships {
        let (Source::Endpoint { domain, .. } | Source::File(domain, _)) = &relationship.source else {
            continue;
        };
        if domain == own {
            bail!("--federate: {own} is our own trust domain; name those of others");
        }
        let bootstrap = relationship.bootstrap.as_ref().map(|path| {
            let bundle = federation::bundle_file(path);
            bundle.with_context(|| format!("--federate: bundle={}", path.display()))
        });
        if matches!(relationship.source, Source::Endpoint { .. }) {
            domains.push((domain.clone(), bootstrap.transpose()?));
        }
    }
    Ok(Arc::new(Store::open(state.directory().map(StateDir::federated_dir), domains)))
}
