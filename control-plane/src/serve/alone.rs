//! The certificate authority without a mesh, for CI clusters and tests: no manifests, no xDS.

use std::{
    fs::Permissions,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use eastwest_ca::NewRoot;
use eastwest_ca_server::{
    CertificateAuthority, KeyMaterial, OwnBundle, RootManager, RootsConfig, StateDir, StateError,
    bundles::{DEFAULT_REFRESH_HINT, IdentityService, federation, publish},
    test_root,
};
use eastwest_model::TrustDomain;
use prometheus::Registry;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::{
    ca::{self, CaConfig, Place},
    metrics,
    pages::{self, Served},
    ports::{bind, serve_tls},
    shutdown::Shutdown,
};
use crate::output::write_out;

/// Where the namespace of istiod's service names is taken from when there is no mesh to say.
const ROOT_NAMESPACE: &str = "istio-system";

/// What `eastwest ca serve` was told, without mistakes.
pub(crate) struct AloneConfig {
    pub(crate) state: StatePlace,
    pub(crate) root: Root,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) ca: CaConfig,
    pub(crate) tls: SocketAddr,
    pub(crate) http: SocketAddr,
    /// Whether the test root may serve others than this machine.
    pub(crate) insecure_remote: bool,
}

/// Where the token key is, and the root unless it is given.
pub(crate) enum StatePlace {
    /// A directory that stays.
    Kept(PathBuf),
    /// One of our own that goes when we go.
    Temporary,
}

/// What signs.
pub(crate) enum Root {
    /// The root in the state directory, made if absent.
    State,
    /// Certificate and key as PEM.
    Given {
        /// Where they were given, for messages.
        from: String,
        certificate: String,
        key: Zeroizing<String>,
    },
    /// The root whose key everybody has.
    Test,
}

/// What the pages look at.
struct Alone {
    ca: Arc<CertificateAuthority>,
    bundle: Arc<OwnBundle>,
    metrics: Registry,
    shutdown: Shutdown,
}

impl Served for Alone {
    fn ca(&self) -> &CertificateAuthority {
        &self.ca
    }

    fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    fn bundle(&self) -> &OwnBundle {
        &self.bundle
    }

    fn metrics(&self) -> &Registry {
        &self.metrics
    }
}

/// Runs the CA until SIGTERM.
///
/// # Errors
/// Whatever keeps it from starting: a port in use, an unusable root or state directory.
pub(crate) async fn run(config: AloneConfig) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let (tls, http) = (bind("--grpc-tls-addr", config.tls).await?, bind("--http-addr", config.http).await?);
    let addresses = [tls.local_addr()?, http.local_addr()?];
    let temporary = matches!(config.state, StatePlace::Temporary).then(temporary_directory).transpose()?;
    let path = match (&config.state, &temporary) {
        (StatePlace::Kept(path), _) => path.as_path(),
        (StatePlace::Temporary, Some(directory)) => directory.path(),
        (StatePlace::Temporary, None) => bail!("no temporary directory; this is a defect of eastwest"),
    };
    let state = StateDir::open(path)?;
    let _lock = state.lock()?;
    let (roots, keys) = keys(&config, &state)?;
    let at = Place { root_namespace: ROOT_NAMESPACE, tls: addresses[0].ip(), state_dir: path, pods: None };
    let ca = ca::start(&config.ca, keys, config.trust_domain, &at)?;
    roots.map(|roots| roots.follow(&ca)).transpose()?;
    warn_of_test_root(&ca, addresses[0], config.insecure_remote)?;

    let mut background = JoinSet::new();
    background.spawn(ca.clone().renew_serving_certificate());
    background.spawn(ca.clone().follow_proofs());
    let bundle = Arc::new(OwnBundle::new(ca.clone(), state.clone(), DEFAULT_REFRESH_HINT)?);
    let (published, publishing) = publish(Arc::clone(&bundle), federation::nobody());
    background.spawn(publishing);
    let identity = IdentityService::new(&ca, published, bundle.svid_key(), shutdown.token());
    let metrics = metrics::registry(&ca)?;
    let served = Arc::new(Alone { ca: ca.clone(), bundle, metrics, shutdown: shutdown.clone() });
    let routes = pages::common::<Alone>(&[]).with_state(served);
    let serving = async {
        let pages = axum::serve(http, routes).with_graceful_shutdown(shutdown.requested());
        let (tls, pages) = tokio::join!(serve_tls(tls, &ca, None, identity, &shutdown), pages.into_future());
        tls?;
        pages.context("--http-addr")
    };
    greet(&ca, path, addresses)?;
    tokio::select! {
        ended = shutdown.bound(serving) => ended,
        _ = background.join_next() => bail!("a background task ended; this is a defect of eastwest"),
    }
}

