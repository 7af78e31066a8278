//! `eastwest status`: the connected proxies of a running control plane, and what it follows.

use std::{
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use eastwest_io::stdio;
use eastwest_model::WorkloadKey;
use eastwest_translate::ResourceType;
use eastwest_xds::TypeUrl;
use serde_json::Value;

use super::{Exit, Result, config::origin, naming::NamespaceArgs, runtime};
use crate::{
    names::WorkloadName,
    output::{OutputArgs, cell, entries, table, write_out},
    query::Question,
    remote,
};

/// The arguments of `eastwest status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  eastwest status\n  eastwest status shop/reviews-0\n  eastwest status --watch\n  \
    eastwest status --sources\n\n\
    SYNCED: the proxy accepted the last response. STALE: it has not answered it. NOT SENT: nothing was sent yet. ERROR: it\n\
    refused something. The time is how long ago the response was sent. Exit status 1 if a proxy is not in sync or not\n\
    connected, or with --sources if a watch is not alive."
)]
pub(crate) struct StatusArgs {
    /// One proxy, type by type: NAMESPACE/POD, POD.NAMESPACE, NAMESPACE/deploy/NAME, or the address of a pod.
    #[arg(value_name = "NS/POD", conflicts_with = "sources")]
    workload: Option<String>,
    #[command(flatten)]
    names: NamespaceArgs,
    /// Show what the control plane follows in the Kubernetes API: versions, objects, last event, whether it is alive.
    #[arg(long, env = "EASTWEST_STATUS_SOURCES")]
    sources: bool,
    /// Go on, and print the state again each time it changes.
    #[arg(short, long, env = "EASTWEST_STATUS_WATCH", conflicts_with = "sources")]
    watch: bool,
    /// HTTP address of the control plane.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:15014", env = "EASTWEST_SERVER")]
    server: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// How long `--watch` waits between two looks.
const PAUSE: Duration = Duration::from_secs(1);

impl StatusArgs {
    pub(super) fn run(self) -> Result {
        if self.sources {
            let report = self.page("/debug/sources")?;
            self.output.print(&report, describe_sources)?;
            let live = entries(&report["sources"]).iter().all(|source| source["live"] == true);
            return Ok(if live { Exit::Success } else { Exit::Negative });
        }
        let workload = self.workload.as_ref().map(|name| self.key(name)).transpose()?;
        let mut shown = None;
        loop {
            let all = self.page("/debug/syncz")?;
            let found = proxies_of(&all, workload.as_ref());
            if shown.as_ref() != Some(&found) {
                self.show(&all, &found, workload.as_ref(), shown.is_some())?;
            }
            if !self.watch {
                let known = workload.is_none() || !entries(&found).is_empty();
                let in_sync = known && entries(&found).iter().all(is_in_sync);
                return Ok(if in_sync { Exit::Success } else { Exit::Negative });
            }
            shown = Some(found);
            sleep(PAUSE);
        }
    }

    fn show(&self, all: &Value, found: &Value, workload: Option<&WorkloadKey>, again: bool) -> Result<()> {
        if again && self.output.is_table() {
            write_out("")?;
        }
        match workload {
            Some(workload) if entries(found).is_empty() => {
                let known: Vec<_> = entries(all).iter().map(|proxy| node_part(proxy, 2)).take(8).collect();
                let hint = if known.is_empty() { "none is".to_owned() } else { known.join(", ") };
                stdio::stderr().line(&format!("no proxy of {workload} is connected; connected: {hint}"));
                Ok(())
            }
            Some(_) => Ok(self.output.print(found, |found| describe_types(found) + &uncovered(found))?),
            None => Ok(self.output.print(found, |found| describe_proxies(found) + &uncovered(found))?),
        }
    }

    /// The workload that a name means to the server.
    fn key(&self, name: &str) -> Result<WorkloadKey> {
        let name = self.names.read("NS/POD", name, WorkloadName::read)?;
        let report = runtime()?.block_on(remote::ask(&self.server, &Question::Tls(name)))?;
        Ok(report["workload"].as_str().unwrap_or_default().parse()?)
    }

    fn page(&self, path: &str) -> anyhow::Result<Value> {
        let body = runtime()?.block_on(remote::fetch(&self.server, path))?;
        Ok(serde_json::from_slice(&body)?)
    }
}

/// The streams of the proxy of a workload, or all.
fn proxies_of(all: &Value, workload: Option<&WorkloadKey>) -> Value {
    let Some(workload) = workload else { return all.clone() };
    let is_it = |proxy: &&Value| proxy["namespace"] == *workload.namespace && proxy["pod"] == *workload.name;
    entries(all).iter().filter(is_it).cloned().collect()
}

/// Whether a proxy has accepted all that it asked for. A type that is not served is never sent.
fn is_in_sync(proxy: &Value) -> bool {
    entries(&proxy["types"]).iter().all(|one| one["state"] == "SYNCED" || short_name(one).is_none())
}

/// A part of the node id `sidecar~10.0.0.7~reviews-0.shop~shop.svc.cluster.local`.
fn node_part(proxy: &Value, part: usize) -> String {
    let node = proxy["node"].as_str().unwrap_or_default();
    node.split('~').nth(part).unwrap_or(node).to_owned()
}

fn short_name(one: &Value) -> Option<&'static str> {
    TypeUrl::parse(one["type_url"].as_str()?).ok()?.short_name()
}

/// The last part of a type URL: `Cluster`.
fn type_name(one: &Value) -> String {
    let url = one["type_url"].as_str().unwrap_or_default();
    url.rsplit('.').next().unwrap_or(url).to_owned()
}

