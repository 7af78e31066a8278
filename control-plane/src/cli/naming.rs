//! The arguments that name workloads.

use clap::Args;

use super::{Failure, Result};
use crate::{config::Problems, names::WorkloadName};

/// The namespace of names that have none.
#[derive(Debug, Args)]
pub(crate) struct NamespaceArgs {
    /// Namespace of names without one, such as POD, deploy/NAME and svc/NAME.
    #[arg(short, long, value_name = "NAMESPACE", env = "EASTWEST_QUERY_NAMESPACE")]
    namespace: Option<String>,
}

impl NamespaceArgs {
    /// Reads the argument `what`.
    pub(super) fn read<T>(
        &self,
        what: &str,
        text: &str,
        reader: impl Fn(&str, Option<&str>) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let mut problems = Problems::default();
        problems.take(what, reader(text, self.namespace.as_deref())).ok_or(Failure::Usage(problems))
    }
}

/// The one workload that a command is about.
#[derive(Debug, Args)]
pub(crate) struct WorkloadArgs {
    /// The workload: NAMESPACE/POD, POD.NAMESPACE, POD -n NAMESPACE, NAMESPACE/deploy/NAME (also sts, ds, rs, job,
    /// cronjob), or the address of a pod.
    #[arg(value_name = "NS/POD")]
    workload: String,
    #[command(flatten)]
    names: NamespaceArgs,
}

impl WorkloadArgs {
    /// Whom it names.
    pub(super) fn read(&self) -> Result<WorkloadName> {
        self.names.read("NS/POD", &self.workload, |text, flag| {
            let name = WorkloadName::read(text, flag)?;
            match (name.namespace(), flag) {
                (Some(written), Some(flag)) if **written != *flag => Err(format!(
                    "{text} is in namespace {written}, and --namespace says {flag}: drop one of them"
                )),
                _ => Ok(name),
            }
        })
    }
}
