//! `eastwest check`: validate manifests.

use clap::Args;
use serde_json::Value;

use super::{Exit, Result, world::WorldArgs};
use crate::{
    output::{OutputArgs, cell, entries, table},
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
        let findings = self.world.ask(&Question::Check)?;
        self.output.print(&findings, describe)?;
        Ok(if count(&findings, "error") > 0 { Exit::Negative } else { Exit::Success })
    }
}

fn count(findings: &Value, severity: &str) -> usize {
    entries(findings).iter().filter(|finding| finding["severity"] == severity).count()
}

fn describe(findings: &Value) -> String {
    let (errors, warnings) = (count(findings, "error"), count(findings, "warning"));
    if errors + warnings == 0 {
        return "no errors, no warnings".to_owned();
    }
    format!("{}\n\n{errors} errors, {warnings} warnings", findings_table(entries(findings)))
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
