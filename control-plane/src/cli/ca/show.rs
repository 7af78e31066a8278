//! `eastwest ca show`: what is in a state directory.

use std::path::Path;

use clap::Args;
use eastwest_ca_server::operations::{self, Summary};
use time::OffsetDateTime;

use super::{Exit, Result};
use crate::output::OutputArgs;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    output: OutputArgs,
}

impl ShowArgs {
    pub(super) fn run(self, state_dir: &Path, now: OffsetDateTime) -> Result {
        self.output.print(&operations::show(state_dir, now)?, describe)?;
        Ok(Exit::Success)
    }
}

/// The CA in a few lines.
pub(super) fn describe(summary: &Summary) -> String {
    let mut text = format!("state directory  {}\n", summary.state_dir.display());
    for root in &summary.roots {
        text += &format!("root             {} ({})\n", root.subject, root.key);
        text += &format!("serial           {}\n", root.serial);
        text += &format!("valid            {} to {}\n", root.not_before, root.not_after);
        text += &format!("sha256           {}\n", root.sha256);
    }
    text + &format!("token key        {}", summary.token_key_id)
}
