//! `cargo xtask fuzz`: every target of `fuzz/` for a bounded time.
//!
//! The fuzzer's instrumentation is a feature of the compiler that is not stable, so `RUSTC_BOOTSTRAP` lets the stable
//! toolchain use it, for the fuzzer's own build alone. Inputs that fail are kept in `fuzz/artifacts`; make a test of each.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::{cargo, succeed, target_dir, workspace_root};

/// What to do when it is missing.
pub(crate) const REMEDY: &str = "cargo-fuzz is missing: cargo install cargo-fuzz --locked";
/// Seeds that lie elsewhere: target, folder.
const FURTHER_SEEDS: [(&str, &str); 2] = [("csr", "ca/testdata/csr"), ("manifest", "docs/examples/bookshop")];

/// Time and targets.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Time for each target, in seconds, after the build.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// One target instead of all of them.
    #[arg(long)]
    target: Option<String>,
}

/// Builds all targets and runs them one after the other; the first that finds something ends it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !is_installed()? {
        bail!("{REMEDY}");
    }
    let targets = targets()?;
    if let Some(unknown) = args.target.as_ref().filter(|name| !targets.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are {}", targets.join(", "));
    }
    succeed(cargo_fuzz("build", &[])?)?;
    for target in targets.iter().filter(|target| args.target.as_ref().is_none_or(|only| only == *target)) {
        println!("\n== fuzz {target}");
        fuzz(target, args.seconds)?;
    }
    Ok(())
}

/// Whether `cargo fuzz` can be called.
pub(crate) fn is_installed() -> anyhow::Result<bool> {
    Ok(cargo(&["fuzz", "--version"])?.output().is_ok_and(|output| output.status.success()))
}

/// Names of the targets: one file each.
fn targets() -> anyhow::Result<Vec<String>> {
    let folder = workspace_root()?.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn fuzz(target: &str, seconds: u32) -> anyhow::Result<()> {
    let root = workspace_root()?;
    let corpus = target_dir()?.join("fuzz-corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    let further = FURTHER_SEEDS.iter().filter(|(of, _)| *of == target).map(|(_, folder)| root.join(folder));
    // New inputs go into the first folder; the others are only read.
    let folders = [corpus, root.join("fuzz/seeds").join(target)].into_iter().chain(further);
    let mut command = cargo_fuzz("run", &[target])?;
    command.args(folders.filter(|folder| folder.exists())).arg("--");
    command.arg(format!("-max_total_time={seconds}"));
    command.args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"]);
    command.args(["-verbosity=0", "-print_final_stats=1"]); // not a line for each new input
    succeed(command).with_context(|| format!("fuzz target {target}: see fuzz/artifacts/{target}"))
}

fn cargo_fuzz(verb: &str, arguments: &[&str]) -> anyhow::Result<Command> {
    let build = target_dir()?.join("fuzz");
    let mut command = cargo(&["fuzz", verb, "--fuzz-dir", "fuzz", "--sanitizer", "none", "--target-dir"])?;
    command.arg(Path::new(&build)).args(arguments).env("RUSTC_BOOTSTRAP", "1");
    Ok(command)
}
