//! `eastwest config`: what one proxy may have, in the tables that `istioctl proxy-config` prints.

mod changes;
mod tables;

pub(super) use changes::origin;

use clap::Args;
use eastwest_translate::ResourceType;
use serde_json::Value;

use super::{Exit, Failure, Result, naming::WorkloadArgs, world::WorldArgs};
use crate::{
    output::{OutputArgs, entries},
    query::Question,
};

/// The arguments of `eastwest config`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  eastwest config shop/reviews-0\n  eastwest config shop/reviews-0 clusters --config-dir manifests\n  \
    eastwest config shop/reviews-0 --diff --server http://127.0.0.1:15014\n\n\
    From a server, the resources of a proxy that is connected are those that it may have now; else, and from a directory\n\
    or a cluster, those that it would get. Private keys are never shown. With --diff the exit status is 1 if the proxy has\n\
    not accepted everything."
)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    workload: WorkloadArgs,
    /// One type of resources: clusters, listeners, routes, endpoints or secrets; all without it.
    #[arg(value_name = "TYPE", value_parser = read_type)]
    kind: Option<ResourceType>,
    /// Compare with what the connected proxy has accepted. Only a running server knows that.
    #[arg(long, env = "EASTWEST_CONFIG_DIFF")]
    diff: bool,
    /// For a proxy with internal listeners, the default of `eastwest agent`, if it is not connected.
    #[arg(long, env = "EASTWEST_INTERNAL_LISTENERS")]
    internal_listeners: bool,
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A type of resources by the words of `istioctl proxy-config`: `clusters`, `cluster` or `cds`.
fn read_type(text: &str) -> std::result::Result<ResourceType, String> {
    let mut known = shown_types();
    let is_it = |one: &ResourceType| {
        let plural = one.plural();
        text == plural || text == plural.trim_end_matches('s') || text == one.to_string()
    };
    known.find(is_it).ok_or_else(|| {
        let words: Vec<_> = shown_types().map(ResourceType::plural).collect();
        format!("write one of {}", words.join(", "))
    })
}

/// The types that Envoy is served.
fn shown_types() -> impl Iterator<Item = ResourceType> {
    ResourceType::all().filter(|one| !one.plural().is_empty())
}

impl ConfigArgs {
    pub(super) fn run(self) -> Result {
        if self.diff && !self.world.is_server() {
            return Err(Failure::usage(
                "--diff",
                "only a running server knows what a proxy has accepted: name one with --server",
            ));
        }
        let wanted = self.kind.map_or_else(|| shown_types().collect(), |kind| vec![kind]);
        let question = Question::Config {
            workload: self.workload.read()?,
            types: wanted,
            internal_listeners: self.internal_listeners,
            diff: self.diff,
        };
        let config = self.world.ask(&question)?;
        if self.diff {
            self.output.print(&config["changes"], |changes| changes::describe(&config, changes))?;
            let in_sync = entries(&config["changes"]).is_empty();
            return Ok(if in_sync { Exit::Success } else { Exit::Negative });
        }
        self.output.print(&config, |config| describe(config, self.kind))?;
        Ok(Exit::Success)
    }
}

fn describe(config: &Value, kind: Option<ResourceType>) -> String {
    let table = |kind: ResourceType| {
        let name = kind.to_string();
        let resources: Vec<_> =
            entries(&config["resources"]).iter().filter(|one| one["type"] == *name).collect();
        tables::of(kind.plural(), &resources)
    };
    match kind {
        Some(kind) => table(kind),
        None => {
            let all =
                shown_types().map(|kind| format!("{}\n{}", kind.plural().to_ascii_uppercase(), table(kind)));
            format!("{}\n\n{}", head(config), all.collect::<Vec<_>>().join("\n\n"))
        }
    }
}

/// Whose resources these are.
fn head(config: &Value) -> String {
    let workload = config["workload"].as_str().unwrap_or_default();
    match config["proxy"].as_str() {
        Some(node) => format!("workload  {workload}\nproxy     {node}"),
        None => format!("workload  {workload}\nproxy     not connected here; this is what it would get"),
    }
}
