//! A serving process from start to end: signals, state directory, certificate authority, background tasks, drain. Every
//! kind of server uses it; a kind decides where its input and its signer come from, and what it serves.

use std::{io, sync::Arc};

use eastwest_ca_server::CertificateAuthority;
use eastwest_io::defects::{self, Defect};
use tokio::task::JoinSet;

use super::{
    ca::{self, CaConfig, Place},
    shutdown::Shutdown,
    signer::{SignerSource, TrustDomainChoice},
    startup::Startup,
    state::State,
};

/// A process that serves until SIGTERM or SIGINT.
pub(super) struct Process {
    shutdown: Shutdown,
    background: JoinSet<()>,
    /// Kept for as long as the process runs.
    state: Option<State>,
}

impl Process {
    /// Handles the signals from now on.
    ///
    /// # Errors
    /// The process may not handle them.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self { shutdown: Shutdown::on_signals()?, background: JoinSet::new(), state: None })
    }

    /// The shutdown of this process.
    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Keeps `state` until the process ends.
    pub(super) fn keep(&mut self, state: State) {
        self.state = Some(state);
    }

    /// Starts a task that must not end before the process does.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(task);
    }

    /// Starts the CA at `place`: opens and follows its signer, renews its serving certificate, follows its proofs of
    /// identity.
    ///
    /// # Errors
    /// A signer or a configured file that cannot be used.
    pub(super) async fn start_ca(
        &mut self,
        config: &CaConfig,
        signer: &SignerSource,
        trust_domain: TrustDomainChoice,
        place: &Place<'_>,
        startup: &Startup,
    ) -> anyhow::Result<Arc<CertificateAuthority>> {
        let serving_names = config.names_at(place);
        let (roots, keys) = signer.open(place.state, &trust_domain, &serving_names, startup).await?;
        let ca = ca::start(config, keys, trust_domain.name, place, startup).await?;
        roots.map(|roots| roots.follow(&ca)).transpose()?;
        self.spawn(ca.clone().renew_serving_certificate());
        self.spawn(ca.clone().follow_proofs());
        Ok(ca)
    }

    /// Waits until `serving` ends. After the first signal, connections have a limited time to end.
    ///
    /// # Errors
    /// Those of `serving`, and a [`Defect`]: a background task that ended, or another part that must not.
    pub(super) async fn run(
        mut self,
        serving: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        tokio::select! {
            ended = self.shutdown.bound(serving) => ended,
            _ = self.background.join_next() => Err(defects::is_fatal().unwrap_or(Defect("a background task")).into()),
            defect = defects::fatal() => Err(defect.into()),
        }
    }
}
