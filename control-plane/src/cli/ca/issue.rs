//! `eastwest ca issue`: a key and its certificate in one call.

use std::path::{Path, PathBuf};

use clap::Args;
use eastwest_ca::Lifetimes;
use eastwest_ca_server::operations::{self, OperationError};
use eastwest_model::SpiffeId;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Failure, Outcome, Result};
use crate::{
    config::{Problems, duration},
    output::write_out,
};

#[derive(Debug, Args)]
pub(super) struct IssueArgs {
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

impl IssueArgs {
    pub(super) fn run(self, state_dir: &Path, now: OffsetDateTime) -> Result {
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
        Ok(Outcome::Success)
    }
}
