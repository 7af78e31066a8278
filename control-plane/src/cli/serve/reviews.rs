//! Whether the Kubernetes API is asked about tokens.

use std::path::PathBuf;

use clap::Args;

use crate::{config::Problems, serve::ReviewConfig};

/// Flags of TokenReview.
#[derive(Debug, Args)]
pub(super) struct ReviewArgs {
    /// Ask the Kubernetes API about tokens of issuers whose keys are not known here (TokenReview).
    #[arg(long, env = "EASTWEST_TOKEN_REVIEW")]
    token_review: bool,
    /// Where that API is [default: what a pod of the cluster is given].
    #[arg(long, value_name = "FILE", env = "EASTWEST_KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

impl ReviewArgs {
    /// Reads them.
    pub(super) fn read(self, problems: &mut Problems) -> Option<ReviewConfig> {
        if self.kubeconfig.is_some() && !self.token_review {
            problems.add("--token-review", "--kubeconfig needs it: nothing else asks the Kubernetes API yet");
        }
        self.token_review.then_some(ReviewConfig { kubeconfig: self.kubeconfig })
    }
}
