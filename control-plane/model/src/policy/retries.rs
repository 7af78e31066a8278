//! Which requests are tried again.

use std::time::Duration;

use eastwest_identity::Name;

/// What is tried again where nothing else is said, with Envoy's names.
const DEFAULT_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// How requests are tried again. [`Default`] has Istio's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RetryPolicy {
    /// How often at most, besides the first time; 0 = never.
    pub attempts: u32,
    /// How long each time may take.
    pub per_try_timeout: Option<Duration>,
    /// After what, a list with Envoy's names.
    pub on: Name,
    /// After which status codes.
    pub codes: Vec<u32>,
    /// The least time before the next time; `None` = Envoy's default.
    pub backoff: Option<Duration>,
    /// Whether hosts that were tried already are passed over; `None` = unless they are chosen by a hash.
    pub ignore_previous_hosts: Option<bool>,
    /// Whether localities that were tried already are passed over.
    pub remote_localities: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 2,
            per_try_timeout: None,
            on: DEFAULT_ON.into(),
            codes: Vec::new(),
            backoff: None,
            ignore_previous_hosts: None,
            remote_localities: false,
        }
    }
}
