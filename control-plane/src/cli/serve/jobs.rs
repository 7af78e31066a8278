//! Which jobs of CI systems get which identities.

use std::path::PathBuf;

use clap::Args;
use eastwest_io::TrustedRoots;

use crate::{config::Problems, serve::JobConfig};

/// Flags of jobs of CI systems.
#[derive(Debug, Args)]
pub(super) struct JobArgs {
    /// Accept OIDC tokens of CI jobs by the rules in this file (YAML or JSON). It is read again when it changes.
    #[arg(long, value_name = "FILE", env = "EASTWEST_OIDC_RULES")]
    oidc_rules: Option<PathBuf>,
    /// Root certificates (PEM) for the servers of the issuers' keys [default: those of the system].
    #[arg(long, value_name = "FILE", env = "EASTWEST_OIDC_CA")]
    oidc_ca: Option<PathBuf>,
}

impl JobArgs {
    /// Reads the flags.
    pub(super) fn read(self, problems: &mut Problems) -> Option<JobConfig> {
        if self.oidc_ca.is_some() && self.oidc_rules.is_none() {
            problems.add("--oidc-rules", "--oidc-ca needs it: the file with the rules");
        }
        let roots = self.oidc_ca.map_or(TrustedRoots::System, TrustedRoots::File);
        self.oidc_rules.map(|rules| JobConfig { rules, roots })
    }
}
