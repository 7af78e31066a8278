//! `eastwest ca init`: a root for a state directory that has none.

use std::path::Path;

use clap::Args;
use eastwest_ca::NewRoot;
use eastwest_ca_server::operations;
use eastwest_model::TrustDomain;
use time::OffsetDateTime;

use super::{Failure, Outcome, Result, show};
use crate::{config::Problems, output::OutputArgs};

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Trust domain that the root names.
    #[arg(long, value_name = "NAME", default_value = "cluster.local", env = "EASTWEST_TRUST_DOMAIN")]
    trust_domain: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl InitArgs {
    pub(super) fn run(self, state_dir: &Path, now: OffsetDateTime) -> Result {
        let mut problems = Problems::default();
        let domain = problems.take("--trust-domain", TrustDomain::parse(&self.trust_domain));
        let domain = domain.ok_or(Failure::Usage(problems))?;
        self.output.print(&operations::init(state_dir, &NewRoot::of(domain), now)?, show::describe)?;
        Ok(Outcome::Success)
    }
}
