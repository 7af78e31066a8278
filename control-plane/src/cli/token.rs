//! `eastwest token`: mint a service-account token.

use std::path::PathBuf;

use clap::Args;
use eastwest_ca::jwt::TokenKeyError;
use eastwest_ca_server::operations::{self, OperationError};
use time::OffsetDateTime;

use super::{Exit, Failure, Result};
use crate::{
    config::{Problems, duration, service_account},
    output::write_out,
};

/// The arguments of `eastwest token`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  eastwest token --service-account shop/reviews > /var/run/secrets/tokens/istio-token"
)]
pub(crate) struct TokenArgs {
    /// The identity in the token, NAMESPACE/SERVICE-ACCOUNT.
    #[arg(long, value_name = "NS/SA", env = "EASTWEST_TOKEN_SERVICE_ACCOUNT")]
    service_account: String,
    /// Lifetime of the token.
    #[arg(long, value_name = "DURATION", default_value = "1h", env = "EASTWEST_TOKEN_TTL")]
    ttl: String,
    /// The audience of the token (`aud`).
    #[arg(long, value_name = "AUD", default_value = "istio-ca", env = "EASTWEST_TOKEN_AUDIENCE")]
    audience: String,
    /// The state directory with the token key that signs.
    #[arg(long, value_name = "DIR", default_value = ".eastwest", env = "EASTWEST_STATE_DIR")]
    state_dir: PathBuf,
}

impl TokenArgs {
    pub(super) fn run(self) -> Result {
        let mut problems = Problems::default();
        let account = problems.take("--service-account", service_account(&self.service_account));
        let ttl = problems.take("--ttl", duration(&self.ttl));
        let (Some((namespace, account)), Some(ttl)) = (account, ttl) else {
            return Err(Failure::Usage(problems));
        };
        let now = OffsetDateTime::now_utc();
        let token = operations::token(&self.state_dir, &namespace, &account, &self.audience, ttl, now);
        let token = token.map_err(|error| match error {
            OperationError::Token(TokenKeyError::Lifetime) => Failure::usage("--ttl", error),
            error => error.into(),
        })?;
        write_out(&token)?;
        Ok(Exit::Success)
    }
}
