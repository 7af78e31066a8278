//! What the Kubernetes API is asked about tokens.

use std::path::PathBuf;

use clap::Args;

use crate::{config::Problems, serve::KubernetesConfig};

/// Flags of the Kubernetes API.
#[derive(Debug, Args)]
pub(super) struct KubernetesArgs {
    /// Let the Kubernetes API verify tokens of issuers whose keys are not configured here (TokenReview).
    #[arg(long, env = "EASTWEST_TOKEN_REVIEW")]
    token_review: bool,
    /// kubeconfig file for the Kubernetes API [default: the service account of this pod].
    #[arg(long, value_name = "FILE", env = "EASTWEST_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

impl KubernetesArgs {
    /// Reads the flags; `keys` says whether the API is also the source of token keys.
    pub(super) fn read(self, keys: bool, problems: &mut Problems) -> Option<KubernetesConfig> {
        let asked = self.token_review || keys;
        if self.kubeconfig.is_some() && !asked {
            let needed =
                "--kubeconfig needs it, or --token-jwks kubernetes: nothing else asks the Kubernetes API yet";
            problems.add("--token-review", needed);
        }
        asked.then_some(KubernetesConfig { kubeconfig: self.kubeconfig, review: self.token_review })
    }
}
