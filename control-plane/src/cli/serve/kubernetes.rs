//! The Kubernetes API: where it is, and whether it verifies tokens.

use std::path::PathBuf;

use clap::Args;
use eastwest_kubernetes::ApiOptions;

use crate::{config::Problems, serve::KubernetesConfig};

/// Flags of the Kubernetes API.
#[derive(Debug, Args)]
pub(super) struct KubernetesArgs {
    /// Let the Kubernetes API verify tokens of issuers whose keys are not configured here (TokenReview).
    #[arg(long, env = "EASTWEST_TOKEN_REVIEW")]
    token_review: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Flags that choose a Kubernetes API.
#[derive(Debug, Clone, Args)]
pub(crate) struct ApiArgs {
    /// kubeconfig file for the Kubernetes API [default: the service account of this pod, else KUBECONFIG, else
    /// ~/.kube/config].
    #[arg(long, value_name = "FILE", env = "EASTWEST_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current context].
    #[arg(long, value_name = "NAME", env = "EASTWEST_CONTEXT")]
    context: Option<String>,
}

impl ApiArgs {
    /// Whether a flag names an API.
    pub(crate) fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// Adds a mistake if a command needs a cluster because no `--config-dir` is named, and there is none.
    pub(crate) fn require(&self, problems: &mut Problems) {
        if !self.is_given() && !eastwest_kubernetes::is_configured() {
            let remedy = "name a directory of manifests, or a cluster with --kubeconfig: this is no pod, KUBECONFIG is not \
                          set, and there is no ~/.kube/config";
            problems.add("--config-dir", remedy);
        }
    }

    /// The API that the flags name.
    pub(crate) fn options(&self) -> ApiOptions {
        ApiOptions { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }
}

impl KubernetesArgs {
    /// The API that the flags name.
    pub(super) fn options(&self) -> ApiOptions {
        self.api.options()
    }

    /// Whether the API verifies tokens.
    pub(super) fn review(&self) -> bool {
        self.token_review
    }

    /// Reads the flags; `keys` says whether the API is the source of token keys, `cluster` whether it is followed anyway.
    pub(super) fn read(self, keys: bool, cluster: bool, problems: &mut Problems) -> Option<KubernetesConfig> {
        if cluster {
            self.api.require(problems);
        }
        let asked = self.token_review || keys;
        if self.api.is_given() && !asked && !cluster {
            let needed = "--kubeconfig needs it, or --token-jwks kubernetes: nothing else asks the Kubernetes API here";
            problems.add("--token-review", needed);
        }
        asked.then(|| KubernetesConfig { api: self.api.options(), review: self.token_review })
    }
}
