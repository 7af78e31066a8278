//! `eastwest ca`: operations on the certificate authority of a state directory.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use eastwest_ca::Lifetimes;
use eastwest_ca_server::operations::{self, OperationError, Summary};
use eastwest_model::{SpiffeId, TrustDomain};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Failure, Outcome, Result};
use crate::{
    config::{Problems, duration},
    output::{OutputArgs, write_out},
};

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
    Init {
        /// Trust domain that the root names.
        #[arg(long, value_name = "NAME", default_value = "cluster.local", env = "EASTWEST_TRUST_DOMAIN")]
        trust_domain: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show the root: subject, serial number, validity, fingerprint.
    Show {
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Issue a key and a certificate to a SPIFFE ID, as files: cert-chain.pem, key.pem, root-cert.pem.
    Issue(IssueArgs),
    /// Print the trust bundle as PEM.
    Bundle,
}

#[derive(Debug, Args)]
struct IssueArgs {
    /// The identity, e.g. spiffe://cluster.local/ns/shop/sa/reviews.
    #[arg(value_name = "SPIFFE-ID")]
    identity: String,
    /// Where the files go; created with mode 0700.
    #[arg(long, value_name = "DIR", default_value = ".", env = "EASTWEST_OUT")]
    out: PathBuf,
    /// Life of the certificate.
    #[arg(long, value_name = "DURATION", default_value = "24h", env = "EASTWEST_CERT_TTL")]
    ttl: String,
}

impl CaArgs {
    pub(super) fn run(self) -> Result {
        let now = OffsetDateTime::now_utc();
        match self.command {
            CaCommand::Init { trust_domain, output } => {
                let mut problems = Problems::default();
                let domain = problems.take("--trust-domain", TrustDomain::parse(&trust_domain));
                let domain = domain.ok_or(Failure::Usage(problems))?;
                output.print(&operations::init(&self.state_dir, &domain, now)?, describe)?;
            }
            CaCommand::Show { output } => output.print(&operations::show(&self.state_dir, now)?, describe)?,
            CaCommand::Bundle => write_out(operations::bundle(&self.state_dir, now)?.trim_end())?,
            CaCommand::Issue(args) => args.run(&self.state_dir, now)?,
        }
        Ok(Outcome::Success)
    }
}

impl IssueArgs {
    fn run(self, state_dir: &std::path::Path, now: OffsetDateTime) -> Result<()> {
        let mut problems = Problems::default();
        let identity = problems.take("SPIFFE-ID", SpiffeId::parse(&self.identity));
        let ttl = problems.take("--ttl", duration(&self.ttl));
        let (Some(identity), Some(ttl)) = (identity, ttl) else { return Err(Failure::Usage(problems)) };
        let issued = operations::issue(state_dir, &identity, Some(ttl), Lifetimes::default(), now);
        let issued = issued.map_err(|error| match error {
            OperationError::Refused(refusal) => {
                Failure::Usage([format!("SPIFFE-ID, --ttl: {refusal}")].into_iter().collect())
            }
            error => error.into(),
        })?;
        let files = issued.write(&self.out)?;
        let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        write_out(&format!(
            "issued {identity}\nserial {}, until {}\n{}",
            issued.serial,
            issued.not_after.format(&Rfc3339)?,
            files.join("\n")
        ))?;
        Ok(())
    }
}

fn describe(summary: &Summary) -> String {
    let mut text = format!("state directory  {}\n", summary.state_dir.display());
    for root in &summary.roots {
        text += &format!("root             {} ({})\n", root.subject, root.key);
        text += &format!("serial           {}\n", root.serial);
        text += &format!("valid            {} to {}\n", root.not_before, root.not_after);
        text += &format!("sha256           {}\n", root.sha256);
    }
    text + &format!("token key        {}", summary.token_key_id)
}
