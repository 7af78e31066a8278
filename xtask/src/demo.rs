//! `cargo xtask demo`: two pods, two stock Envoys, one request, and what the wire carried.

use anyhow::bail;

use crate::{cargo, succeed, tools};

/// Fetches the tools, builds `eastwest` and runs the example `demo` of the tests crate, which
/// shares the pods and captures of the whole-system tests.
pub(crate) fn run() -> anyhow::Result<()> {
    let tools = tools::ensure()?;
    if !tools.lacking.is_empty() {
        bail!("the demo cannot run here:\n  {}", tools.lacking.join("\n  "));
    }
    succeed(tools::build_eastwest()?)?;
    let mut demo = cargo(&["run", "--quiet", "--package", "eastwest-tests", "--example", "demo"])?;
    tools.tell(&mut demo)?;
    succeed(demo)
}
