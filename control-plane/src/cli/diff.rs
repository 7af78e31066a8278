//! `eastwest diff`: what a change of the manifests would do, before it is made.

mod change;
mod describe;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use eastwest_engine::{
    Index,
    diff::{self, CallChange, Diff},
};
use eastwest_model::{Diagnostic, Host, MeshConfig, Severity};
use eastwest_sources::Loaded;
use eastwest_translate::compare::{self, ProxyChanges};
use serde::Serialize;

use self::change::{ObjectChange, Proposal};
use super::{Exit, Failure, Result, cluster, serve::ApiArgs, world::MeshArgs};
use crate::{config::Problems, output::OutputArgs};

/// The arguments of `eastwest diff`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").args(["filename", "delete", "against"]).required(true).multiple(true))]
#[command(after_help = "Examples:\n  eastwest diff --config-dir manifests -f strict.yaml\n  \
    eastwest diff --config-dir manifests --delete DestinationRule/shop/reviews\n  \
    eastwest diff --config-dir manifests --against manifests-of-the-branch\n  \
    eastwest diff -f strict.yaml        # against the cluster of the current context\n\n\
    Exit status 1 if a connection would break or the change has an error.")]
pub(crate) struct DiffArgs {
    /// The manifests before the change [default: the cluster of --kubeconfig or of the current context].
    #[arg(long, value_name = "DIR", env = "EASTWEST_CONFIG_DIR")]
    config_dir: Option<PathBuf>,
    #[command(flatten)]
    api: ApiArgs,
    /// Manifests to apply (repeatable): a file, a directory or - for stdin. An object of the same name is replaced and
    /// keeps its creation time unless the manifest has one; others are added. The last manifest of an object counts.
    #[arg(short = 'f', long, value_name = "FILE", value_delimiter = ',', env = "EASTWEST_DIFF_FILENAME")]
    filename: Vec<PathBuf>,
    /// An object to delete (repeatable).
    #[arg(long, value_name = "KIND/NS/NAME", value_delimiter = ',', env = "EASTWEST_DIFF_DELETE")]
    delete: Vec<String>,
    /// The manifests after the change, all of them.
    #[arg(long, value_name = "DIR", env = "EASTWEST_DIFF_AGAINST", conflicts_with_all = ["filename", "delete"])]
    against: Option<PathBuf>,
    #[command(flatten)]
    mesh: MeshArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What `eastwest diff` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// How many connections would break: pairs of a client and a port of a host.
    breaks: usize,
    /// How many others would change.
    changes: usize,
    /// How many of those would be plaintext instead of mutual TLS, with some endpoints or all.
    downgrades: usize,
    /// What is wrong or surprising about the change.
    findings: Vec<Diagnostic>,
    /// The objects that differ.
    objects: Vec<ObjectChange>,
    /// What that means for workloads.
    #[serde(flatten)]
    diff: Diff,
    /// Services of which no endpoint is known on either side, so that no call to them can break.
    unjudged: Vec<Host>,
    /// What that means for proxies.
    resources: Vec<ProxyChanges>,
}

impl DiffArgs {
    pub(super) fn run(self) -> Result {
        let mut problems = Problems::default();
        let Some(mesh) = self.mesh.read(&mut problems) else { return Err(Failure::Usage(problems)) };
        let proposal = match (&self.against, &self.config_dir) {
            (Some(after), Some(before)) => Proposal::between(before, after, &mesh)?,
            (Some(_), None) => {
                problems.add("--config-dir", "--against needs it: the manifests before the change");
                return Err(Failure::Usage(problems));
            }
            (None, before) => {
                if before.is_none() {
                    self.api.require(&mut problems);
                    if !problems.is_empty() {
                        return Err(Failure::Usage(problems));
                    }
                }
                let present = self.present(before.as_deref(), &mesh)?;
                Proposal::overlay(present, &self.filename, &self.delete, &mesh, &mut problems)?
            }
        };
        if !problems.is_empty() {
            return Err(Failure::Usage(problems));
        }
        let report = Report::of(proposal, mesh);
        self.output.print(&serde_json::to_value(&report)?, describe::describe)?;
        Ok(if report.is_bad_news() { Exit::Negative } else { Exit::Success })
    }
}

impl DiffArgs {
    /// What is in force before the change.
    fn present(&self, directory: Option<&Path>, mesh: &MeshConfig) -> anyhow::Result<Loaded> {
        match directory.filter(|_| !self.api.is_given()) {
            Some(directory) => Ok(eastwest_sources::load(directory, mesh).context("--config-dir")?),
            None => cluster::load(&self.api.options(), mesh),
        }
    }
}

impl Report {
    fn of(proposal: Proposal, mesh: MeshConfig) -> Self {
        let mut index = Index::new(mesh);
        proposal.before.into_iter().for_each(|change| drop(index.apply(change)));
        let before = index.freeze();
        proposal.changes.into_iter().for_each(|change| drop(index.apply(change)));
        let after = index.freeze();
        let sides = [before.completed(), after.completed()];
        let diff = diff::diff(&sides[0], &sides[1]);
        Self {
            breaks: diff.count(|change| change.breaks),
            changes: diff.count(|change| !change.breaks),
            downgrades: diff.count(CallChange::is_downgrade),
            findings: proposal.findings,
            objects: proposal.objects,
            diff,
            unjudged: diff::without_endpoints(&sides[0], &sides[1]),
            resources: compare::compare(&before, &after),
        }
    }

    fn is_bad_news(&self) -> bool {
        self.breaks > 0 || self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}
