//! How long workload certificates live.

use std::time::Duration;

use clap::Args;
use eastwest_ca::Lifetimes;

use super::istiod;
use crate::config::{Problems, duration};

/// Default of the longest lifetime: 90 days.
const USUAL_MAXIMUM: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Flags of the lifetime of workload certificates.
#[derive(Debug, Args)]
pub(super) struct LifetimeArgs {
    /// Lifetime of a workload certificate if the request names none [default: 24h, for `ca serve` 10m; also read from
    /// DEFAULT_WORKLOAD_CERT_TTL].
    #[arg(long, value_name = "DURATION", env = "EASTWEST_CERT_TTL")]
    cert_ttl: Option<String>,
    /// Shortest lifetime. Requests for less are refused.
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "EASTWEST_MIN_CERT_TTL")]
    min_cert_ttl: String,
    /// Longest lifetime. Requests for more are refused [default: 90d; also read from MAX_WORKLOAD_CERT_TTL].
    #[arg(long, value_name = "DURATION", env = "EASTWEST_MAX_CERT_TTL")]
    max_cert_ttl: Option<String>,
}

impl LifetimeArgs {
    /// Reads the flags; `usual` is the lifetime if neither flag nor request names one.
    pub(super) fn read(self, problems: &mut Problems, usual: &str) -> Option<Lifetimes> {
        let default = read("--cert-ttl", self.cert_ttl, "DEFAULT_WORKLOAD_CERT_TTL", problems);
        let min = problems.take("--min-cert-ttl", duration(&self.min_cert_ttl));
        let max = read("--max-cert-ttl", self.max_cert_ttl, "MAX_WORKLOAD_CERT_TTL", problems);
        let usual = problems.take("--cert-ttl", duration(usual));
        let max = max?.unwrap_or(USUAL_MAXIMUM);
        // A lower maximum also lowers the default.
        let cert_ttl = default?.unwrap_or(usual?.min(max));
        let lifetimes = Lifetimes::new(cert_ttl, min?, max);
        problems.take("--cert-ttl, --min-cert-ttl, --max-cert-ttl", lifetimes)
    }
}

/// The duration of the flag, else of istiod's variable; `None` after a mistake, which is added to `problems`.
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
