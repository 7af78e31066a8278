//! How a replica works in a cluster.

use clap::{ArgAction, Args};
use eastwest_kubernetes::ApiOptions;

use eastwest_model::names::is_dns_label;

use crate::{
    config::{Problems, replica},
    serve::ClusterConfig,
};

/// Flags of Kubernetes mode.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes mode")]
pub(super) struct ClusterArgs {
    /// Namespace of our own Secrets and of the Lease [default: POD_NAMESPACE, else the root namespace].
    #[arg(long, value_name = "NAMESPACE", env = "EASTWEST_NAMESPACE")]
    namespace: Option<String>,
    /// Let the replicas elect the one that writes, with the Lease eastwest-leader. With false, this process writes [default:
    /// true].
    #[arg(
        long,
        value_name = "BOOL",
        default_missing_value = "true",
        num_args = 0..=1,
        action = ArgAction::Set,
        env = "EASTWEST_LEADER_ELECT"
    )]
    leader_elect: Option<bool>,
}

impl ClusterArgs {
    /// In directory mode these flags mean nothing, so that whoever gives them means another mode.
    pub(super) fn refuse(&self, problems: &mut Problems) {
        let given =
            [("--namespace", self.namespace.is_some()), ("--leader-elect", self.leader_elect.is_some())];
        for (flag, _) in given.iter().filter(|(_, given)| *given) {
            problems.add(
                flag,
                "is for Kubernetes mode, but --config-dir selects directory mode: leave one of them out",
            );
        }
    }

    /// Reads the flags.
    pub(super) fn read(
        self,
        api: ApiOptions,
        root_namespace: String,
        problems: &mut Problems,
    ) -> Option<ClusterConfig> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let namespace = self.namespace.or_else(|| variable("POD_NAMESPACE")).unwrap_or(root_namespace);
        if !is_dns_label(&namespace) {
            let problem = format!("{namespace:?} is no namespace: write a DNS label such as istio-system");
            problems.add("--namespace", problem);
            return None;
        }
        Some(ClusterConfig {
            api,
            namespace,
            leader_elect: self.leader_elect.unwrap_or(true),
            replica: replica(),
        })
    }
}