/// A directory for this run, for nobody but us.
fn temporary_directory() -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    let directory = builder.prefix("eastwest-ca-").permissions(Permissions::from_mode(0o700)).tempdir();
    directory.context("--ephemeral: no directory can be made; is TMPDIR writable?")
}

/// What to start with, and who follows the roots if they may change.
fn keys(config: &AloneConfig, state: &StateDir) -> anyhow::Result<(Option<RootManager>, KeyMaterial)> {
    let now = OffsetDateTime::now_utc();
    let given = match &config.root {
        Root::State => {
            let new_root = NewRoot::of(config.trust_domain.clone());
            let roots =
                RootsConfig { state: state.clone(), ca_dir: None, new_root, automatic_rotation: true };
            let (manager, keys) = RootManager::open(roots, now)?;
            return Ok((Some(manager), keys));
        }
        Root::Given { from, certificate, key } => {
            KeyMaterial::given(certificate, key, now).with_context(|| from.clone())?
        }
        Root::Test => test_root::key_material(now)?,
    };
    match state.load(now) {
        Err(StateError::NoCa(_)) => Ok((None, state.adopt(given)?)),
        Ok(_) => bail!(
            "--state-dir: {} has a root of its own (ca-cert.pem): leave the given one away to sign with that, or choose \
             another directory or --ephemeral to sign with the given one",
            state.path().display()
        ),
        Err(error) => Err(error.into()),
    }
}

/// Says loudly what the test root is, and keeps it on this machine unless told otherwise.
fn warn_of_test_root(ca: &CertificateAuthority, tls: SocketAddr, remote: bool) -> anyhow::Result<()> {
    if !ca.has_test_root() {
        return Ok(());
    }
    if !tls.ip().is_loopback() && !remote {
        bail!(
            "--grpc-tls-addr: {tls} can be reached by others, and the key of this root is published: use a loopback \
             address, or say --insecure-allow-remote"
        );
    }
    let line = "!".repeat(110);
    eprintln!("{line}\n{}\n{line}", test_root::WARNING);
    Ok(())
}

/// The line that programs wait for, and what a person may do next.
fn greet(ca: &CertificateAuthority, state: &Path, [tls, http]: [SocketAddr; 2]) -> anyhow::Result<()> {
    let (state, domain) = (state.display(), ca.trust_domain());
    let insecure = if ca.has_test_root() { " insecure-test-root=true" } else { "" };
    write_out(&format!(
        "eastwest ready tls={tls} http={http} trust-domain={domain} state={state}{insecure}\n\n  \
         trust domain  {domain}\n  trust anchor  {state}/root-cert.pem\n  CA            {tls} (TLS)\n  \
         pages         http://{http}/debug/list\n\n\
         Try next:\n  eastwest ca wait-ready --server http://{http}\n  \
         eastwest ca issue --server {tls} --service-account shop/reviews --state-dir {state} --out certs\n  \
         eastwest token --service-account shop/reviews --state-dir {state}\n"
    ))
}
