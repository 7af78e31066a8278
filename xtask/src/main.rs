//! Tasks of the workspace: `cargo xtask TASK`.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};

mod bench;
mod cluster;
mod demo;
mod fuzz;
mod proto;
mod test;
mod tools;

/// Tasks of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run every check and every test; fetch what they need.
    Test,
    /// Fetch what the whole-system tests need: stock Envoy, and as root the missing packages.
    Tools,
    /// Measure a release build.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run the fuzz targets for a bounded time.
    Fuzz(fuzz::Args),
    /// Show mutual TLS between two pods with stock Envoys, in network namespaces (needs root).
    Demo,
    /// Start or stop a real Kubernetes API with the bookshop in it, to try things.
    #[command(subcommand)]
    Cluster(cluster::Action),
    /// Generate the `proto` crate from the .proto files named in `proto/messages.txt`.
    Proto(proto::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Test => test::run(),
        Chore::Tools => tools::run(),
        Chore::Bench(bench) => bench::run(&bench),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Demo => demo::run(),
        Chore::Cluster(action) => cluster::run(&action),
        Chore::Proto(args) => proto::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Root folder of the workspace: the parent of this crate's folder.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("the xtask crate has no parent folder")?;
    Ok(root.to_owned())
}

/// Folder that cargo builds into.
fn target_dir() -> anyhow::Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => Ok(std::path::absolute(dir)?),
        None => Ok(workspace_root()?.join("target")),
    }
}

/// The cargo that runs this task, in the root of the workspace.
fn cargo(args: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(workspace_root()?);
    Ok(command)
}

/// Runs a command to its end, with the standard streams of this process.
fn succeed(mut command: Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} failed: {status}");
    }
    Ok(())
}
