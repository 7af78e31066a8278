//! `cargo xtask bench`: figures of a release build.

use std::thread::available_parallelism;

use clap::Subcommand;

use crate::{cargo, succeed, target_dir};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// What connected proxies cost the control plane. `cargo xtask bench load -- --help` lists the options.
    Load {
        /// Options of the load generator.
        #[arg(last = true)]
        options: Vec<String>,
    },
}

/// Builds the program and the load generator, and runs it: the server on the first processor and the clients on the
/// others, where there are several.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<()> {
    let Bench::Load { options } = bench;
    succeed(cargo(&["build", "--release", "--package", "eastwest"])?)?;
    let mut load = cargo(&["bench", "--quiet", "--package", "eastwest-tests", "--bench", "load", "--"])?;
    let processors = available_parallelism().map_or(1, usize::from);
    if processors > 1 {
        load.args(["--core", "0"]);
    }
    load.args(options).env("EASTWEST_BIN", target_dir()?.join("release/eastwest"));
    succeed(load)
}
