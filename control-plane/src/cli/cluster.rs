//! Reading a cluster once, with the rights of the person who asks.

use std::io::{IsTerminal as _, Write as _};

use eastwest_kubernetes::{Api, ApiOptions};
use eastwest_manifest::merge::{Merge, SourceId};
use eastwest_model::MeshConfig;
use eastwest_sources::Loaded;
use serde_json::Value;

use super::runtime;

/// Reads everything that decides in the cluster that `options` name. `mesh` counts where its mesh configuration is silent.
///
/// # Errors
/// A kubeconfig that cannot be used, an API that does not answer, or missing rights, each named.
pub(super) fn load(options: &ApiOptions, mesh: &MeshConfig) -> anyhow::Result<Loaded> {
    runtime()?.block_on(async {
        let api = open(options).await?;
        let id = SourceId::new(api.server());
        let mut merge = Merge::new([id.clone()]);
        let progress = Progress::new();
        let batch =
            eastwest_kubernetes::load(&api, &id, mesh.clone(), |objects| progress.show(objects)).await?;
        let effect = merge.apply(batch);
        Ok(Loaded { changes: effect.changes, diagnostics: merge.diagnostics().to_vec() })
    })
}

/// Reads the objects that decide in the cluster that `options` name, without Secrets.
///
/// # Errors
/// As [`load`].
pub(super) fn dump(options: &ApiOptions, mesh: &MeshConfig) -> anyhow::Result<Vec<Value>> {
    runtime()?.block_on(async {
        let api = open(options).await?;
        let progress = Progress::new();
        Ok(eastwest_kubernetes::dump(&api, mesh.clone(), |objects| progress.show(objects)).await?)
    })
}

/// The API, if it answers.
async fn open(options: &ApiOptions) -> anyhow::Result<Api> {
    let api = Api::find(options).await?;
    api.version().await?;
    Ok(api)
}

/// Tells a person how far the reading is; removed when it is dropped.
struct Progress {
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal() }
    }

    fn show(&self, objects: usize) {
        if self.shown {
            // A terminal that went away is no reason to fail.
            let _ = write!(std::io::stderr(), "\rreading the cluster: {objects} objects ");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
