//! Whose service-account tokens are accepted.

use std::path::PathBuf;

use clap::Args;
use eastwest_io::{TrustedRoots, check_address};

use super::istiod;
use crate::{
    config::Problems,
    serve::{KeyPlace, TokenConfig, TokenIssuerConfig},
};

/// istiod's name for the audiences, commas between them; our flag goes before it.
const ISTIOD_AUDIENCES: &str = "TOKEN_AUDIENCES";
/// What projected tokens of a mesh are for.
const USUAL_AUDIENCE: &str = "istio-ca";
/// The word for the keys of the Kubernetes API.
const KUBERNETES: &str = "kubernetes";

/// Flags of bearer tokens.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// Also accept service-account tokens signed by the keys of this JWKS: a file, an https:// address that is asked
    /// again every five minutes, or `kubernetes` for those of the Kubernetes API, asked likewise with our own rights
    /// there (RS256, ES256, EdDSA) [default: the one that the issuer's discovery document names].
    #[arg(long, value_name = "FILE-OR-URL", env = "EASTWEST_TOKEN_JWKS")]
    token_jwks: Option<String>,
    /// The issuer (`iss`) of those tokens.
    #[arg(long, value_name = "ISS", env = "EASTWEST_TOKEN_ISSUER")]
    token_issuer: Option<String>,
    /// Roots (PEM) of the server with those keys [default: those of the system].
    #[arg(long, value_name = "FILE", env = "EASTWEST_TOKEN_JWKS_CA")]
    token_jwks_ca: Option<PathBuf>,
    /// An audience (`aud`) that a token may be for (repeatable) [default: TOKEN_AUDIENCES, else istio-ca].
    #[arg(long, value_name = "AUD", value_delimiter = ',', env = "EASTWEST_TOKEN_AUDIENCE")]
    token_audience: Vec<String>,
    /// Accept tokens that are bound to a pod which the manifests do not know.
    #[arg(long, env = "EASTWEST_TOKEN_ANY_POD")]
    token_any_pod: bool,
}

impl TokenArgs {
    /// Whether the keys are those of the Kubernetes API.
    pub(super) fn ask_kubernetes(&self) -> bool {
        self.token_jwks.as_deref() == Some(KUBERNETES)
    }

    /// Reads them.
    pub(super) fn read(self, problems: &mut Problems) -> TokenConfig {
        let keys = match self.token_jwks.as_deref() {
            None => KeyPlace::Discovery,
            Some(KUBERNETES) => KeyPlace::Kubernetes,
            Some(address) if address.contains("://") => {
                problems.take("--token-jwks", check_address(address));
                KeyPlace::Address(address.to_owned())
            }
            Some(file) => KeyPlace::File(PathBuf::from(file)),
        };
        if self.token_jwks.is_some() && self.token_issuer.is_none() {
            problems.add("--token-issuer", "--token-jwks needs it: the `iss` of the tokens");
        }
        if keys == KeyPlace::Kubernetes && self.token_jwks_ca.is_some() {
            problems.add("--token-jwks-ca", "--kubeconfig has the roots of the Kubernetes API");
        }
        let roots = self.token_jwks_ca.map_or(TrustedRoots::System, TrustedRoots::File);
        let issuer = self.token_issuer.map(|issuer| {
            if keys == KeyPlace::Discovery && check_address(&issuer).is_err() {
                let remedy =
                    "is no https:// address with a discovery document: name the file or address of its keys";
                problems.add("--token-jwks", format!("--token-issuer {issuer:?} {remedy}"));
            }
            TokenIssuerConfig { issuer, keys, roots }
        });
        TokenConfig { audiences: audiences(self.token_audience), issuer, any_pod: self.token_any_pod }
    }
}

/// The audiences of the flag, else those of istiod's variable, else the usual one.
fn audiences(given: Vec<String>) -> Vec<String> {
    let named = |list: Vec<String>| {
        let texts = list.iter().map(|one| one.trim()).filter(|one| !one.is_empty());
        Some(texts.map(str::to_owned).collect::<Vec<_>>()).filter(|list| !list.is_empty())
    };
    let istiod = || istiod::text(ISTIOD_AUDIENCES).map(|text| text.split(',').map(str::to_owned).collect());
    named(given).or_else(|| named(istiod()?)).unwrap_or_else(|| vec![USUAL_AUDIENCE.to_owned()])
}
