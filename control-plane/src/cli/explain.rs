//! `eastwest explain`: one client-to-server pair.

use clap::Args;
use serde_json::Value;

use super::{Exit, Result, naming::NamespaceArgs, world::WorldArgs};
use crate::{
    names::{TargetName, WorkloadName},
    output::{OutputArgs, cell, entries},
    query::Question,
};

/// The arguments of `eastwest explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The calling workload: NAMESPACE/POD, NAMESPACE/deploy/NAME, or the address of a pod.
    #[arg(value_name = "NS/POD")]
    client: String,
    /// What it calls: a service's short or full name, a pod's name below a headless service, svc/NAME, NAMESPACE/POD or an
    /// address, with the number or the name of the port that is dialled; an IPv6 address in brackets.
    #[arg(value_name = "HOST:PORT")]
    target: String,
    #[command(flatten)]
    names: NamespaceArgs,
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ExplainArgs {
    pub(super) fn run(self) -> Result {
        let client = self.names.read("NS/POD", &self.client, WorkloadName::read);
        let target = self.names.read("HOST:PORT", &self.target, TargetName::read);
        let question = Question::Explain { client: client?, target: target? };
        let explanation = self.world.ask(&question)?;
        self.output.print(&explanation, describe)?;
        let refused = ["REFUSED", "PARTLY_REFUSED", "NO_ENDPOINTS", "BLACK_HOLE"];
        let connects = !refused.iter().any(|verdict| explanation["verdict"] == *verdict);
        Ok(if connects { Exit::Success } else { Exit::Negative })
    }
}

/// The explanation as text: the verdict, then both sides with the deciding objects, then the objects that lost, then
/// names.
fn describe(explanation: &Value) -> String {
    let mut text = format!(
        "{}: {} → {}:{}\n{}\n",
        outcome(explanation),
        cell(&explanation["client"]),
        cell(if explanation["host"].is_null() { &explanation["asked"] } else { &explanation["host"] }),
        cell(&explanation["port"]),
        cell(&explanation["reason"]),
    );
    let setting = &explanation["setting"];
    if !setting.is_null() {
        text += &format!("\nCLIENT  {}\n", cell(&explanation["client_identity"]));
        text += &format!("  mode        {}\n", cell(&setting["mode"]));
        text += &format!("  decided by  {}\n", decided_by(setting));
        text += &format!("  server name {}\n", cell(&setting["sni"]));
        text += &format!("  must be     {}\n", expected(setting));
    }
    if explanation["client_in_mesh"] == false {
        text += &format!("\nCLIENT  {}\n  no proxy    ", cell(&explanation["client"]));
        text += "its application is on its own; the label security.istio.io/tlsMode=istio marks a pod with a proxy, and \
                 sidecar.istio.io/inject: \"true\" a template\n";
    }
    text += &steps(&explanation["trace"]);
    for endpoint in entries(&explanation["endpoints"]) {
        text += &describe_endpoint(endpoint, sends_own_tls(explanation));
    }
    text + &envoy(explanation)
}

/// The names of the client's resources that take the call.
fn envoy(explanation: &Value) -> String {
    const NAMES: [(&str, &str); 5] = [
        ("first bytes", "first_bytes"),
        ("listener", "listener"),
        ("chain", "chain"),
        ("route", "virtual_host"),
        ("cluster", "cluster"),
    ];
    let known = NAMES.iter().filter(|(_, key)| explanation[*key].as_str().is_some_and(|one| !one.is_empty()));
    let lines: String =
        known.map(|(name, key)| format!("  {name:11} {}\n", cell(&explanation[*key]))).collect();
    if lines.is_empty() { lines } else { format!("\nENVOY\n{lines}") }
}

