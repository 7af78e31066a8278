//! Flags of the CA that `serve` and `ca serve` have in common.

use clap::Args;
use eastwest_kubernetes::ApiOptions;

use super::{
    jobs::JobArgs,
    kubernetes::KubernetesArgs,
    lifetimes::LifetimeArgs,
    limits::LimitArgs,
    names::{NameArgs, UsualNames},
    nodes::NodeArgs,
    tokens::TokenArgs,
};
use crate::{
    config::Problems,
    serve::{CaConfig, ProvingConfig},
};

/// Flags of the certificate authority.
#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    /// Name of this cluster. Clients send it as `clusterid`.
    #[arg(long, value_name = "ID", default_value = "Kubernetes", env = "EASTWEST_CLUSTER_ID")]
    cluster_id: String,
    #[command(flatten)]
    tokens: TokenArgs,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    #[command(flatten)]
    nodes: NodeArgs,
    #[command(flatten)]
    jobs: JobArgs,
    #[command(flatten)]
    lifetimes: LifetimeArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    names: NameArgs,
    /// A DNS name or IP address in the server's own certificate (repeatable) [default: the service names of istiod,
    /// localhost and the addresses that it listens on].
    #[arg(long, value_name = "NAME-OR-IP", value_delimiter = ',', env = "EASTWEST_SERVING_NAME")]
    serving_name: Vec<String>,
}

impl CaArgs {
    /// The Kubernetes API that the flags name.
    pub(crate) fn api_options(&self) -> ApiOptions {
        self.kubernetes.options()
    }

    /// Reads the flags; `usual` is the lifetime of a certificate if neither flag nor request names one, and the names that
    /// it may have if no flag does. In a `cluster` the tokens of its service accounts are accepted unless other keys are
    /// named.
    pub(crate) fn read(
        self,
        problems: &mut Problems,
        usual: (&str, UsualNames),
        cluster: bool,
    ) -> Option<CaConfig> {
        let keys = self.tokens.ask_kubernetes(cluster && !self.kubernetes.review());
        let kubernetes = self.kubernetes.read(keys, cluster, problems);
        let tokens = self.tokens.read(keys, problems);
        let nodes = self.nodes.read(problems);
        let jobs = self.jobs.read(problems);
        let lifetimes = self.lifetimes.read(problems, usual.0);
        let allowed_names = self.names.read(problems, usual.1);
        let limits = self.limits.read(problems);
        let names = self.serving_name.iter();
        let serving_names = names.filter_map(|name| problems.take("--serving-name", name.parse())).collect();
        Some(CaConfig {
            cluster_id: self.cluster_id,
            proving: ProvingConfig { tokens, nodes, kubernetes, jobs },
            lifetimes: lifetimes?,
            limits: limits?,
            allowed_names: allowed_names?,
            serving_names,
        })
    }
}
