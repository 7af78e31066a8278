//! The running CA. All values that must change together are one [`CaState`] (CA.md C22).

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use eastwest_ca::{
    AllowedNames, Authorizer, CertificateSummary, Issuer as _, Lifetimes, LocalIssuer, Needs, NeedsError,
    ServingNames, SpiffeBundle, TrustBundle,
};
use eastwest_identity::TrustDomain;
use eastwest_io::{SourceProblem, SourceStatus};
use eastwest_proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use prometheus::{Registry, proto::MetricFamily};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::{broadcast, watch};

use crate::{
    authn::{
        peer_authenticator::PeerAuthenticator,
        proofs::{ProofConfig, Proofs},
    },
    issuing::{
        limits::{Guard, Limits},
        service::{CertificateService, RefusedRequest, RequestContext},
        signers::Signers,
    },
    ledger::{LedgerConfig, LedgerError, Writer},
    metrics::{self, Ends, Metrics},
    scrape,
    trust::{
        ca_state::{CaState, Current},
        key_material::KeyMaterial,
        latest_expiry::{LatestExpiry, Signer},
        root_status::RootStatus,
        serving_certificate::{ServingCertificate, ServingError},
        test_root,
    },
};

/// Longest wait before the age of the serving certificate is looked at again: clocks jump, and clients refuse an expired one.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Wait after a renewal that failed.
const RETRY: Duration = Duration::from_secs(10);
/// How many refused requests a receiver may lag behind.
const REFUSALS: usize = 256;

/// The settings of a CA.
#[derive(Clone)]
pub struct CertificateAuthorityConfig {
    /// The trust domain of the identities that are issued.
    pub trust_domain: TrustDomain,
    /// The cluster whose workloads are served, as clients name it in `clusterid`.
    pub cluster_id: String,
    /// Lifetimes of workload certificates.
    pub lifetimes: Lifetimes,
    /// The names that workload certificates may have beside the identity, unless the proof of the caller says which.
    pub allowed_names: AllowedNames,
    /// Names in our own serving certificate.
    pub serving_names: ServingNames,
    /// How long that certificate lives; it is renewed at half.
    pub serving_lifetime: Duration,
    /// How peers authenticate.
    pub proofs: ProofConfig,
    /// Where the ledger is kept. `None`: each record is an event of the log (target `ledger`) and is not kept.
    pub ledger: Option<LedgerConfig>,
    /// Rate limits.
    pub limits: Limits,
}