fn describe_endpoint(endpoint: &Value, own_tls: bool) -> String {
    let words = |value: &Value| match value.as_str() {
        Some("PLAINTEXT") if own_tls => "the application's own TLS".to_owned(),
        _ => words(value),
    };
    let server = &endpoint["server"];
    let ready = if endpoint["ready"] == true { "" } else { " (not ready)" };
    let mut text =
        format!("\nSERVER  {} {}{ready}\n", cell(&endpoint["address"]), cell(&endpoint["workload"]));
    text += &format!("  identity    {}\n", cell(&server["identity"]));
    text += &format!("  mode        {}\n", cell(&server["mode"]));
    text += &format!("  decided by  {}\n", decided_by(server));
    text += &format!(
        "  outcome     {}: client sends {}, {}\n",
        words(&endpoint["outcome"]),
        words(&endpoint["sends"]),
        cell(&endpoint["reason"])
    );
    if !endpoint["server_cluster"].is_null() {
        text += &format!("  cluster     {}\n", cell(&endpoint["server_cluster"]));
    }
    let chains: Vec<_> = entries(&endpoint["server_chains"]).iter().map(cell).collect();
    if !chains.is_empty() {
        text += &format!("  chain       {}\n", chains.join(" or "));
    }
    text + &steps(&server["trace"])
}

/// What is plaintext to the proxy may be the application's own TLS.
fn sends_own_tls(explanation: &Value) -> bool {
    explanation["first_bytes"].as_str().is_some_and(|bytes| bytes.starts_with("TLS"))
}

/// The verdict in words.
fn outcome(explanation: &Value) -> &'static str {
    match explanation["verdict"].as_str() {
        Some("PLAINTEXT") if sends_own_tls(explanation) => "The application's own TLS",
        _ => verdict(&explanation["verdict"]),
    }
}

/// A verdict in words.
pub(super) fn verdict(verdict: &Value) -> &'static str {
    match verdict.as_str().unwrap_or_default() {
        "MUTUAL_TLS" => "Mutual TLS",
        "PLAINTEXT" => "Plaintext",
        "TLS" => "TLS",
        "REFUSED" => "Will be refused",
        "PARTLY_REFUSED" => "Some endpoints will refuse",
        "MIXED" => "Mutual TLS to some endpoints, plaintext to others",
        "NO_ENDPOINTS" => "Nobody there",
        "PASSTHROUGH" => "Passed through as it is",
        "BLACK_HOLE" => "Goes nowhere",
        _ => "Unknown",
    }
}

/// `MUTUAL_TLS` in words.
fn words(value: &Value) -> String {
    cell(value).replace('_', " ").to_lowercase().replace("tls", "TLS")
}

fn decided_by(side: &Value) -> String {
    let policy = if side["policy"].is_null() { "default".to_owned() } else { cell(&side["policy"]) };
    format!("{policy}{}", place(&side["origin"]))
}

fn place(origin: &Value) -> String {
    match (origin["file"].as_str(), origin["line"].as_u64()) {
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
        (Some(file), None) => format!(" ({file})"),
        _ => String::new(),
    }
}

/// The identities that the client's proxy accepts from the server.
fn expected(setting: &Value) -> String {
    let names: Vec<_> = entries(&setting["subject_alt_names"]).iter().map(cell).collect();
    let names = (!names.is_empty()).then(|| names.join(" or "));
    let host = (setting["auto_san_validation"] == true).then(|| "the host that a request names".to_owned());
    let both: Vec<_> = names.into_iter().chain(host).collect();
    if both.is_empty() { "anybody (no name is checked)".to_owned() } else { both.join(", and ") }
}

/// The objects that were considered, in order: winner, heirs and losers, each with the rule that decided.
fn steps(trace: &Value) -> String {
    let step = |step: &Value| {
        let who = if step["object"].is_null() { "mesh default".to_owned() } else { cell(&step["object"]) };
        let place = place(&step["origin"]);
        format!(
            "    {:9} {who}{place}: {} [{}]\n",
            cell(&step["outcome"]),
            cell(&step["reason"]),
            cell(&step["rule"])
        )
    };
    entries(trace).iter().map(step).collect()
}
