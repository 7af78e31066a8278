//! Whose service-account tokens are accepted.

use clap::Args;

use crate::{
    config::Problems,
    serve::{TokenConfig, TokenIssuerConfig},
};

/// Flags of bearer tokens.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// Also accept service-account tokens signed by the keys of this JWKS file (RS256, ES256, EdDSA).
    #[arg(long, value_name = "FILE", env = "EASTWEST_TOKEN_JWKS")]
    token_jwks: Option<String>,
    /// The issuer (`iss`) of those tokens.
    #[arg(long, value_name = "ISS", env = "EASTWEST_TOKEN_ISSUER")]
    token_issuer: Option<String>,
    /// The audience (`aud`) that a token must name.
    #[arg(long, value_name = "AUD", default_value = "istio-ca", env = "EASTWEST_TOKEN_AUDIENCE")]
    token_audience: String,
}

impl TokenArgs {
    /// Reads them.
    pub(super) fn read(self, problems: &mut Problems) -> TokenConfig {
        let issuer = match (self.token_jwks, self.token_issuer) {
            (Some(jwks), Some(issuer)) => Some(TokenIssuerConfig { jwks, issuer }),
            (None, None) => None,
            (Some(_), None) => {
                problems.add("--token-issuer", "--token-jwks needs it: the `iss` of the tokens");
                None
            }
            (None, Some(_)) => {
                problems.add("--token-jwks", "--token-issuer needs it: the file with the issuer's keys");
                None
            }
        };
        TokenConfig { audience: self.token_audience, issuer }
    }
}
