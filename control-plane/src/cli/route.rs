//! `eastwest route`: where a request goes, and how.

use clap::Args;
use serde_json::Value;

use super::{Exit, Failure, Result, naming::NamespaceArgs, world::WorldArgs};
use crate::{
    config::Problems,
    names::WorkloadName,
    output::{OutputArgs, cell, entries},
    query::Question,
    request,
};

/// The arguments of `eastwest route`.
#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    /// The calling workload: NAMESPACE/POD, NAMESPACE/deploy/NAME, or the address of a pod.
    #[arg(value_name = "CLIENT")]
    client: String,
    /// What it sends: http://HOST[:PORT]/PATH, tcp://HOST:PORT or tls://SERVER-NAME:PORT, the host as the application writes
    /// it, or an address. A method may stand in front.
    #[arg(value_name = "[METHOD] URL", required = true, num_args = 1..=2)]
    request: Vec<String>,
    /// A header of the request.
    #[arg(long = "header", value_name = "NAME=VALUE", env = "EASTWEST_ROUTE_HEADER")]
    headers: Vec<String>,
    /// Its Host header [default: the host of the URL].
    #[arg(long, value_name = "AUTHORITY", env = "EASTWEST_ROUTE_HOST")]
    host: Option<String>,
    /// Show the policy of this destination, counted from 0.
    #[arg(long, value_name = "N", default_value_t = 0, env = "EASTWEST_ROUTE_DESTINATION")]
    destination: usize,
    #[command(flatten)]
    names: NamespaceArgs,
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl RouteArgs {
    pub(super) fn run(self) -> Result {
        let client = self.names.read("CLIENT", &self.client, WorkloadName::read)?;
        let answer = self.world.ask(&Question::Route { client, request: self.read()? })?;
        let destinations = entries(&answer["destinations"]).len();
        if self.destination > 0 && self.destination >= destinations {
            let last = destinations.saturating_sub(1);
            let mistake = format!("the request has {destinations} destinations: use 0 to {last}");
            return Err(Failure::usage("--destination", mistake));
        }
        self.output.print(&answer, describe)?;
        let refused = !answer["status"].is_null()
            || !answer["direct_response"].is_null()
            || answer["destinations"][0]["cluster"] == "BlackHoleCluster";
        Ok(if refused { Exit::Negative } else { Exit::Success })
    }

    /// All mistakes at once.
    fn read(&self) -> Result<eastwest_engine::route::Request> {
        let mut problems = Problems::default();
        let (method, url) = match &self.request[..] {
            [method, url] => (problems.take("METHOD", request::read_method(method)), url),
            [url] => (Some("GET".to_owned()), url),
            _ => return Err(Failure::usage("URL", "give one URL, and a method in front of it if you like")),
        };
        let url = problems.take("URL", request::read_url(url));
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|header| problems.take("--header", request::read_header(header)))
            .collect();
        let headers: Option<Vec<_>> = headers.into_iter().collect();
        let read = url.zip(method).zip(headers).map(|((url, method), headers)| {
            eastwest_engine::route::Request { method, headers, authority: self.host.clone(), ..url }
        });
        read.ok_or(Failure::Usage(problems))
    }
}

/// The answer as text: where the request goes, how, and by which policy.
fn describe(answer: &Value) -> String {
    let mut text = format!("{}\n", outcome(answer));
    for warning in entries(&answer["warnings"]) {
        text += &format!("warning: {}: {}\n", cell(&warning["object"]), cell(&warning["message"]));
    }
    let mut section = |title: &str, lines: Vec<(&str, String)>| {
        let lines: Vec<_> =
            lines.into_iter().filter(|(_, value)| value != "-" && !value.is_empty()).collect();
        if !lines.is_empty() {
            text += &format!("\n{title}\n");
            lines.iter().for_each(|(name, value)| text += &format!("  {name:13} {value}\n"));
        }
    };
    section("REQUEST", request_lines(answer));
    section("POLICY", policy_lines(&answer["policy"]));
    section(
        "ENVOY",
        [("listener", "listener"), ("chain", "chain"), ("route", "virtual_host")]
            .map(|(name, key)| (name, cell(&answer[key])))
            .to_vec(),
    );
    text
}

fn outcome(answer: &Value) -> String {
    let request = &answer["request"];
    let what = format!("{} → {}", cell(&answer["client"]), cell(&request["url"]));
    if let Some(response) = answer["direct_response"].as_object() {
        return format!("Answered {} by the client's own proxy: {what}", cell(&response["status"]));
    }
    if answer["client_in_mesh"] == false {
        return format!("The client has no proxy of the mesh; with one this would hold: {what}");
    }
    match &answer["status"] {
        Value::Null => format!("Goes to {}: {what}", destinations(answer)),
        status => format!(
            "Answered {} by the client's own proxy, for nobody takes requests at {}: {what}",
            cell(status),
            destinations(answer)
        ),
    }
}

fn destinations(answer: &Value) -> String {
    let all = entries(&answer["destinations"]);
    let several = all.len() > 1;
    let one = |one: &Value| match several {
        true => format!("{} (weight {})", cell(&one["cluster"]), cell(&one["weight"])),
        false => cell(&one["cluster"]),
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn request_lines(answer: &Value) -> Vec<(&'static str, String)> {
    let retries = &answer["retries"];
    let retried = match retries.is_null() {
        true => "-".to_owned(),
        false => format!("{} after {}", cell(&retries["attempts"]), cell(&retries["on"])),
    };
    vec![
        ("host header", cell(&answer["request"]["authority"])),
        ("timeout", cell(&answer["timeout"])),
        ("retries", retried),
    ]
}

/// Each block with its origin, and of its fields those that are set.
fn policy_lines(policy: &Value) -> Vec<(&'static str, String)> {
    if policy.is_null() {
        return Vec::new();
    }
    let origin = |block: &str| match &policy["origins"][block] {
        Value::Null => String::new(),
        origin => format!("  ({}, {})", cell(&origin["rule"]), cell(&origin["level"])),
    };
    let block = |name: &str| match &policy[name] {
        Value::Null => "-".to_owned(),
        value => format!("{}{}", fields(value), origin(name)),
    };
    vec![
        ("rule", cell(&policy["object"])),
        ("load balancer", format!("{}{}", cell(&policy["load_balancer"]), origin("load_balancer"))),
        ("ring", cell(&policy["ring_size"])),
        ("table", cell(&policy["table_size"])),
        ("hash", block("hash")),
        ("warmup", block("warmup")),
        ("outliers", block("outlier_detection")),
        ("connections", block("connection_pool")),
        ("found by", cell(&policy["discovery"])),
        ("endpoints", entries(&policy["endpoints"]).iter().map(cell).collect::<Vec<_>>().join(", ")),
    ]
}

/// The fields that are set, `name value`; nested ones with their path.
fn fields(value: &Value) -> String {
    fn collect(path: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Null | Value::Bool(false) => {}
            Value::Object(map) => {
                for (key, value) in map {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    collect(&path, value, found);
                }
            }
            Value::Array(items) if items.is_empty() => {}
            value => found.push(format!("{path} {}", cell(value))),
        }
    }
    let mut found = Vec::new();
    collect("", value, &mut found);
    found.join(", ")
}
