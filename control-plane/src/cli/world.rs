//! Where the commands that ask about the mesh get their answers: a directory of manifests, a running server, or the
//! Kubernetes API with the rights of the person who asks.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::{ArgMatches, Args, Command, FromArgMatches, error::ErrorKind, parser::ValueSource};
use eastwest_engine::{Counts, Index};
use eastwest_kubernetes::{ApiOptions, Progress};
use eastwest_model::{MeshConfig, TrustDomain};
use serde_json::Value;

use super::{Failure, Result, cluster, runtime};
use crate::{
    config::Problems,
    query::{Question, World},
    remote,
};

/// The flags that choose the source.
#[derive(Debug, Args)]
pub(crate) struct WorldArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    mesh: MeshArgs,
}

/// The source of the answer. A flag on the command line has priority over a variable, whichever of the two it is.
#[derive(Debug)]
enum Source {
    Directory(PathBuf),
    Server(String),
    Cluster(ApiOptions),
}

/// The flags, and what clap makes of them; [`Source`] chooses.
#[derive(Debug, Args)]
struct SourceArgs {
    /// Read a directory of Kubernetes manifests.
    #[arg(long, value_name = "DIR", env = "EASTWEST_CONFIG_DIR")]
    config_dir: Option<PathBuf>,
    /// Ask the running control plane at this HTTP address [default without --config-dir and without a kubeconfig:
    /// http://127.0.0.1:15014].
    #[arg(long, value_name = "URL", env = "EASTWEST_SERVER")]
    server: Option<String>,
    /// Read the cluster of this kubeconfig file with your rights there [default without --config-dir and --server: KUBECONFIG,
    /// else ~/.kube/config, if there is one].
    #[arg(long, value_name = "FILE", env = "EASTWEST_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current context].
    #[arg(long, value_name = "NAME", env = "EASTWEST_CONTEXT")]
    context: Option<String>,
}

impl Args for Source {
    fn augment_args(command: Command) -> Command {
        SourceArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        SourceArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for Source {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let SourceArgs { config_dir, server, kubeconfig, context } = SourceArgs::from_arg_matches(matches)?;
        let of_cluster = typed("kubeconfig") || typed("context");
        let by_hand = [typed("config_dir"), typed("server"), of_cluster];
        let conflict = match by_hand {
            [true, true, false] => Some("--config-dir and --server exclude each other"),
            [true, _, true] => Some("--config-dir and --kubeconfig or --context exclude each other"),
            [false, true, true] => Some("--server and --kubeconfig or --context exclude each other"),
            _ => None,
        };
        if let Some(conflict) = conflict {
            let message = format!("{conflict}: ask a directory, a running control plane, or a cluster\n");
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, message));
        }
        let named = kubeconfig.is_some() || context.is_some();
        let cluster = Self::Cluster(ApiOptions { kubeconfig, context });
        Ok(match (by_hand, config_dir, server) {
            ([true, ..], Some(directory), _) => Self::Directory(directory),
            ([_, true, _], _, Some(server)) => Self::Server(server),
            ([_, _, true], ..) => cluster,
            (_, Some(directory), _) => Self::Directory(directory),
            (_, None, Some(server)) => Self::Server(server),
            (_, None, None) if named || eastwest_kubernetes::is_configured() => cluster,
            (_, None, None) => Self::Server("http://127.0.0.1:15014".to_owned()),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flags that stand in for a MeshConfig.
#[derive(Debug, Args)]
pub(crate) struct MeshArgs {
    /// Trust domain of the identities; a MeshConfig in the input has priority.
    #[arg(long, value_name = "NAME", default_value = "cluster.local", env = "EASTWEST_TRUST_DOMAIN")]
    trust_domain: String,
    /// The namespace whose policies apply to the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system", env = "EASTWEST_ROOT_NAMESPACE")]
    root_namespace: String,
    /// Let a ServiceEntry take names and addresses of Kubernetes Services of other namespaces for all clients, as in Istio
    /// [default: only for clients of its own namespace].
    #[arg(long, env = "EASTWEST_ALLOW_SERVICE_TAKEOVER")]
    allow_service_takeover: bool,
}

impl MeshArgs {
    /// Istio's defaults with these flags.
    pub(crate) fn read(&self, problems: &mut Problems) -> Option<MeshConfig> {
        let domain = problems.take("--trust-domain", TrustDomain::parse(&self.trust_domain))?;
        let mesh = MeshConfig::new(domain, self.root_namespace.as_str());
        Some(MeshConfig { entries_take_services: self.allow_service_takeover, ..mesh })
    }
}

impl WorldArgs {
    /// Whether a running server is asked.
    pub(super) fn is_server(&self) -> bool {
        matches!(self.source, Source::Server(_))
    }

    /// Asks the source that the flags name.
    pub(super) fn ask(&self, question: &Question) -> Result<Value> {
        Ok(self.ask_with_counts(question)?.0)
    }

    /// The same, and how much was read to answer; a server does not tell.
    pub(super) fn ask_with_counts(&self, question: &Question) -> Result<(Value, Option<Counts>)> {
        let mut problems = Problems::default();
        let Some(mesh) = self.mesh.read(&mut problems) else { return Err(Failure::Usage(problems)) };
        let loaded = match &self.source {
            Source::Server(server) => {
                return Ok((runtime()?.block_on(remote::ask(server, question))?, None));
            }
            Source::Cluster(options) => cluster::load(options, &mesh)?,
            Source::Directory(directory) => {
                eastwest_sources::load(directory, &mesh).context("--config-dir")?
            }
        };
        let mut index = Index::new(mesh);
        for change in loaded.changes {
            index.apply(change);
        }
        let (input, progress) = (Arc::new(loaded.diagnostics), Progress::default());
        let world = World { snapshot: index.freeze(), input, progress };
        Ok((world.answer(question)?, Some(world.snapshot.counts())))
    }
}
