//! What the sources send, merged: the input of the publisher.

use std::{
    collections::BTreeSet,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use eastwest_ca_server::SharedSpentTokens;
use eastwest_kubernetes::{Facts, Progress, Repeated, Statuses};
use eastwest_manifest::merge::{Batch, Merge, SourceId};
use eastwest_model::{Change, Diagnostic, MeshConfig};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    change_log,
    cluster::{Cluster, ClusterConfig},
    mesh_settings::{refused_settings, settings_of},
    process::Process,
    sources::Sources,
    startup::Startup,
};

/// How often the start looks whether it has to say again what it waits for.
const LOOK: Duration = Duration::from_secs(1);

/// How many batches may wait; they are taken in together.
const WAITING: usize = 64;

/// A batch as it comes from its source.
pub(super) struct Delivery {
    batch: Batch,
    /// How far the updates of the Kubernetes API lead with it.
    progress: Option<Progress>,
}

impl From<Batch> for Delivery {
    fn from(batch: Batch) -> Self {
        Self { batch, progress: None }
    }
}

impl From<(Batch, Progress)> for Delivery {
    fn from((batch, progress): (Batch, Progress)) -> Self {
        Self { batch, progress: Some(progress) }
    }
}

/// Where the objects of the mesh come from.
pub(crate) enum InputSource {
    /// Manifests in a directory.
    Directory(PathBuf),
    /// The Kubernetes API.
    Kubernetes(ClusterConfig),
}

impl InputSource {
    /// Follows the source. The input has its batches.
    ///
    /// # Errors
    /// A directory that cannot be read at all, or a kubeconfig that cannot be used. An API that does not answer is waited
    /// for.
    pub(super) async fn follow(
        &self,
        mesh: &MeshConfig,
        process: &mut Process,
    ) -> anyhow::Result<(Followed, Input)> {
        match self {
            Self::Directory(path) => {
                let id = SourceId::new(format!("directory {}", path.display()));
                let (input, batches) = Input::new(std::slice::from_ref(&id));
                eastwest_sources::follow(id, path, mesh.clone(), batches).context("--config-dir")?;
                Ok((Followed::Directory(path.clone()), input))
            }
            Self::Kubernetes(config) => {
                let (cluster, feed) = config.follow(mesh, process).await?;
                let id = SourceId::new(format!("Kubernetes API {}", cluster.api.server()));
                let (input, batches) = Input::new(std::slice::from_ref(&id));
                process.spawn(feed.run(id, batches));
                Ok((Followed::Kubernetes(Box::new(cluster)), input))
            }
        }
    }
}

/// A source that is followed.
pub(super) enum Followed {
    /// Manifests in a directory.
    Directory(PathBuf),
    /// The Kubernetes API.
    Kubernetes(Box<Cluster>),
}

impl Followed {
    /// How long a proxy waits for its Pod to become known. A watch tells of a Pod a moment after its kubelet does; the files
    /// of a directory are all there is.
    pub(super) fn pod_patience(&self) -> Duration {
        match self {
            Self::Directory(_) => Duration::ZERO,
            Self::Kubernetes(_) => Duration::from_millis(1500),
        }
    }

    /// What the API has of service accounts; `None` where they are not followed.
    pub(super) fn accounts(&self) -> Option<Facts> {
        match self {
            Self::Directory(_) => None,
            Self::Kubernetes(cluster) => Some(cluster.facts.clone()),
        }
    }

    /// Where it is told why the settings of the mesh are refused, if they are.
    pub(super) fn refused_settings(&self) -> watch::Sender<Option<String>> {
        match self {
            Self::Directory(_) => watch::Sender::default(),
            Self::Kubernetes(cluster) => cluster.settings(),
        }
    }

    /// What remembers used tokens of CI jobs for all replicas; `None` where there is one process.
    pub(super) fn spent_tokens(&self) -> Option<Arc<dyn SharedSpentTokens>> {
        match self {
            Self::Directory(_) => None,
            Self::Kubernetes(cluster) => Some(Arc::new(cluster.spent_tokens())),
        }
    }

    /// The state of the source; `secrets` is that of the Secrets with the state of the CA, if it is in Secrets.
    pub(super) fn sources(&self, secrets: Option<Statuses>) -> Sources {
        match self {
            Self::Directory(path) => Sources::Directory(path.clone()),
            Self::Kubernetes(cluster) => Sources::Kubernetes { mesh: cluster.statuses.clone(), secrets },
        }
    }
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "manifests     {}", path.display()),
            Self::Kubernetes(cluster) => write!(f, "Kubernetes    {}", cluster.api.origin()),
        }
    }
}

/// The sources as one.
pub(super) struct Input {
    merge: Merge,
    /// Sources of which nothing came yet.
    silent: BTreeSet<SourceId>,
    batches: mpsc::Receiver<Delivery>,
    progress: Progress,
}

impl Input {
    /// The input of these sources, and where they send to. Of two that state the same object the earlier one wins.
    pub(super) fn new(sources: &[SourceId]) -> (Self, mpsc::Sender<Delivery>) {
        let (sender, batches) = mpsc::channel(WAITING);
        let (merge, silent) = (Merge::new(sources.iter().cloned()), sources.iter().cloned().collect());
        (Self { merge, silent, batches, progress: Progress::default() }, sender)
    }

