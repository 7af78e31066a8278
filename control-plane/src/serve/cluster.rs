//! A replica of the control plane in a cluster: the election of the one that writes, and what that one writes.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use eastwest_ca_server::{CertificateAuthority, RefusedRequest};
use eastwest_cluster::{
    CaSecrets, Election, Findings, Published, SpentTokens, election,
    events::{Recorder, Refused, Regarding},
    publish_roots, record_refused_settings, remove_expired, write_statuses,
};
use eastwest_kubernetes::{Api, ApiOptions, Facts, Feed, Statuses, Timing, send_if_different};
use eastwest_model::{MeshConfig, mesh::MESH_CONFIG_MAP};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{idle_thread, mesh_settings::refused_settings, process::Process, startup::Startup};
use crate::query::World;

/// How long the start waits until it is known who leads. A leader is ready when the roots are published.
const ELECTION: Duration = Duration::from_secs(10);
/// The shortest time between two searches for findings about the whole mesh.
const LINT: Duration = Duration::from_secs(1);
/// The pause after a search, in times of its duration: what it costs in a large mesh stays a small part of a core.
const LINT_PAUSE: u32 = 10;
/// How long to wait after a change: the proxies get it first, and a burst of changes is searched once.
const LINT_DELAY: Duration = Duration::from_millis(100);
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

/// A replica in a cluster. It follows the API from the start, and writes once it can serve.
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
    /// Who else is elected, if this process writes without an election.
    other_leader: watch::Sender<Option<String>>,
    /// Why the settings of the mesh are refused, if they are.
    settings: watch::Sender<Option<String>>,
    recorder: Recorder,
    /// How far they are published.
    published: Published,
    /// The state of the lists and watches of the mesh.
    pub(super) statuses: Statuses,
    /// What the API has of objects that are written to, and of service accounts.
    pub(super) facts: Facts,
}

impl ClusterConfig {
    /// Opens the API and follows it. The feed is not run yet.
    ///
    /// # Errors
    /// A kubeconfig that cannot be used. An API that does not answer is waited for.
    pub(super) async fn follow(
        &self,
        mesh: &MeshConfig,
        process: &mut Process,
    ) -> anyhow::Result<(Cluster, Feed)> {
        let api = Api::find(&self.api).await?;
        let (leads, roots) = (watch::Sender::default(), watch::Sender::default());
        let mut feed = Feed::start(&api, Timing::default(), mesh.clone());
        let (published, publishing) =
            publish_roots(&api, feed.source(), leads.subscribe(), roots.subscribe());
        process.spawn(publishing);
        let identity = election::identity(&self.replica);
        let (settings, recorder) = (watch::Sender::default(), Recorder::new(&api, &identity));
        let name = (&*mesh.root_namespace, MESH_CONFIG_MAP);
        process.spawn(record_refused_settings(&api, name, settings.subscribe(), recorder.clone()));
        let cluster = Cluster {
            namespace: self.namespace.clone(),
            identity,
            other_leader: watch::Sender::default(),
            settings,
            recorder,
            leader_elect: self.leader_elect,
            election: None,
            leads,
            roots,
            published,
            statuses: feed.statuses(),
            facts: feed.source().facts(),
            api,
        };
        Ok((cluster, feed))
    }
}

impl Cluster {
    /// The Secrets of the CA; `longest` is the longest life of a certificate.
    pub(super) fn secrets(&self, longest: Duration) -> CaSecrets {
        CaSecrets::follow(&self.api, &self.namespace, self.leads.subscribe(), longest, Timing::default())
    }

    /// The tokens of CI jobs that the replicas used.
    pub(super) fn spent_tokens(&self) -> SpentTokens {
        SpentTokens::new(&self.api, &self.namespace, &self.identity)
    }

    /// Forgets those that have run out, while this replica leads.
    pub(super) fn remove_spent_tokens(&self) -> impl Future<Output = ()> + Send + 'static {
        remove_expired(&self.api, &self.namespace, self.leads.subscribe())
    }

    /// Takes part in the election, and writes what follows from the roots of `ca` and from `world` whenever this replica
    /// leads. A replica that cannot serve yet must not lead: nobody would write.
    pub(super) fn write(
        &mut self,
        ca: &Arc<CertificateAuthority>,
        world: watch::Receiver<World>,
        process: &mut Process,
    ) {
        process.spawn(follow_roots(Arc::clone(ca), self.roots.clone()));
        let (findings, found) = watch::channel(None);
        process.spawn(find(world.clone(), self.leads.subscribe(), findings));
        process.spawn(follow_settings(world.clone(), self.settings.clone()));
        let recorder = self.recorder.clone();
        process.spawn(record(ca.refusals(), recorder.clone()));
        self.campaign(process);
        let (facts, leads) = (self.facts.clone(), self.leads.subscribe());
        process.spawn(write_statuses(&self.api, facts, leads, found, recorder));
    }

    fn campaign(&mut self, process: &mut Process) {
        if !self.leader_elect {
            tracing::info!(namespace = self.namespace, "this process writes, without an election");
            self.leads.send_replace(true);
            let others = (self.api.clone(), self.namespace.clone(), self.other_leader.clone());
            process.spawn(election::watch_for_leader(others.0, others.1, others.2));
            return;
        }
        let identity = self.identity.clone();
        self.election = Some(Election::start(&self.api, &self.namespace, identity, self.leads.clone()));
    }

    /// Whether this replica writes, for `/metrics`.
    pub(super) fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Who else is elected, if this process writes without an election, for `/metrics`.
    pub(super) fn other_leader(&self) -> watch::Receiver<Option<String>> {
        self.other_leader.subscribe()
    }

    /// Where it is told why the settings of the mesh are refused, if they are.
    pub(super) fn settings(&self) -> watch::Sender<Option<String>> {
        self.settings.clone()
    }

    /// Waits until the roots are published, if this replica leads.
    pub(super) async fn publish(&self, startup: &Startup) {
        startup.waits("the election of the replica that writes");
        if let Some(election) = &self.election {
            // Another replica may lead, or nobody can: both are no reason not to serve.
            let _ = timeout(ELECTION, election.decided()).await;
        }
        while *self.leads.borrow() {
            let publication = self.published.now();
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
        send_if_different(&roots, ca.roots_pem());
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Tells `settings` why those of the mesh are refused.
async fn follow_settings(mut world: watch::Receiver<World>, settings: watch::Sender<Option<String>>) {
    loop {
        let refused = {
            let world = world.borrow_and_update();
            refused_settings(&world.input, world.snapshot.mesh())
        };
        send_if_different(&settings, refused);
        if world.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps the findings about the mesh up to date while this replica leads. They concern the whole mesh, so they are found
/// on a thread that yields to all others.
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
        let found = idle_thread::run("findings", move || {
            let (found, overridden) = current.analyse();
            Findings { found: Arc::new(found), overridden: Arc::new(overridden), progress: current.progress }
        });
        match found.await.context("the search for findings") {
            Ok(found) => send_if_different(&findings, Some(found)),
            Err(error) => tracing::error!("{error:#}"),
        }
        sleep_until(began + LINT.max(began.elapsed() * LINT_PAUSE)).await;
        if world.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        sleep(LINT_DELAY).await;
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
