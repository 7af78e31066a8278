//! How a replica works in a cluster.

use clap::{ArgAction, Args};
use eastwest_kubernetes::ApiOptions;

use crate::serve::ClusterConfig;

/// Flags of Kubernetes mode.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes mode")]
pub(super) struct ClusterArgs {
    /// Namespace of our own Secrets and of the Lease [default: POD_NAMESPACE, else the root namespace].
    #[arg(long, value_name = "NS", env = "EASTWEST_NAMESPACE")]
    namespace: Option<String>,
    /// Let the replicas elect the one that writes, with the Lease eastwest-leader. With false, this process writes.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        action = ArgAction::Set,
        env = "EASTWEST_LEADER_ELECT"
    )]
    leader_elect: bool,
}

impl ClusterArgs {
    /// Reads the flags.
    pub(super) fn read(self, api: ApiOptions, root_namespace: String) -> ClusterConfig {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        ClusterConfig {
            api,
            namespace: self.namespace.or_else(|| variable("POD_NAMESPACE")).unwrap_or(root_namespace),
            leader_elect: self.leader_elect,
            replica: variable("POD_NAME").or_else(host).unwrap_or_else(|| "eastwest".to_owned()),
        }
    }
}