    /// The changes that build the world as it is when every source has sent its first batch, which states everything
    /// that it has. Waits for settings of the mesh that can be used: defaults in place of refused ones could have another
    /// trust domain, or protect less. `None`: the sources ended before.
    /// `refused` is told why they are refused.
    pub(super) async fn first(
        &mut self,
        mesh: &MeshConfig,
        startup: &Startup,
        refused: &watch::Sender<Option<String>>,
    ) -> Option<Vec<Change>> {
        startup.waits("the input is being read");
        let mut changes = Vec::new();
        while !self.silent.is_empty() {
            changes.extend(self.next().await?);
        }
        let (settings, log) = (settings_of(mesh), Repeated::default());
        while self.merge.lacks(&settings) {
            let mistakes = refused_settings(self.diagnostics(), mesh).unwrap_or_default();
            let reason = format!(
                "{settings} is refused, and no earlier version of it is known: the mesh does not run with defaults in \
                 its place. {mistakes}"
            );
            refused.send_replace(Some(mistakes));
            if log.is_due(&reason, Instant::now()) {
                tracing::error!("the server does not start: {reason}");
            }
            startup.waits(reason);
            if let Ok(next) = timeout(LOOK, self.next()).await {
                changes.extend(next?);
            }
        }
        Some(changes)
    }

    /// The changes of the batches that came next; none if they changed nothing or only the diagnostics. `None`: the
    /// sources ended. Nothing is lost if the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Vec<Change>> {
        let mut batches = Vec::new();
        if self.batches.recv_many(&mut batches, WAITING).await == 0 {
            return None;
        }
        let mut changes = Vec::new();
        for Delivery { batch, progress } in batches {
            self.silent.remove(&batch.source);
            if let Some(progress) = progress {
                self.progress = progress;
            }
            let effect = self.merge.apply(batch);
            change_log::write(&effect);
            changes.extend(effect.changes);
        }
        Some(changes)
    }

    /// How far the updates of the Kubernetes API have been taken in.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Everything that is wrong or surprising now, errors first. The same list as long as nothing in it is different.
    pub(super) fn diagnostics(&self) -> &Arc<Vec<Diagnostic>> {
        self.merge.diagnostics()
    }
}

#[cfg(test)]
mod tests {
    use eastwest_manifest::{merge::Update, parse};
    use eastwest_model::TrustDomain;

    use super::{super::shutdown::Shutdown, *};

    fn mesh() -> MeshConfig {
        MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system")
    }

    fn context() -> (MeshConfig, Startup, watch::Sender<Option<String>>) {
        (mesh(), Startup::new(Shutdown::on_signals().unwrap()), watch::Sender::default())
    }

    fn batch(source: &str, name: &str) -> Batch {
        let text = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        let parsed = parse::documents(&text, "a.yaml", &mesh());
        Batch { source: SourceId::new(source), updates: vec![Update::File { file: "a.yaml".into(), parsed }] }
    }

    #[tokio::test]
    async fn the_first_changes_wait_for_every_source() {
        let (mut input, sender) = Input::new(&["one", "two"].map(SourceId::new));
        let (mesh, startup, refused) = context();
        for name in ["a", "b"] {
            sender.try_send(batch("one", name).into()).unwrap();
        }
        let soon = Duration::from_millis(50);
        assert!(timeout(soon, input.first(&mesh, &startup, &refused)).await.is_err());
        sender.try_send(Batch { source: SourceId::new("two"), updates: Vec::new() }.into()).unwrap();
        assert!(input.first(&mesh, &startup, &refused).await.is_some());
    }

    /// With defaults in place of settings that do not parse, the mesh could have another trust domain.
    #[tokio::test]
    async fn the_first_changes_wait_for_settings_of_the_mesh_that_can_be_used() {
        let (mut input, sender) = Input::new(&[SourceId::new("one")]);
        let (mesh, startup, refused) = context();
        let state = |text: &str| {
            let settings = format!(
                "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, \
                 data: {{mesh: '{text}'}}}}"
            );
            let parsed = parse::documents(&settings, "a.yaml", &mesh);
            let updates = vec![Update::File { file: "a.yaml".into(), parsed }];
            sender.try_send(Batch { source: SourceId::new("one"), updates }.into()).unwrap();
        };
        state("trustDomain: A_B!");
        let soon = Duration::from_millis(50);
        assert!(timeout(soon, input.first(&mesh, &startup, &refused)).await.is_err());
        let said = refused.borrow().clone().unwrap_or_default();
        assert!(said.contains("data.mesh.trustDomain (a.yaml:1): \"A_B!\" is refused"), "{said}");
        state("trustDomain: example.org");
        let changes = input.first(&mesh, &startup, &refused).await.unwrap();
        assert!(matches!(&changes[..], [Change::Upsert(_)]), "{changes:?}");
        // A mistake that comes later takes nothing away.
        state("trustDomain: A_B!");
        assert_eq!(input.next().await, Some(Vec::new()));
        assert!(timeout(soon, input.first(&mesh, &startup, &refused)).await.unwrap().is_some());
    }
}
