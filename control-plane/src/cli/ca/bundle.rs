//! `eastwest ca bundle`: what peers must trust.

use std::path::Path;

use clap::Args;
use eastwest_ca_server::operations;
use time::OffsetDateTime;

use super::{Outcome, Result};
use crate::output::write_out;

#[derive(Debug, Args)]
pub(super) struct BundleArgs {}

impl BundleArgs {
    pub(super) fn run(self, state_dir: &Path, now: OffsetDateTime) -> Result {
        write_out(operations::bundle(state_dir, now)?.trim_end())?;
        Ok(Outcome::Success)
    }
}
