//! `eastwest render`: the xDS resources of one workload's proxy.

use clap::Args;
use eastwest_translate::ResourceType;
use serde_json::Value;

use super::{Exit, Result, naming::WorkloadArgs, world::WorldArgs};
use crate::{
    output::{Format, OutputArgs, cell, entries, table},
    query::Question,
};

/// The arguments of `eastwest render`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  eastwest render shop/reviews-0 --config-dir manifests --type cds,lds\n\n\
    Keys are sorted, resources stand by type and name, and every nested message is resolved: equal settings give\n\
    equal text. Keys and certificates are never shown; resources name them only."
)]
pub(crate) struct RenderArgs {
    #[command(flatten)]
    workload: WorkloadArgs,
    /// Only resources of this type (repeatable), by its short name, e.g. cds. The type `workload` is our own: stock
    /// Envoy does not get it.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', env = "EASTWEST_RENDER_TYPE")]
    types: Vec<ResourceType>,
    /// For a proxy with internal listeners, the default of `eastwest agent`.
    #[arg(long, env = "EASTWEST_INTERNAL_LISTENERS")]
    internal_listeners: bool,
    #[command(flatten)]
    world: WorldArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Json, env = "EASTWEST_OUTPUT")]
    output: Format,
}

impl RenderArgs {
    pub(super) fn run(self) -> Result {
        let question = Question::Render {
            workload: self.workload.read()?,
            types: self.types,
            internal_listeners: self.internal_listeners,
        };
        let rendering = self.world.ask(&question)?;
        OutputArgs { output: self.output }.print(&rendering, describe)?;
        Ok(Exit::Success)
    }
}

/// A table of contents.
fn describe(rendering: &Value) -> String {
    let rows = entries(&rendering["resources"]).iter();
    let row = |one: &Value| [cell(&one["type"]), cell(&one["name"]), cell(&one["version"])];
    table(["TYPE", "NAME", "VERSION"], rows.map(row))
}
