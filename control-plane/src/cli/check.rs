//! `eastwest check`: validate manifests.

use clap::Args;
use eastwest_engine::Counts;
use serde_json::Value;

use super::{Exit, Result, world::WorldArgs};
use crate::{
    output::{OutputArgs, cell, entries, plural, plural_of, table},
    query::Question,
};

/// The arguments of `eastwest check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl CheckArgs {
    pub(super) fn run(self) -> Result {
        let (findings, counts) = self.world.ask_with_counts(&Question::Check)?;
        self.output.print(&findings, |findings| describe(findings, counts))?;
        Ok(if count(&findings, "error") > 0 { Exit::Negative } else { Exit::Success })
    }
}

fn count(findings: &Value, severity: &str) -> usize {
    entries(findings).iter().filter(|finding| finding["severity"] == severity).count()
}

fn describe(findings: &Value, counts: Option<Counts>) -> String {
    let numbers = [(count(findings, "error"), "error"), (count(findings, "warning"), "warning")];
    let mut text = match numbers {
        [(0, _), (0, _)] => "no errors, no warnings".to_owned(),
        [(errors, _), (warnings, _)] => format!(
            "{}\n\n{}, {}",
            findings_table(entries(findings)),
            plural(errors, "error"),
            plural(warnings, "warning")
        ),
    };
    if let Some(Counts { services, workloads, templates, without_cluster_ip, policies }) = counts {
        let services = plural(services, "service");
        let (workloads, policies) =
            (plural(workloads, "workload"), plural_of(policies, "policy", "policies"));
        text.push_str(&format!("\nread: {services}, {workloads}, {policies}"));
        if without_cluster_ip > 0 {
            let services = plural_of(without_cluster_ip, "service has", "services have");
            text.push_str(&format!("\n{services} no clusterIP: taken to have one, as a cluster gives it"));
        }
        if templates > 0 {
            let templates = plural_of(templates, "workload has", "workloads have");
            text.push_str(&format!(
                "\n{templates} no Pod: read from a Deployment or its like, with addresses unknown"
            ));
        }
    }
    text
}

/// Findings, one a line.
pub(super) fn findings_table(findings: &[Value]) -> String {
    let rows = findings.iter().map(|finding| {
        let mut message = cell(&finding["message"]);
        if let Some(winner) = finding["beaten_by"].as_str() {
            message = format!("{message} (wins: {winner})");
        }
        let place = match (finding["file"].as_str(), finding["line"].as_u64()) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (file, _) => file.unwrap_or("-").to_owned(),
        };
        [cell(&finding["severity"]), cell(&finding["object"]), place, cell(&finding["field"]), message]
    });
    table(["SEVERITY", "OBJECT", "FILE", "FIELD", "MESSAGE"], rows)
}
