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

/// The trust domain if neither a flag nor a root nor a server names one.
const USUAL_TRUST_DOMAIN: &str = "cluster.local";

/// The arguments of `eastwest ca`.
#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
    /// The state directory: keys, root certificates and the ledger.
    #[arg(long, value_name = "DIR", default_value = ".eastwest", global = true, env = "EASTWEST_STATE_DIR")]
    state_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Create the state directory with a new root. `serve` does the same if there is none.
    Init(init::InitArgs),
    /// Show the root certificate: subject, serial number, validity, fingerprint.
    Show(show::ShowArgs),
    /// Run the certificate authority without a mesh, for CI clusters and tests. It is ready in less than a second.
    Serve(Box<serve::ServeArgs>),
    /// Wait until a server is ready. Exits with 1 and the reason if the time runs out.
    WaitReady(wait_ready::WaitReadyArgs),
    /// Create a key and issue a certificate for a SPIFFE ID. Writes cert-chain.pem, key.pem and root-cert.pem.
    Issue(Box<issue::IssueArgs>),
    /// Print the trust bundle: the root certificates that peers of our workloads must trust.
    Bundle(bundle::BundleArgs),
    /// Show the rotation of the root, or take its next step.
    Rotate(rotate::RotateArgs),
    /// Verify or query the ledger: the record of all that was issued and refused.
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
