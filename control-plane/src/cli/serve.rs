//! `eastwest serve`: flags of the control plane, read so that all mistakes are told at once.

use std::path::PathBuf;

use clap::Args;
use eastwest_ca::Lifetimes;

use super::{Failure, Outcome, Result, init_logs, runtime, world::MeshArgs};
use crate::{
    config::{Problems, address, duration},
    serve::{self, Config, TokenIssuerConfig},
};

/// The arguments of `eastwest serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Read Kubernetes manifests (*.yaml, *.yml, *.json) below this directory and follow their changes.
    #[arg(long, value_name = "DIR", env = "EASTWEST_CONFIG_DIR")]
    config_dir: Option<PathBuf>,
    /// Keep the CA key, the CA certificate and the token key here; created with mode 0700.
    #[arg(long, value_name = "DIR", default_value = ".eastwest", env = "EASTWEST_STATE_DIR")]
    state_dir: PathBuf,
    #[command(flatten)]
    mesh: MeshArgs,
    /// Name of this cluster, which clients send as `clusterid`.
    #[arg(long, value_name = "ID", default_value = "Kubernetes", env = "EASTWEST_CLUSTER_ID")]
    cluster_id: String,
    /// Plaintext gRPC: xDS for local use, never the CA. Port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15010", env = "EASTWEST_GRPC_ADDR")]
    grpc_addr: String,
    /// TLS gRPC: xDS and CA, client certificate optional.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15012", env = "EASTWEST_GRPC_TLS_ADDR")]
    grpc_tls_addr: String,
    /// HTTP: /metrics, /healthz, /readyz, /version, /debug/…
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15014", env = "EASTWEST_HTTP_ADDR")]
    http_addr: String,
    /// Also accept service-account tokens signed by the keys of this JWKS file (RS256, ES256, EdDSA).
    #[arg(long, value_name = "FILE", env = "EASTWEST_TOKEN_JWKS")]
    token_jwks: Option<String>,
    /// The issuer (`iss`) of those tokens.
    #[arg(long, value_name = "ISS", env = "EASTWEST_TOKEN_ISSUER")]
    token_issuer: Option<String>,
    /// The audience (`aud`) that a token must name.
    #[arg(long, value_name = "AUD", default_value = "istio-ca", env = "EASTWEST_TOKEN_AUDIENCE")]
    token_audience: String,
    /// Life of a workload certificate when the request names none.
    #[arg(long, value_name = "DURATION", default_value = "24h", env = "EASTWEST_CERT_TTL")]
    cert_ttl: String,
    /// Shortest life; a shorter request is refused.
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "EASTWEST_MIN_CERT_TTL")]
    min_cert_ttl: String,
    /// Longest life; a longer request is refused.
    #[arg(long, value_name = "DURATION", default_value = "90d", env = "EASTWEST_MAX_CERT_TTL")]
    max_cert_ttl: String,
    /// A name or IP address in our own serving certificate (repeatable) [default: istiod's service names, localhost
    /// and the bound addresses].
    #[arg(long, value_name = "NAME-OR-IP", value_delimiter = ',', env = "EASTWEST_SERVING_NAME")]
    serving_name: Vec<String>,
}

impl ServeArgs {
    pub(super) fn run(self) -> Result {
        let mut problems = Problems::default();
        let config =
            self.read(&mut problems).filter(|_| problems.is_empty()).ok_or(Failure::Usage(problems))?;
        init_logs();
        runtime()?.block_on(serve::run(config))?;
        Ok(Outcome::Success)
    }

    fn read(self, problems: &mut Problems) -> Option<Config> {
        if self.config_dir.is_none() {
            problems
                .add("--config-dir", "name a directory of manifests: the Kubernetes API is not a source yet");
        }
        let mesh = self.mesh.read(problems);
        let grpc = problems.take("--grpc-addr", address(&self.grpc_addr));
        let tls = problems.take("--grpc-tls-addr", address(&self.grpc_tls_addr));
        let http = problems.take("--http-addr", address(&self.http_addr));
        let cert_ttl = problems.take("--cert-ttl", duration(&self.cert_ttl));
        let min_cert_ttl = problems.take("--min-cert-ttl", duration(&self.min_cert_ttl));
        let max_cert_ttl = problems.take("--max-cert-ttl", duration(&self.max_cert_ttl));
        let lifetimes = match (cert_ttl, min_cert_ttl, max_cert_ttl) {
            (Some(default), Some(min), Some(max)) => {
                problems.take("--cert-ttl, --min-cert-ttl, --max-cert-ttl", Lifetimes::new(default, min, max))
            }
            _ => None,
        };
        let names = self.serving_name.iter();
        let serving_names = names.filter_map(|name| problems.take("--serving-name", name.parse())).collect();
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
        Some(Config {
            config_dir: self.config_dir?,
            state_dir: self.state_dir,
            mesh: mesh?,
            cluster_id: self.cluster_id,
            grpc: grpc?,
            tls: tls?,
            http: http?,
            issuer,
            audience: self.token_audience,
            lifetimes: lifetimes?,
            serving_names,
        })
    }
}
