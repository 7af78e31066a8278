//! `eastwest dump`: what decides in a cluster, as a directory of manifests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{Exit, Failure, Result, cluster, serve::ApiArgs, world::MeshArgs};
use crate::{
    config::Problems,
    output::{OutputArgs, plural},
};

/// The arguments of `eastwest dump`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  eastwest dump --out mesh && eastwest check --config-dir mesh\n\n\
    The directory has what decides in the mesh, with the fields that are read: Namespaces, Services, Pods, EndpointSlices,\n\
    policies and the mesh configuration. It has no Secrets, and of Pods no commands and no environment.")]
pub(crate) struct DumpArgs {
    /// Directory for the manifests. It must not exist, or be empty.
    #[arg(long, value_name = "DIR", env = "EASTWEST_DUMP_OUT")]
    out: PathBuf,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    mesh: MeshArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was written.
#[derive(Serialize)]
struct Report {
    out: PathBuf,
    objects: usize,
    /// The files below `out`.
    files: Vec<PathBuf>,
}

impl DumpArgs {
    pub(super) fn run(self) -> Result {
        let mut problems = Problems::default();
        let Some(mesh) = self.mesh.read(&mut problems) else { return Err(Failure::Usage(problems)) };
        create(&self.out)?;
        let objects = cluster::dump(&self.api.options(), &mesh)?;
        let files = files(&objects);
        for (name, documents) in &files {
            write(&self.out.join(name), documents)?;
        }
        let (objects, files) = (objects.len(), files.into_keys().collect());
        self.output.print(&Report { out: self.out, objects, files }, describe)?;
        Ok(Exit::Success)
    }
}

fn describe(report: &Report) -> String {
    let (objects, files) = (plural(report.objects, "object"), plural(report.files.len(), "file"));
    format!("{objects} in {files} below {}, without Secrets", report.out.display())
}

/// Creates the directory, for nobody else to read.
fn create(out: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => false,
    };
    if entries {
        bail!("--out: {} is not empty: name a directory that does not exist", out.display());
    }
    fs::create_dir_all(out).with_context(|| format!("--out: cannot create {}", out.display()))
}

/// A file for each namespace and kind; `cluster` has the objects outside of namespaces.
fn files(objects: &[Value]) -> BTreeMap<PathBuf, Vec<&Value>> {
    let mut files = BTreeMap::<_, Vec<_>>::new();
    for object in objects {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let namespace = text("/metadata/namespace").unwrap_or("cluster");
        let kind = text("/kind").unwrap_or_default().to_lowercase();
        files.entry(Path::new(namespace).join(format!("{kind}.yaml"))).or_default().push(object);
    }
    files
}

fn write(path: &Path, documents: &[&Value]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut text = String::new();
    for document in documents {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(document)?);
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