/// Why a CA cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// No serving certificate.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// Clients would refuse what the CA signs.
    #[error("the CA: {0}")]
    Needs(#[from] NeedsError),
    /// No ledger.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// No threads to sign.
    #[error("cannot start the threads that sign: {0}")]
    Signers(#[source] std::io::Error),
}

/// A signer that was replaced. Requests that began before may still be signed by it.
pub struct Replaced(Weak<Signer>);

impl Replaced {
    /// Whether a request may still be signed by it.
    pub fn is_in_use(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// A running certificate authority.
pub struct CertificateAuthority {
    current: Current,
    proofs: Proofs,
    lifetimes: Lifetimes,
    allowed_names: AllowedNames,
    serving_names: ServingNames,
    serving_lifetime: Duration,
    pub(super) context: Arc<RequestContext>,
    /// Where the ledger is kept, if it is.
    pub(super) ledger_dir: Option<PathBuf>,
    roots: ArcSwapOption<RootStatus>,
    /// Further sources whose problems are reported.
    further: Mutex<Vec<Arc<SourceStatus>>>,
}

impl CertificateAuthority {
    /// Starts a CA: opens its ledger, makes its serving certificate and starts its signers.
    ///
    /// # Errors
    /// One of the three failed.
    pub fn new(
        config: CertificateAuthorityConfig,
        keys: KeyMaterial,
        now: OffsetDateTime,
    ) -> Result<Arc<Self>, StartError> {
        let needs =
            Needs { trust_domain: config.trust_domain.clone(), serving: config.serving_names.clone() };
        needs.check(&keys.issuer)?;
        let issuer = Arc::new(Signer::new(keys.issuer, keys.latest_expiry));
        let serving =
            ServingCertificate::make(issuer.local(), &config.serving_names, config.serving_lifetime, now)?;
        let ca_state = CaState {
            authorizer: Authorizer::new(config.trust_domain.clone(), config.lifetimes)
                .allowing(config.allowed_names.clone()),
            trust_domain: config.trust_domain,
            roots: Arc::new(keys.roots),
            issuer,
            serving,
        };
        let current = Current::new(ca_state);
        let in_force = current.clone();
        let issuer = Box::new(move || Arc::clone(in_force.load().issuer.local()));
        let context = RequestContext {
            current: current.clone(),
            guard: Guard::new(&config.limits),
            signers: Signers::start(config.limits.signers).map_err(StartError::Signers)?,
            ledger: Arc::new(Writer::start(config.ledger.as_ref(), issuer)?),
            metrics: Metrics::new(config.proofs.pods.clone()),
            refusals: broadcast::Sender::new(REFUSALS),
        };
        Ok(Arc::new(Self {
            proofs: Proofs::new(config.proofs, config.cluster_id, keys.own_tokens, current.clone()),
            current,
            lifetimes: config.lifetimes,
            allowed_names: config.allowed_names,
            serving_names: config.serving_names,
            serving_lifetime: config.serving_lifetime,
            context: Arc::new(context),
            ledger_dir: config.ledger.map(|ledger| ledger.dir),
            roots: ArcSwapOption::empty(),
            further: Mutex::default(),
        }))
    }

    pub(crate) fn ca_state(&self) -> Arc<CaState> {
        self.current.load()
    }

    /// Signs with `issuer` and trusts `roots` from now on, with a serving certificate to match: all at once for every
    /// request that begins later.
    ///
    /// # Errors
    /// The serving certificate could not be made; everything stays as it was.
    pub fn install(
        &self,
        issuer: &Arc<LocalIssuer>,
        roots: TrustBundle,
        now: OffsetDateTime,
    ) -> Result<Replaced, ServingError> {
        let before = self.ca_state();
        let serving = match Arc::ptr_eq(before.issuer.local(), issuer) {
            true => None,
            false => Some(ServingCertificate::make(issuer, &self.serving_names, self.serving_lifetime, now)?),
        };
        let signer = Arc::new(Signer::new(Arc::clone(issuer), Arc::clone(before.issuer.latest_expiry())));
        let roots = Arc::new(roots);
        self.current.change(|old| CaState {
            issuer: Arc::clone(&signer),
            roots: Arc::clone(&roots),
            serving: serving.clone().unwrap_or_else(|| old.serving.clone()),
            ..old.clone()
        });
        Ok(Replaced(Arc::downgrade(&before.issuer)))
    }

    /// The source of signer and roots and its problems; `None` if no source is followed.
    pub fn root_status(&self) -> Option<Arc<RootStatus>> {
        self.roots.load_full()
    }

    pub(crate) fn set_root_status(&self, status: RootStatus) {
        self.roots.store(Some(Arc::new(status)));
    }

    /// The problems of the files and addresses that are followed, except those of signer and roots.
    pub fn source_problems(&self) -> Vec<SourceProblem> {
        self.followed().iter().filter_map(|one| one.problem()).collect()
    }

    /// Adds a source whose problems are reported.
    pub fn tell_of(&self, followed: Arc<SourceStatus>) {
        self.further.lock().unwrap_or_else(PoisonError::into_inner).push(followed);
    }

    fn followed(&self) -> Vec<Arc<SourceStatus>> {
        let further = self.further.lock().unwrap_or_else(PoisonError::into_inner);
        self.proofs.followed().into_iter().chain(further.iter().cloned()).collect()
    }

    /// The latest expiry of all certificates that were issued.
    pub fn latest_expiry(&self) -> Arc<LatestExpiry> {
        Arc::clone(self.ca_state().issuer.latest_expiry())
    }

    /// Issues identities of another trust domain from now on; those of the old one are no longer recognised.
    pub fn set_trust_domain(&self, trust_domain: &TrustDomain) {
        self.current.change(|old| CaState {
            trust_domain: trust_domain.clone(),
            authorizer: Authorizer::new(trust_domain.clone(), self.lifetimes)
                .allowing(self.allowed_names.clone()),
            ..old.clone()
        });
    }

    /// Makes a new serving certificate if the current one has lived half of its life, or begins later because the clock
    /// was set back; says whether it did.
    ///
    /// # Errors
    /// It could not be made; the current one stays.
    pub fn renew_serving_if_due(&self, now: OffsetDateTime) -> Result<bool, ServingError> {
        let ca_state = self.ca_state();
        if !ca_state.serving.is_due(now) {
            return Ok(false);
        }
        let serving = ServingCertificate::make(
            ca_state.issuer.local(),
            &self.serving_names,
            self.serving_lifetime,
            now,
        )?;
        self.current.change(|old| match Arc::ptr_eq(old.issuer.local(), ca_state.issuer.local()) {
            true => CaState { serving: serving.clone(), ..old.clone() },
            false => old.clone(), // another issuer came meanwhile, with a certificate of its own
        });
        Ok(true)
    }

    /// Renews the serving certificate when it is due; never returns.
    pub async fn renew_serving_certificate(self: Arc<Self>) {
        loop {
            let left = self.ca_state().serving.renew_at - OffsetDateTime::now_utc();
            let left = Duration::try_from(left).unwrap_or_default();
            tokio::time::sleep(left.min(LONGEST_WAIT)).await;
            match self.renew_serving_if_due(OffsetDateTime::now_utc()) {
                Ok(true) => tracing::info!("serving certificate renewed"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "serving certificate not renewed");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// The trust domain of the identities that are issued.
    pub fn trust_domain(&self) -> TrustDomain {
        self.ca_state().trust_domain.clone()
    }

    /// Whether the public test root is among the roots.
    pub fn has_test_root(&self) -> bool {
        test_root::is_among(&self.ca_state().roots)
    }

    /// Summaries of the roots.
    pub fn roots(&self) -> Vec<CertificateSummary> {
        self.ca_state().roots.certificates().filter_map(CertificateSummary::of).collect()
    }

    /// Follows the refused requests of pods. A receiver that is late loses the oldest.
    pub fn refusals(&self) -> broadcast::Receiver<RefusedRequest> {
        self.context.refusals.subscribe()
    }

    /// Notifies when signer, roots, revocations or trust domain are replaced.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.current.changes()
    }

    /// The roots as PEM.
    pub fn roots_pem(&self) -> String {
        self.ca_state().roots.pem()
    }

    /// The trust bundle of our domain, not yet numbered.
    pub fn bundle(&self) -> SpiffeBundle {
        SpiffeBundle::of_roots(&self.ca_state().roots)
    }

    /// Tells who a peer is: by its client certificate, else by its bearer token.
    pub fn peer_authenticator(&self) -> PeerAuthenticator {
        PeerAuthenticator::new(self.proofs.authenticator(), self.current.clone())
    }

    /// Keeps the keys of token issuers up to date; never returns.
    pub async fn follow_proofs(self: Arc<Self>) {
        self.proofs.follow().await;
    }

    /// The gRPC service, for ports with TLS alone.
    pub fn service(&self) -> IstioCertificateServiceServer<CertificateService> {
        IstioCertificateServiceServer::new(CertificateService::new(
            Arc::clone(&self.context),
            PeerAuthenticator::new(self.proofs.issuing_authenticator(), self.current.clone()),
            self.proofs.impersonation(),
        ))
    }

    /// The context that all requests share.
    pub(crate) fn context(&self) -> Arc<RequestContext> {
        Arc::clone(&self.context)
    }

    /// Registers counters and gauges, under istiod's names where it has them.
    ///
    /// # Errors
    /// Another CA is registered there.
    pub fn register_metrics(self: &Arc<Self>, registry: &Registry) -> prometheus::Result<()> {
        self.context.metrics.register(registry)?;
        let ca = Arc::clone(self);
        scrape::register(registry, move || ca.metrics_of_the_moment())
    }

    /// What is not counted as it happens.
    fn metrics_of_the_moment(&self) -> Vec<MetricFamily> {
        let ca_state = self.ca_state();
        let ends =
            Ends { root: ca_state.issuer.local().root_not_after(), chain: ca_state.issuer.not_after() };
        let RequestContext { metrics, ledger, signers, .. } = &*self.context;
        let mut families = Vec::from(metrics::of_signing(ends, signers.waiting()));
        families.extend(metrics.workloads(OffsetDateTime::now_utc()));
        families.extend(metrics::of_ledger(ledger.state()));
        families.extend(self.root_status().iter().flat_map(|roots| roots.families()));
        families.push(metrics::source_problems(&self.followed()));
        families
    }
}
