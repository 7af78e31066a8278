//! `cargo xtask demo`: two pods, two stock Envoys, one request, and a capture of the wire.

use std::process::Command;

use anyhow::bail;

use crate::{cargo, succeed, target_dir, tools};

/// Fetches the tools, builds `eastwest`, and runs the program `demo` of the tests crate, which
/// lifts its pods as the whole-system tests do.
pub(crate) fn run() -> anyhow::Result<()> {
    let tools = tools::ensure_for_pods()?;
    if !tools.lacking.is_empty() {
        bail!("the demo cannot run here:\n  {}", tools.lacking.join("\n  "));
    }
    succeed(tools::build_eastwest()?)?;
    succeed(cargo(&["build", "--package", "eastwest-tests", "--bins"])?)?;
    let mut demo = Command::new(target_dir()?.join("debug/demo"));
    tools.tell(&mut demo)?;
    succeed(demo)
}
