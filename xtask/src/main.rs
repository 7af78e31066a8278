//! Chores of the workspace: `cargo xtask CHORE`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

mod proto;

/// Chores of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Generate the `proto` crate from the .proto files named in `proto/messages.txt`.
    Proto(proto::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
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

/// Root folder of the workspace: where this crate's folder lies.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().context("the xtask crate has no parent folder")?;
    Ok(root.to_owned())
}
