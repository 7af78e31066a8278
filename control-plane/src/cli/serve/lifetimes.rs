//! How long workload certificates live.

use std::time::Duration;

use clap::Args;
use eastwest_ca::Lifetimes;

use super::istiod;
use crate::config::{Problems, duration};

/// Longest life when nobody says otherwise: 90 days.
const USUAL_MAXIMUM: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Flags of the life of workload certificates.
#[derive(Debug, Args)]
pub(super) struct LifetimeArgs {
    /// Life of a workload certificate when the request names none [default: 24h; of `ca serve`: 10m; also:
    /// DEFAULT_WORKLOAD_CERT_TTL].
    #[arg(long, value_name = "DURATION", env = "EASTWEST_CERT_TTL")]
    cert_ttl: Option<String>,
    /// Shortest life; a shorter request is refused.
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "EASTWEST_MIN_CERT_TTL")]
    min_cert_ttl: String,
    /// Longest life; a longer request is refused [default: 90d; also: MAX_WORKLOAD_CERT_TTL].
    #[arg(long, value_name = "DURATION", env = "EASTWEST_MAX_CERT_TTL")]
    max_cert_ttl: Option<String>,
}

impl LifetimeArgs {
    /// Reads them; `usual` is the life when neither flag nor request names one.
    pub(super) fn read(self, problems: &mut Problems, usual: &str) -> Option<Lifetimes> {
        let default = read("--cert-ttl", self.cert_ttl, "DEFAULT_WORKLOAD_CERT_TTL", problems);
        let min = problems.take("--min-cert-ttl", duration(&self.min_cert_ttl));
        let max = read("--max-cert-ttl", self.max_cert_ttl, "MAX_WORKLOAD_CERT_TTL", problems);
        let usual = problems.take("--cert-ttl", duration(usual));
        let max = max?.unwrap_or(USUAL_MAXIMUM);
        // Whoever lowers the maximum alone means what nobody asks a life for, too.
        let cert_ttl = default?.unwrap_or(usual?.min(max));
        let lifetimes = Lifetimes::new(cert_ttl, min?, max);
        problems.take("--cert-ttl, --min-cert-ttl, --max-cert-ttl", lifetimes)
    }
}

/// The flag's duration, else that of istiod's variable; `None` after a mistake, which is noted.
#[expect(clippy::option_option, reason = "absent is no mistake")]
fn read(
    flag: &str,
    text: Option<String>,
    variable: &str,
    problems: &mut Problems,
) -> Option<Option<Duration>> {
    match text {
        Some(text) => problems.take(flag, duration(&text)).map(Some),
        None => istiod::duration(variable, problems),
    }
}
