//! Flags of the limits of the CA.

use std::{num::NonZeroU32, str::FromStr};

use clap::Args;
use eastwest_ca::rate_limit::Rate;
use eastwest_ca_server::Limits;

use crate::config::Problems;

/// Flags of the limits.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// Certificate requests per second that one caller may make. Above that it is asked to retry later.
    #[arg(long, value_name = "N", default_value = "100", env = "EASTWEST_CA_RATE")]
    ca_rate: String,
    /// Certificate requests that one caller may make at once after a pause.
    #[arg(long, value_name = "N", default_value = "1000", env = "EASTWEST_CA_BURST")]
    ca_burst: String,
    /// Number of threads that sign [default: one for each core].
    #[arg(long, value_name = "N", env = "EASTWEST_CA_SIGNERS")]
    ca_signers: Option<String>,
}

impl LimitArgs {
    /// Reads the flags.
    pub(super) fn read(self, problems: &mut Problems) -> Option<Limits> {
        let usual = Limits::default();
        let per_second = problems.take("--ca-rate", number(&self.ca_rate));
        let burst = problems.take("--ca-burst", number(&self.ca_burst));
        let signers = self.ca_signers.map(|text| problems.take("--ca-signers", number(&text)));
        let signers = match signers {
            Some(signers) => usize::try_from(signers?.get()).ok()?,
            None => usual.signers,
        };
        Some(Limits { requests: Rate { per_second: per_second?, burst: burst? }, signers, ..usual })
    }
}

fn number(text: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::from_str(text).map_err(|_| format!("{text:?} is not a whole number from 1 on"))
}
