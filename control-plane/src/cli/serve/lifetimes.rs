//! How long workload certificates live.

use clap::Args;
use eastwest_ca::Lifetimes;

use crate::config::{Problems, duration};

/// Flags of the life of workload certificates.
#[derive(Debug, Args)]
pub(super) struct LifetimeArgs {
    /// Life of a workload certificate when the request names none [default: 24h; of `ca serve`: 10m].
    #[arg(long, value_name = "DURATION", env = "EASTWEST_CERT_TTL")]
    cert_ttl: Option<String>,
    /// Shortest life; a shorter request is refused.
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "EASTWEST_MIN_CERT_TTL")]
    min_cert_ttl: String,
    /// Longest life; a longer request is refused.
    #[arg(long, value_name = "DURATION", default_value = "90d", env = "EASTWEST_MAX_CERT_TTL")]
    max_cert_ttl: String,
}

impl LifetimeArgs {
    /// Reads them; `usual` is the life when neither flag nor request names one.
    pub(super) fn read(self, problems: &mut Problems, usual: &str) -> Option<Lifetimes> {
        let cert_ttl = problems.take("--cert-ttl", duration(self.cert_ttl.as_deref().unwrap_or(usual)));
        let min = problems.take("--min-cert-ttl", duration(&self.min_cert_ttl));
        let max = problems.take("--max-cert-ttl", duration(&self.max_cert_ttl));
        let lifetimes = Lifetimes::new(cert_ttl?, min?, max?);
        problems.take("--cert-ttl, --min-cert-ttl, --max-cert-ttl", lifetimes)
    }
}
