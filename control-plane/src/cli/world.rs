//! Where the commands that ask about the mesh get their answers: a directory of manifests or a running server.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::Args;
use eastwest_engine::Index;
use eastwest_model::{MeshConfig, TrustDomain};
use serde_json::Value;

use super::{Failure, Result, runtime};
use crate::{
    config::Problems,
    query::{Question, World},
    remote,
};

/// The flags that choose the source.
#[derive(Debug, Args)]
pub(crate) struct WorldArgs {
    /// Ask a directory of Kubernetes manifests instead of a running control plane.
    #[arg(long, value_name = "DIR", env = "EASTWEST_CONFIG_DIR", conflicts_with = "server")]
    config_dir: Option<PathBuf>,
    /// Ask the running control plane at this HTTP address [default: http://127.0.0.1:15014].
    #[arg(long, value_name = "URL", env = "EASTWEST_SERVER")]
    server: Option<String>,
    #[command(flatten)]
    mesh: MeshArgs,
}

/// The flags that stand in for a MeshConfig.
#[derive(Debug, Args)]
pub(crate) struct MeshArgs {
    /// Trust domain of the identities; a MeshConfig in the input wins.
    #[arg(long, value_name = "NAME", default_value = "cluster.local", env = "EASTWEST_TRUST_DOMAIN")]
    trust_domain: String,
    /// The namespace whose policies hold for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system", env = "EASTWEST_ROOT_NAMESPACE")]
    root_namespace: String,
}

impl MeshArgs {
    /// Istio's defaults with these flags.
    pub(crate) fn read(&self, problems: &mut Problems) -> Option<MeshConfig> {
        let domain = problems.take("--trust-domain", TrustDomain::parse(&self.trust_domain))?;
        Some(MeshConfig::new(domain, self.root_namespace.as_str()))
    }
}

impl WorldArgs {
    /// Asks the source that the flags name.
    pub(super) fn ask(&self, question: &Question) -> Result<Value> {
        let Some(directory) = &self.config_dir else {
            let server = self.server.as_deref().unwrap_or("http://127.0.0.1:15014");
            return Ok(runtime()?.block_on(remote::ask(server, question))?);
        };
        let mut problems = Problems::default();
        let Some(mesh) = self.mesh.read(&mut problems) else { return Err(Failure::Usage(problems)) };
        let loaded = eastwest_sources::load(directory, &mesh).context("--config-dir")?;
        let mut index = Index::new(mesh);
        for change in loaded.changes {
            index.apply(change);
        }
        let world = World { snapshot: index.freeze(), input: Arc::new(loaded.diagnostics) };
        Ok(world.answer(question)?)
    }
}
