//! `eastwest serve`: flags of the control plane. All mistakes are reported together. Each group of flags has a module;
//! `ca serve` uses some of them.

mod bundles;
pub(crate) mod ca;
mod cluster;
pub(crate) mod debug;
mod istiod;
mod jobs;
mod kubernetes;
mod lifetimes;
mod limits;
pub(crate) mod names;
mod nodes;
pub(crate) mod roots;
mod tokens;

use std::path::PathBuf;

use clap::Args;

pub(crate) use self::kubernetes::ApiArgs;
use self::{
    bundles::BundleArgs, ca::CaArgs, cluster::ClusterArgs, debug::DebugArgs, names::UsualNames,
    roots::RootArgs,
};
use super::{Exit, Failure, Result, logs, runtime, world::MeshArgs};
use crate::{
    config::{Problems, address},
    serve::{self, Config, InputSource, PortAddresses, SignerSource, StatePlace},
};

/// Lifetime of a workload certificate if neither flag nor request names one.
const USUAL_LIFE: &str = "24h";

/// The arguments of `eastwest serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Directory mode: read Kubernetes manifests (*.yaml, *.yml, *.json) in this directory, and follow changes [default:
    /// Kubernetes mode: follow the Kubernetes API].
    #[arg(long, value_name = "DIR", env = "EASTWEST_CONFIG_DIR")]
    config_dir: Option<PathBuf>,
    /// Directory for the CA key, the CA certificate, the token key and the ledger. It is created with mode 0700. In
    /// Kubernetes mode keys are in Secrets, and only the ledger goes here [default: in directory mode .eastwest, in Kubernetes
    /// mode none: the ledger goes to the log].
    #[arg(long, value_name = "DIR", env = "EASTWEST_STATE_DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    mesh: MeshArgs,
    /// Address of plaintext gRPC: xDS for local use, never the CA. With port 0 the system chooses a port [default: in
    /// directory mode 127.0.0.1:15010, in Kubernetes mode off].
    #[arg(long, value_name = "ADDR", env = "EASTWEST_GRPC_ADDR")]
    grpc_addr: Option<String>,
    /// Address of gRPC with TLS: xDS and CA. A client certificate is optional [default: in directory mode 127.0.0.1:15012,
    /// in Kubernetes mode 0.0.0.0:15012].
    #[arg(long, value_name = "ADDR", env = "EASTWEST_GRPC_TLS_ADDR")]
    grpc_tls_addr: Option<String>,
    /// Address of HTTP: /metrics, /healthz, /readyz, /version, /debug/… [default: in directory mode 127.0.0.1:15014, in
    /// Kubernetes mode 0.0.0.0:15014].
    #[arg(long, value_name = "ADDR", env = "EASTWEST_HTTP_ADDR")]
    http_addr: Option<String>,
    #[command(flatten)]
    debug: DebugArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
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
        logs::init()?;
        runtime()?.block_on(serve::run(config))?;
        Ok(Exit::Success)
    }

    fn read(self, problems: &mut Problems) -> Option<Config> {
        let cluster = self.config_dir.is_none();
        let mesh = self.mesh.read(problems);
        let root_namespace = mesh.as_ref().map(|mesh| mesh.root_namespace.to_string());
        let ports = self.ports(cluster, problems);
        let api = self.ca.api_options();
        let ca = self.ca.read(problems, (USUAL_LIFE, UsualNames::NONE), cluster);
        let roots = self.roots.read(problems);
        if cluster && roots.as_ref().is_some_and(|roots| roots.ca_dir.is_some()) {
            problems.add(
                "--ca-dir",
                "in Kubernetes mode a CA is plugged in as the Secret cacerts in --namespace",
            );
        }
        let bundles = self.bundles.read(problems);
        let in_cluster = match cluster {
            true => root_namespace.map(|root| self.cluster.read(api, root, problems)),
            false => {
                self.cluster.refuse(problems);
                None
            }
        };
        Some(Config {
            input: match self.config_dir {
                Some(directory) => InputSource::Directory(directory),
                None => InputSource::Kubernetes(in_cluster??),
            },
            state: match cluster {
                true => StatePlace::Cluster { directory: self.state_dir },
                false => StatePlace::Kept(self.state_dir.unwrap_or_else(|| ".eastwest".into())),
            },
            mesh: mesh?,
            ports: ports?,
            debug_access: self.debug.debug_access,
            ca: ca?,
            signer: SignerSource::Followed(roots?),
            bundles: bundles?,
        })
    }

    /// The addresses to bind. In a cluster they serve other machines, and nobody needs plaintext.
    fn ports(&self, cluster: bool, problems: &mut Problems) -> Option<PortAddresses> {
        let ip = if cluster { "0.0.0.0" } else { "127.0.0.1" };
        let mut read = |flag: &str, given: &Option<String>, port: u16| {
            let text = given.clone().unwrap_or_else(|| format!("{ip}:{port}"));
            problems.take(flag, address(&text))
        };
        let plaintext = match cluster && self.grpc_addr.is_none() {
            true => Some(None),
            false => read("--grpc-addr", &self.grpc_addr, 15010).map(Some),
        };
        let tls = read("--grpc-tls-addr", &self.grpc_tls_addr, 15012);
        let http = read("--http-addr", &self.http_addr, 15014);
        Some(PortAddresses { plaintext: plaintext?, tls: tls?, http: http? })
    }
}