/// `SYNCED (3m)`; `NOT SERVED` for a type that this control plane does not have.
fn state(one: &Value) -> String {
    if short_name(one).is_none() {
        return "NOT SERVED".to_owned();
    }
    match age(one) {
        Some(age) => format!("{} ({age})", cell(&one["state"])),
        None => cell(&one["state"]),
    }
}

/// How long a type has been in its state, in the two largest units.
fn age(one: &Value) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    let seconds = now.saturating_sub(one["since"].as_u64()?);
    Some(match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    })
}

/// The number of types that have a column: those of Envoy.
const COLUMNS: usize = 5;

fn describe_proxies(proxies: &Value) -> String {
    let proxies = entries(proxies);
    if proxies.is_empty() {
        return "no proxy is connected".to_owned();
    }
    let types: Vec<_> = ResourceType::all().take(COLUMNS).map(|one| one.to_string()).collect();
    let rows = proxies.iter().map(|proxy| {
        let state = |name: &String| {
            let one = entries(&proxy["types"]).iter().find(|one| short_name(one) == Some(name.as_str()));
            one.map_or_else(|| "-".to_owned(), state)
        };
        let states = types.iter().map(state);
        let facts = ["proxy_version", "agent_version", "identity"].map(|name| cell(&proxy[name]));
        let cells: Vec<_> = [node_part(proxy, 2)].into_iter().chain(states).chain(facts).collect();
        std::array::from_fn(|at| cells.get(at).cloned().unwrap_or_default())
    });
    let words = types.iter().map(|name| name.to_ascii_uppercase());
    let words: Vec<_> = words.collect();
    let names =
        ["NAME"].into_iter().chain(words.iter().map(String::as_str)).chain(["PROXY", "AGENT", "IDENTITY"]);
    let names: Vec<_> = names.collect();
    let header: [&str; COLUMNS + 4] = std::array::from_fn(|at| names.get(at).copied().unwrap_or_default());
    let errors: Vec<_> = proxies.iter().flat_map(|proxy| errors(proxy, true)).collect();
    let table = table(header, rows);
    if errors.is_empty() { table } else { format!("{table}\n\n{}", errors.join("\n\n")) }
}

/// What a proxy refused: its words, and the objects behind it.
fn errors(proxy: &Value, with_name: bool) -> Vec<String> {
    let refused = entries(&proxy["types"]).iter().filter(|one| one["error"].is_string());
    let told = refused.map(|one| {
        let name = if with_name { format!("{} ", node_part(proxy, 2)) } else { String::new() };
        let mut told = format!("ERROR  {name}{}: {}", type_name(one), cell(&one["error"]));
        for resource in entries(&one["rejected"]) {
            told.push_str(&format!("\n  resource  {}", cell(resource)));
        }
        let url = one["type_url"].as_str().unwrap_or_default();
        for object in entries(&proxy["refused_objects"][url]) {
            told.push_str(&format!("\n  from      {}", origin(object)));
        }
        told
    });
    told.collect()
}

/// A line for each proxy that does not report all addresses of its pod.
fn uncovered(proxies: &Value) -> String {
    let told = |proxy: &Value| {
        let addresses: Vec<_> = entries(&proxy["uncovered"]).iter().map(cell).collect();
        (!addresses.is_empty()).then(|| {
            format!(
                "\nwarning: {} has {}, which its proxy does not report: if connections to it are not redirected, they reach the application in plaintext, also under STRICT (POLICY.md L9)",
                node_part(proxy, 2),
                addresses.join(", ")
            )
        })
    };
    entries(proxies).iter().filter_map(told).collect()
}

fn describe_types(proxies: &Value) -> String {
    let blocks = entries(proxies).iter().map(|proxy| {
        let facts = [
            ("proxy", &proxy["node"]),
            ("identity", &proxy["identity"]),
            ("runs", &proxy["proxy_version"]),
            ("agent", &proxy["agent_version"]),
            ("variant", &proxy["variant"]),
        ];
        let facts: Vec<_> = facts.iter().map(|(what, value)| format!("{what:8}  {}", cell(value))).collect();
        let rows = entries(&proxy["types"]).iter().map(|one| {
            [
                type_name(one),
                state(one),
                cell(&one["resources"]),
                cell(&one["version"]),
                cell(&one["rejects"]),
            ]
        });
        let types = table(["TYPE", "STATE", "RESOURCES", "VERSION", "REJECTS"], rows);
        let errors: String = errors(proxy, false).iter().map(|error| format!("\n\n{error}")).collect();
        format!("{}\n\n{types}{errors}", facts.join("\n"))
    });
    blocks.collect::<Vec<_>>().join("\n\n")
}

fn describe_sources(report: &Value) -> String {
    if let Some(directory) = report["directory"].as_str() {
        return format!("manifests in {directory}");
    }
    let rows = entries(&report["sources"]).iter().map(|source| {
        let group = source["group"].as_str().filter(|group| !group.is_empty());
        let resource = cell(&source["resource"]);
        let name = group.map_or(resource.clone(), |group| format!("{resource}.{group}"));
        let object = source["object"].as_str().map_or(String::new(), |object| format!(" {object}"));
        let age = source["age_seconds"].as_f64().map_or("-".to_owned(), |age| format!("{age:.0}s"));
        [
            name + &object,
            cell(&source["version"]),
            cell(&source["state"]),
            if source["live"] == true { "yes" } else { "NO" }.to_owned(),
            cell(&source["objects"]),
            age,
            cell(&source["last_error"]["message"]),
        ]
    });
    let table = table(["RESOURCE", "VERSION", "STATE", "LIVE", "OBJECTS", "LAST EVENT", "LAST ERROR"], rows);
    format!("Kubernetes API  {}\n\n{table}", cell(&report["server"]))
}
