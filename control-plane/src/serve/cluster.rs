//! A replica of the control plane in a cluster: the election of the one that writes, and what that one writes.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use eastwest_ca_server::{CertificateAuthority, RefusedRequest};
use eastwest_cluster::{
    CaSecrets, Election, Findings, Published, election,
    events::{Recorder, Refused, Regarding},
    publish_roots, write_statuses,
};
use eastwest_engine::lint;
use eastwest_kubernetes::{Api, ApiOptions, Facts, Feed, Statuses, Timing};
use eastwest_model::MeshConfig;
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{process::Process, startup::Startup};
use crate::query::World;

/// How long the start waits until it is known who leads. A leader is ready when the roots are published.
const ELECTION: Duration = Duration::from_secs(10);
/// The shortest time between two searches for findings about the whole mesh.
const LINT: Duration = Duration::from_secs(1);
/// The pause after a search, in times of its duration: what it costs in a large mesh stays a small part of a core.
const LINT_PAUSE: u32 = 10;
/// How often the start looks whether the roots are published.
const LOOK: Duration = Duration::from_millis(20);

/// The configuration of Kubernetes mode, valid.
pub(crate) struct ClusterConfig {
    /// Where the API is.
    pub(crate) api: ApiOptions,
    /// The namespace of our own objects.
    pub(crate) namespace: String,
    /// Whether replicas elect the one that writes; else this process writes.
    pub(crate) leader_elect: bool,
    /// The name of this replica: its pod or host.
    pub(crate) replica: String,
}

/// A replica in a cluster.
pub(super) struct Cluster {
    pub(super) api: Api,
    namespace: String,
    identity: String,
    leader_elect: bool,
    election: Option<Election>,
    /// Whether this replica writes.
    leads: watch::Sender<bool>,
    /// The trusted roots, PEM.
    roots: watch::Sender<String>,
}

impl ClusterConfig {
    /// Opens the API.
    ///
    /// # Errors
    /// A kubeconfig that cannot be used.
    pub(super) async fn open(&self) -> anyhow::Result<Cluster> {
        let api = Api::find(&self.api).await?;
        Ok(Cluster {
            api,
            namespace: self.namespace.clone(),
            identity: election::identity(&self.replica),
            leader_elect: self.leader_elect,
            election: None,
            leads: watch::Sender::default(),
            roots: watch::Sender::default(),
        })
    }
}

/// What is followed in a cluster.
pub(super) struct Watches {
    /// The lists and watches of the mesh.
    pub(super) feed: Feed,
    /// Their state.
    pub(super) statuses: Statuses,
    /// The objects that are written to.
    pub(super) facts: Facts,
    /// How far the roots are published.
    pub(super) published: Published,
}

impl Cluster {
    /// Follows the API, and publishes the roots once they are known.
    pub(super) fn follow(&self, mesh: &MeshConfig, process: &mut Process) -> Watches {
        let mut feed = Feed::start(&self.api, Timing::default(), mesh.clone());
        let (leads, roots) = (self.leads.subscribe(), self.roots.subscribe());
        let (published, publishing) = publish_roots(&self.api, feed.source(), leads, roots);
        process.spawn(publishing);
        let (statuses, facts) = (feed.statuses(), feed.source().facts());
        Watches { feed, statuses, facts, published }
    }

    /// The Secrets of the CA; `longest` is the longest life of a certificate.
    pub(super) fn secrets(&self, longest: Duration) -> CaSecrets {
        CaSecrets::follow(&self.api, &self.namespace, self.leads.subscribe(), longest, Timing::default())
    }

    /// Takes part in the election, and writes what follows from the roots of `ca` and from `world` whenever this replica
    /// leads. A replica that cannot serve yet must not lead: nobody would write.
    pub(super) fn write(
        &mut self,
        ca: &Arc<CertificateAuthority>,
        world: watch::Receiver<World>,
        facts: Facts,
        process: &mut Process,
    ) {
        self.roots.send_replace(ca.roots_pem());
        process.spawn(follow_roots(Arc::clone(ca), self.roots.clone()));
        let (findings, found) = watch::channel(None);
        process.spawn(find(world, self.leads.subscribe(), findings));
        let recorder = Recorder::new(&self.api, &self.identity);
        process.spawn(record(ca.refusals(), recorder.clone()));
        self.campaign(process);
        process.spawn(write_statuses(&self.api, facts, self.leads.subscribe(), found, recorder));
    }

