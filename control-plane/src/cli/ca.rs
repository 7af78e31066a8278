//! `eastwest ca`: operations on the certificate authority. One module a sub-command.

mod bundle;
mod init;
mod issue;
mod ledger;
mod rotate;
mod serve;
mod show;
mod wait_ready;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::{Exit, Failure, Result};

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
    /// Run the certificate authority without a mesh: for CI clusters and tests, ready in under a second.
    Serve(Box<serve::ServeArgs>),
    /// Wait until a server is ready; exit 1 with the last reason if it is not in time.
    WaitReady(wait_ready::WaitReadyArgs),
    /// Issue a key and a certificate to a SPIFFE ID, as files: cert-chain.pem, key.pem, root-cert.pem.
    Issue(Box<issue::IssueArgs>),
    /// Print the trust bundle: what peers of our workloads must trust.
    Bundle(bundle::BundleArgs),
    /// Show how far the rotation of the root is, or take its next step.
    Rotate(rotate::RotateArgs),
    /// Verify or query the ledger of what was issued and refused.
    Ledger(ledger::LedgerArgs),
}

impl CaArgs {
    pub(super) fn run(self) -> Result {
        let now = OffsetDateTime::now_utc();
        match self.command {
            CaCommand::Init(args) => args.run(&self.state_dir, now),
            CaCommand::Show(args) => args.run(&self.state_dir, now),
            CaCommand::Serve(args) => args.run(&self.state_dir),
            CaCommand::WaitReady(args) => args.run(),
            CaCommand::Issue(args) => args.run(&self.state_dir, now),
            CaCommand::Bundle(args) => args.run(&self.state_dir, now),
            CaCommand::Rotate(args) => args.run(&self.state_dir, now),
            CaCommand::Ledger(args) => args.run(&self.state_dir, now),
        }
    }
}
