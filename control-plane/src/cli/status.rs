//! `eastwest status`: the connected proxies of a running control plane, and what it follows.

use clap::Args;
use eastwest_io::stdio;
use eastwest_model::WorkloadKey;
use serde_json::Value;

use super::{Exit, Result, naming::NamespaceArgs, runtime};
use crate::{
    names::WorkloadName,
    output::{OutputArgs, cell, entries, table},
    query::Question,
    remote,
};

/// The arguments of `eastwest status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  eastwest status\n  eastwest status shop/reviews-0\n  eastwest status --sources\n\n\
    Exit status 1 if a proxy refused something or is not connected, or with --sources if a watch is not alive."
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
    /// HTTP address of the control plane.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:15014", env = "EASTWEST_SERVER")]
    server: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl StatusArgs {
    pub(super) fn run(self) -> Result {
        if self.sources {
            let report = self.page("/debug/sources")?;
            self.output.print(&report, describe_sources)?;
            let live = entries(&report["sources"]).iter().all(|source| source["live"] == true);
            return Ok(if live { Exit::Success } else { Exit::Negative });
        }
        let mut proxies = self.page("/debug/syncz")?;
        if let Some(workload) = self.workload.as_ref().map(|name| self.key(name)).transpose()? {
            let id = format!("{}.{}", workload.name, workload.namespace);
            let is_it = |proxy: &Value| node_part(proxy, 2) == id;
            let found: Vec<_> = entries(&proxies).iter().filter(|proxy| is_it(proxy)).cloned().collect();
            if found.is_empty() {
                let known: Vec<_> =
                    entries(&proxies).iter().map(|proxy| node_part(proxy, 2)).take(8).collect();
                let hint = if known.is_empty() { "none is".to_owned() } else { known.join(", ") };
                stdio::stderr().line(&format!("no proxy of {workload} is connected; connected: {hint}"));
                return Ok(Exit::Negative);
            }
            proxies = Value::Array(found);
        }
        let describe = if self.workload.is_some() { describe_types } else { describe_proxies };
        self.output.print(&proxies, |proxies| describe(proxies) + &uncovered(proxies))?;
        let types = entries(&proxies).iter().flat_map(|proxy| entries(&proxy["types"]));
        let refused = types.into_iter().any(|one| one["state"] == "ERROR");
        Ok(if refused { Exit::Negative } else { Exit::Success })
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

/// A part of the node id `sidecar~10.0.0.7~reviews-0.shop~shop.svc.cluster.local`.
fn node_part(proxy: &Value, part: usize) -> String {
    let node = proxy["node"].as_str().unwrap_or_default();
    node.split('~').nth(part).unwrap_or(node).to_owned()
}

/// The last part of a type URL: `Cluster`.
fn type_name(one: &Value) -> String {
    let url = one["type_url"].as_str().unwrap_or_default();
    url.rsplit('.').next().unwrap_or(url).to_owned()
}

fn describe_proxies(proxies: &Value) -> String {
    let proxies = entries(proxies);
    if proxies.is_empty() {
        return "no proxy is connected".to_owned();
    }
    let rows = proxies.iter().map(|proxy| {
        let types = entries(&proxy["types"]).iter();
        let states = types.map(|one| format!("{} {}", type_name(one), cell(&one["state"])));
        [
            node_part(proxy, 2),
            cell(&proxy["identity"]),
            cell(&proxy["variant"]),
            states.collect::<Vec<_>>().join(", "),
        ]
    });
    table(["PROXY", "IDENTITY", "VARIANT", "STATE"], rows)
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
    let rows = entries(proxies).iter().flat_map(|proxy| entries(&proxy["types"])).map(|one| {
        [
            type_name(one),
            cell(&one["state"]),
            cell(&one["resources"]),
            cell(&one["version"]),
            cell(&one["rejects"]),
            cell(&one["error"]),
        ]
    });
    table(["TYPE", "STATE", "RESOURCES", "VERSION", "REJECTS", "ERROR"], rows)
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
