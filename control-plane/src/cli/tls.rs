//! `eastwest tls`: the effective TLS settings of one workload.

use clap::Args;
use serde_json::Value;

use super::{Exit, Result, naming::WorkloadArgs, world::WorldArgs};
use crate::{
    output::{OutputArgs, cell, entries, table},
    query::Question,
};

/// The arguments of `eastwest tls`.
#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    #[command(flatten)]
    workload: WorkloadArgs,
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl TlsArgs {
    pub(super) fn run(self) -> Result {
        let report = self.world.ask(&Question::Tls(self.workload.read()?))?;
        self.output.print(&report, describe)?;
        Ok(Exit::Success)
    }
}

/// The report for a person. It is drawn from the JSON, so that a running server and a directory look the same.
fn describe(report: &Value) -> String {
    let inbound = &report["inbound"];
    let mut text = format!(
        "workload  {}\nidentity  {}\n\nINBOUND\n{}\n",
        cell(&report["workload"]),
        cell(&report["identity"]),
        table(["PORT", "MODE", "DECIDED BY"], inbound_rows(inbound)),
    );
    let outbound = entries(&report["outbound"]).iter().map(outbound_row);
    text += &format!(
        "\nOUTBOUND\n{}\n",
        table(["HOST", "PORT", "SUBSET", "MODE", "DECIDED BY", "ENDPOINTS"], outbound)
    );
    let warnings = entries(&report["warnings"]);
    if !warnings.is_empty() {
        text += "\nWARNINGS\n";
    }
    for warning in warnings {
        text += &format!("{}: {}\n", cell(&warning["object"]), cell(&warning["message"]));
    }
    text
}

fn inbound_rows(inbound: &Value) -> Vec<[String; 3]> {
    let decided = |policy: &Value| if policy.is_null() { "default".to_owned() } else { cell(policy) };
    let mut rows = vec![["*".to_owned(), cell(&inbound["default"]), decided(&inbound["policy"])]];
    for (port, mode) in inbound["ports"].as_object().into_iter().flatten() {
        let policy = &inbound["port_policies"][port];
        let policy = if policy.is_null() { &inbound["policy"] } else { policy };
        rows.push([port.clone(), cell(mode), decided(policy)]);
    }
    rows
}

fn outbound_row(entry: &Value) -> [String; 6] {
    let endpoints = entry["endpoints"].as_object().map(|endpoints| {
        endpoints
            .iter()
            .map(|(address, mode)| format!("{address} {}", cell(mode)))
            .collect::<Vec<_>>()
            .join(", ")
    });
    [
        cell(&entry["host"]),
        cell(&entry["port"]),
        cell(&entry["subset"]),
        cell(&entry["mode"]),
        cell(&entry["policy"]),
        endpoints.unwrap_or_default(),
    ]
}
