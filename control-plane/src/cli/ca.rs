//! `eastwest ca`: operations on the certificate authority. One module a sub-command.

mod bundle;
mod init;
mod issue;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::{Failure, Outcome, Result};

/// The arguments of `eastwest ca`.
#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
    /// The state directory.
    #[arg(long, value_name = "DIR", default_value = ".eastwest", global = true, env = "EASTWEST_STATE_DIR")]
    state_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Create the state directory with a root, unless it exists; `serve` does so too.
    Init(init::InitArgs),
    /// Show the root: subject, serial number, validity, fingerprint.
    Show(show::ShowArgs),
    /// Issue a key and a certificate to a SPIFFE ID, as files: cert-chain.pem, key.pem, root-cert.pem.
    Issue(issue::IssueArgs),
    /// Print the trust bundle: what peers of our workloads must trust.
    Bundle(bundle::BundleArgs),
}

impl CaArgs {
    pub(super) fn run(self) -> Result {
        let now = OffsetDateTime::now_utc();
        match self.command {
            CaCommand::Init(args) => args.run(&self.state_dir, now),
            CaCommand::Show(args) => args.run(&self.state_dir, now),
            CaCommand::Issue(args) => args.run(&self.state_dir, now),
            CaCommand::Bundle(args) => args.run(&self.state_dir, now),
        }
    }
}