    fn campaign(&mut self, process: &mut Process) {
        if !self.leader_elect {
            tracing::info!(namespace = self.namespace, "this process writes, without an election");
            self.leads.send_replace(true);
            return;
        }
        let (election, mut elected) = Election::start(&self.api, &self.namespace, self.identity.clone());
        self.election = Some(election);
        let leads = self.leads.clone();
        process.spawn(async move {
            loop {
                leads.send_replace(*elected.borrow_and_update());
                if elected.changed().await.is_err() {
                    leads.send_replace(false);
                    std::future::pending::<()>().await;
                }
            }
        });
    }

    /// Whether this replica writes, for `/metrics`.
    pub(super) fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Waits until the roots are published, if this replica leads.
    pub(super) async fn publish(&self, published: &Published, startup: &Startup) {
        startup.waits("the election of the replica that writes");
        let leads = match &self.election {
            // Another replica may lead, or nobody can: both are no reason not to serve.
            Some(election) => timeout(ELECTION, election.decided()).await.unwrap_or(false),
            None => true,
        };
        if !leads {
            return;
        }
        let mut elected = false;
        loop {
            let leading = *self.leads.borrow();
            if elected && !leading {
                return;
            }
            elected |= leading;
            let publication = published.now();
            if publication.leads && publication.complete {
                return;
            }
            let problems = publication.problems.join("; ");
            startup.waits(format!(
                "the roots are not yet in {} of {} namespaces. {problems}",
                publication.missing, publication.namespaces
            ));
            sleep(LOOK).await;
        }
    }

    /// Gives the Lease up.
    pub(super) async fn end(self) {
        if let Some(election) = self.election {
            election.release().await;
        }
    }

    /// The namespace of our own objects.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// Keeps `roots` equal to those of the CA.
async fn follow_roots(ca: Arc<CertificateAuthority>, roots: watch::Sender<String>) {
    let mut changes = ca.changes();
    loop {
        let pem = ca.roots_pem();
        roots.send_if_modified(|known| {
            let differs = *known != pem;
            if differs {
                *known = pem;
            }
            differs
        });
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps the findings about the mesh up to date while this replica leads. They are found in a thread of their own, for they
/// concern the whole mesh.
async fn find(
    mut world: watch::Receiver<World>,
    mut leads: watch::Receiver<bool>,
    findings: watch::Sender<Option<Findings>>,
) {
    loop {
        if leads.wait_for(|leads| *leads).await.is_err() {
            std::future::pending::<()>().await;
        }
        let began = Instant::now();
        let current = world.borrow_and_update().clone();
        let found = tokio::task::spawn_blocking(move || {
            let all = current.input.iter().cloned().chain(lint::diagnostics(&current.snapshot));
            Findings { found: Arc::new(all.collect()), progress: current.progress }
        });
        match found.await.context("the search for findings") {
            Ok(found) => {
                findings.send_if_modified(|known| {
                    let differs = known.as_ref() != Some(&found);
                    if differs {
                        *known = Some(found);
                    }
                    differs
                });
            }
            Err(error) => tracing::error!("{error:#}"),
        }
        sleep_until(began + LINT.max(began.elapsed() * LINT_PAUSE)).await;
        if world.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Records refused requests of pods as Events. Each replica records those that it refused.
async fn record(mut refusals: broadcast::Receiver<RefusedRequest>, recorder: Recorder) {
    loop {
        match refusals.recv().await {
            Ok(RefusedRequest { namespace, pod, uid, reason }) => {
                let regarding = Regarding::pod(&namespace, &pod, &uid);
                let (action, cause) = ("IssueCertificate", "CertificateRefused");
                let refused = Refused { regarding, action, reason: cause, note: reason };
                if let Err(error) = recorder.refused(&refused).await {
                    tracing::debug!(%error, "an Event about a refused certificate is not written");
                }
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
