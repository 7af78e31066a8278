//! Questions about the mesh, answered from one snapshot: by a command from a directory, or by the debug pages of a
//! running server. Both return the same JSON.

use std::sync::Arc;

use eastwest_engine::{Snapshot, explain, lint, report};
use eastwest_kubernetes::Progress;
use eastwest_model::{Diagnostic, WorkloadKey};
use eastwest_proto::json::JsonError;
use eastwest_translate::{ResourceType, render::render};
use serde_json::Value;
use thiserror::Error;

/// A question.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    /// The effective TLS settings of a workload.
    Tls(WorkloadKey),
    /// One client-to-server pair.
    Explain {
        /// The calling workload.
        client: WorkloadKey,
        /// What it calls.
        host: String,
        /// The service port.
        port: u16,
    },
    /// All findings about the configuration.
    Check,
    /// The resources of a workload's proxy.
    Render {
        /// Whose.
        workload: WorkloadKey,
        /// Of these types only; empty = all.
        types: Vec<ResourceType>,
        /// Whether the proxy has internal listeners, as that of `eastwest agent` does.
        internal_listeners: bool,
    },
}

/// Why a question cannot be answered.
#[derive(Debug, Error)]
pub(crate) enum QueryError {
    /// There is no workload of that name.
    #[error("no workload {workload} is known{hint}")]
    NoWorkload {
        /// The name.
        workload: WorkloadKey,
        /// The workloads that exist.
        hint: String,
    },
    /// The pair cannot be explained.
    #[error(transparent)]
    Explain(#[from] explain::ExplainError),
    /// A resource cannot be shown.
    #[error(transparent)]
    Resource(#[from] JsonError),
    /// The answer cannot be written as JSON.
    #[error("the answer cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The frozen world, with what was found while reading it.
#[derive(Clone)]
pub(crate) struct World {
    /// The world.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Findings of the sources: what was refused and why.
    pub(crate) input: Arc<Vec<Diagnostic>>,
    /// How far the updates of the Kubernetes API have been taken in.
    pub(crate) progress: Progress,
}

impl World {
    /// Answers a question.
    ///
    /// # Errors
    /// An unknown workload or host, with the names that come close.
    pub(crate) fn answer(&self, question: &Question) -> Result<Value, QueryError> {
        Ok(match question {
            Question::Tls(workload) => {
                let report = report::tls_report(&self.snapshot, workload);
                serde_json::to_value(report.ok_or_else(|| self.unknown(workload))?)?
            }
            Question::Explain { client, .. } if self.snapshot.workload(client).is_none() => {
                return Err(self.unknown(client));
            }
            Question::Explain { client, host, port } => {
                serde_json::to_value(explain::explain(&self.snapshot, client, host, *port)?)?
            }
            Question::Check => serde_json::to_value(self.findings())?,
            Question::Render { workload, types, internal_listeners } => {
                let settings = report::workload_tls(&self.snapshot, workload);
                let settings = settings.ok_or_else(|| self.unknown(workload))?;
                let mut rendering = serde_json::to_value(render(&settings, types, *internal_listeners)?)?;
                rendering.sort_all_objects();
                rendering
            }
        })
    }

    /// What is refused, and what has another effect than it seems to have; errors first.
    pub(crate) fn findings(&self) -> Vec<Diagnostic> {
        self.analyse().0
    }

    /// The findings, and which objects win over others that are in force elsewhere.
    pub(crate) fn analyse(&self) -> (Vec<Diagnostic>, lint::Overridden) {
        let (found, overridden) = lint::analyse(&self.snapshot);
        let mut findings: Vec<_> = self.input.iter().cloned().chain(found).collect();
        findings.sort();
        findings.dedup();
        (findings, overridden)
    }

    fn unknown(&self, workload: &WorkloadKey) -> QueryError {
        let names = |here: bool| {
            let keys = self.snapshot.workloads().map(|workload| workload.key());
            keys.filter(|key| !here || key.namespace == workload.namespace)
                .take(8)
                .map(|key| key.to_string())
                .collect()
        };
        let mut known: Vec<String> = names(true);
        if known.is_empty() {
            known = names(false);
        }
        let hint = match known.len() {
            0 => ": there are no workloads at all".to_owned(),
            _ => format!(": did you mean one of {}?", known.join(", ")),
        };
        QueryError::NoWorkload { workload: workload.clone(), hint }
    }
}
