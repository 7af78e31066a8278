//! Whose service-account tokens are accepted.

use std::path::PathBuf;

use clap::Args;
use eastwest_io::{TrustedRoots, check_address};

use super::istiod;
use crate::{
    config::Problems,
    serve::{KeyPlace, TokenConfig, TokenIssuerConfig},
};

/// istiod's variable for the audiences, separated by commas. Our flag takes precedence.
const ISTIOD_AUDIENCES: &str = "TOKEN_AUDIENCES";
/// The default audience of projected tokens.
const USUAL_AUDIENCE: &str = "istio-ca";
/// The value that means the keys of the Kubernetes API.
const KUBERNETES: &str = "kubernetes";

/// Flags of bearer tokens.
#[derive(Debug, Args)]
pub(super) struct TokenArgs {
    /// Keys (JWKS) of a further issuer of service account tokens: a file, an https:// address, or `kubernetes` for the
    /// keys of the Kubernetes API. Addresses are read again every five minutes. Algorithms: RS256, ES256, EdDSA [default:
    /// the address in the issuer's discovery document].
    #[arg(long, value_name = "FILE-OR-URL", env = "EASTWEST_TOKEN_JWKS")]
    token_jwks: Option<String>,
    /// The issuer (`iss`) of those tokens.
    #[arg(long, value_name = "ISS", env = "EASTWEST_TOKEN_ISSUER")]
    token_issuer: Option<String>,
    /// Root certificates (PEM) for the server of those keys [default: those of the system].
    #[arg(long, value_name = "FILE", env = "EASTWEST_TOKEN_JWKS_CA")]
    token_jwks_ca: Option<PathBuf>,
    /// An audience (`aud`) that tokens may have (repeatable) [default: TOKEN_AUDIENCES, else istio-ca].
    #[arg(long, value_name = "AUD", value_delimiter = ',', env = "EASTWEST_TOKEN_AUDIENCE")]
    token_audience: Vec<String>,
    /// Also accept tokens that are bound to a pod that is not in the manifests.
    #[arg(long, env = "EASTWEST_TOKEN_ANY_POD")]
    token_any_pod: bool,
}

impl TokenArgs {
    /// Whether the Kubernetes API is the source of the keys.
    pub(super) fn ask_kubernetes(&self) -> bool {
        self.token_jwks.as_deref() == Some(KUBERNETES)
    }

    /// Reads the flags.
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

/// The audiences of the flag, else of istiod's variable, else the default.
fn audiences(given: Vec<String>) -> Vec<String> {
    let named = |list: Vec<String>| {
        let texts = list.iter().map(|one| one.trim()).filter(|one| !one.is_empty());
        Some(texts.map(str::to_owned).collect::<Vec<_>>()).filter(|list| !list.is_empty())
    };
    let istiod = || istiod::text(ISTIOD_AUDIENCES).map(|text| text.split(',').map(str::to_owned).collect());
    named(given).or_else(|| named(istiod()?)).unwrap_or_else(|| vec![USUAL_AUDIENCE.to_owned()])
}
