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
    /// keys of the Kubernetes API. Addresses are read again every five minutes. Algorithms: RS256, ES256, EdDSA [default: in
    /// Kubernetes mode `kubernetes`, else the address in the issuer's discovery document].
    #[arg(long, value_name = "FILE-OR-URL", env = "EASTWEST_TOKEN_JWKS")]
    token_jwks: Option<String>,
    /// The issuer (`iss`) of those tokens [default: with `--token-jwks kubernetes` that of the Kubernetes API].
    #[arg(long, value_name = "ISS", env = "EASTWEST_TOKEN_ISSUER")]
    token_issuer: Option<String>,
    /// Root certificates (PEM) for the server of those keys [default: those of the system].
    #[arg(long, value_name = "FILE", env = "EASTWEST_TOKEN_JWKS_CA")]
    token_jwks_ca: Option<PathBuf>,
    /// An audience (`aud`) that tokens may have (repeatable) [default: TOKEN_AUDIENCES, else istio-ca].
    #[arg(long, value_name = "AUD", value_delimiter = ',', env = "EASTWEST_TOKEN_AUDIENCE")]
    token_audience: Vec<String>,
    /// Also accept tokens that are bound to a pod that is not known.
    #[arg(long, env = "EASTWEST_TOKEN_ANY_POD")]
    token_any_pod: bool,
}

impl TokenArgs {
    /// Whether the Kubernetes API is the source of the keys: if a flag says so, or if `usual` does and no flag names
    /// others.
    pub(super) fn ask_kubernetes(&self, usual: bool) -> bool {
        match self.token_jwks.as_deref() {
            Some(keys) => keys == KUBERNETES,
            None => usual,
        }
    }

    /// Reads the flags; `kubernetes` says whether the Kubernetes API is the source of the keys. Then it also knows the
    /// issuer.
    pub(super) fn read(self, kubernetes: bool, problems: &mut Problems) -> TokenConfig {
        let keys = match self.token_jwks.as_deref() {
            _ if kubernetes => KeyPlace::Kubernetes,
            None => KeyPlace::Discovery,
            Some(address) if address.contains("://") => {
                problems.take("--token-jwks", check_address(address));
                KeyPlace::Address(address.to_owned())
            }
            Some(file) => KeyPlace::File(PathBuf::from(file)),
        };
        if self.token_jwks.is_some() && self.token_issuer.is_none() && !kubernetes {
            problems.add("--token-issuer", "--token-jwks needs it: the `iss` of the tokens");
        }
        if keys == KeyPlace::Kubernetes && self.token_jwks_ca.is_some() {
            problems.add("--token-jwks-ca", "--kubeconfig has the roots of the Kubernetes API");
        }
        let roots = self.token_jwks_ca.map_or(TrustedRoots::System, TrustedRoots::File);
        if let Some(issuer) = &self.token_issuer
            && keys == KeyPlace::Discovery
            && check_address(issuer).is_err()
        {
            let remedy =
                "is no https:// address with a discovery document: name the file or address of its keys";
            problems.add("--token-jwks", format!("--token-issuer {issuer:?} {remedy}"));
        }
        let named = self.token_issuer.is_some() || kubernetes;
        let issuer = named.then_some(TokenIssuerConfig { issuer: self.token_issuer, keys, roots });
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
