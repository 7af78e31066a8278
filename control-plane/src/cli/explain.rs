//! `eastwest explain`: one client-to-server pair.

use clap::Args;
use eastwest_model::WorkloadKey;
use serde_json::Value;

use super::{Outcome, Result, world::WorldArgs};
use crate::{output::OutputArgs, query::Question};

/// The arguments of `eastwest explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The calling workload, NAMESPACE/POD.
    client: WorkloadKey,
    /// What it calls, HOST:PORT with the port of the service.
    #[arg(value_name = "HOST:PORT", value_parser = target)]
    target: (String, u16),
    #[command(flatten)]
    world: WorldArgs,
    #[command(flatten)]
    output: OutputArgs,
}

fn target(text: &str) -> std::result::Result<(String, u16), String> {
    let wrong = || format!("{text:?} is not HOST:PORT, for example reviews.shop:9080");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

impl ExplainArgs {
    pub(super) fn run(self) -> Result {
        let (host, port) = self.target;
        let question = Question::Explain { client: self.client, host, port };
        let explanation = self.world.ask(&question)?;
        self.output.print(&explanation, describe)?;
        Ok(if explanation["connects"] == false { Outcome::Negative } else { Outcome::Success })
    }
}

fn describe(_explanation: &Value) -> String {
    String::new()
}
