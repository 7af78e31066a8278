//! `eastwest serve`: flags of the control plane. All mistakes are reported together. Each group of flags has a module;
//! `ca serve` uses some of them.

mod bundles;
pub(crate) mod ca;
mod istiod;
mod jobs;
mod kubernetes;
mod lifetimes;
mod limits;
mod nodes;
pub(crate) mod roots;
mod tokens;

use std::path::PathBuf;

use clap::Args;

use self::{bundles::BundleArgs, ca::CaArgs, roots::RootArgs};
use super::{Exit, Failure, Result, init_logs, runtime, world::MeshArgs};
use crate::{
    config::{Problems, address},
    serve::{self, Config, InputSource, PortAddresses, SignerSource, StatePlace},
};

/// Lifetime of a workload certificate if neither flag nor request names one.
const USUAL_LIFE: &str = "24h";

/// The arguments of `eastwest serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Directory of Kubernetes manifests (*.yaml, *.yml, *.json). Changes are followed.
    #[arg(long, value_name = "DIR", env = "EASTWEST_CONFIG_DIR")]
    config_dir: Option<PathBuf>,
    /// Directory for the CA key, the CA certificate and the token key. It is created with mode 0700.
    #[arg(long, value_name = "DIR", default_value = ".eastwest", env = "EASTWEST_STATE_DIR")]
    state_dir: PathBuf,
    #[command(flatten)]
    mesh: MeshArgs,
    /// Address of plaintext gRPC: xDS for local use, never the CA. With port 0 the system chooses a port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15010", env = "EASTWEST_GRPC_ADDR")]
    grpc_addr: String,
    /// Address of gRPC with TLS: xDS and CA. A client certificate is optional.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15012", env = "EASTWEST_GRPC_TLS_ADDR")]
    grpc_tls_addr: String,
    /// Address of HTTP: /metrics, /healthz, /readyz, /version, /debug/…
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15014", env = "EASTWEST_HTTP_ADDR")]
    http_addr: String,
    #[command(flatten)]
    ca: CaArgs,
    #[command(flatten)]
    roots: RootArgs,
    #[command(flatten)]
    bundles: BundleArgs,
}

impl ServeArgs {
    pub(super) fn run(self) -> Result {
        let mut problems = Problems::default();
        let config =
            self.read(&mut problems).filter(|_| problems.is_empty()).ok_or(Failure::Usage(problems))?;
        init_logs();
        runtime()?.block_on(serve::run(config))?;
        Ok(Exit::Success)
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
        let ca = self.ca.read(problems, USUAL_LIFE);
        let roots = self.roots.read(problems);
        let bundles = self.bundles.read(problems);
        Some(Config {
            input: InputSource::Directory(self.config_dir?),
            state: StatePlace::Kept(self.state_dir),
            mesh: mesh?,
            ports: PortAddresses { plaintext: Some(grpc?), tls: tls?, http: http? },
            ca: ca?,
            signer: SignerSource::Followed(roots?),
            bundles: bundles?,
        })
    }
}
