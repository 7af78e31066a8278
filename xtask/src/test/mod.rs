//! `cargo xtask test`: every check and every test, with one summary.
//!
//! Whole-system tests are marked `#[ignore = "..."]`, because they need root and stock Envoy;
//! they run here whenever both are there. What does not run is printed with its reason and
//! counted as skipped; with `CI=true` or `EASTWEST_NO_SKIP=1` a skip is a failure.
//!
//! A few failed tests are run once more, with nothing beside them: on a loaded machine a test may
//! miss a deadline. One that passes then is named in the summary as flaky, which is a fault of the
//! test or of the program, but does not fail the run.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::tools::{self, Tools};
use crate::{cargo, fuzz};

mod tally;

use tally::Tally;

/// How many failed tests are run once more; where more fail, it is no accident.
const RUN_AGAIN: usize = 3;

/// Runs everything, also after a failure, and fails at the end when anything failed.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut tally = Tally::default();
    check(&mut tally, "format", cargo(&["fmt", "--all", "--check"])?)?;
    check(&mut tally, "generated protocol code", cargo(&["xtask", "proto", "--check"])?)?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    check(&mut tally, "clippy", cargo(&clippy)?)?;
    let fuzz_format = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
    check(&mut tally, "format of the fuzz targets", cargo(&fuzz_format)?)?;
    dependencies(&mut tally)?;
    fuzzing(&mut tally)?;

    heading("tools");
    let tools = tools::ensure()?;
    // Whole-system tests start the program itself, which `cargo test` alone does not build.
    check(&mut tally, "build", tools::build_eastwest()?)?;
    tests(&mut tally, &tools)?;
    summary(&tally)
}

fn heading(name: &str) {
    println!("\n== {name}");
}

/// Runs a check that passes or fails as a whole.
fn check(tally: &mut Tally, name: &str, mut command: Command) -> anyhow::Result<()> {
    heading(name);
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if status.success() {
        tally.passed += 1;
    } else {
        tally.fail(name);
    }
    Ok(())
}

/// Checks bans, licences and sources of the dependencies with `deny.toml`; the fuzz targets have a lock file of their
/// own.
fn dependencies(tally: &mut Tally) -> anyhow::Result<()> {
    let installed = cargo(&["deny", "--version"])?.output().is_ok_and(|output| output.status.success());
    for (name, manifest) in
        [("dependencies", "Cargo.toml"), ("dependencies of the fuzz targets", "fuzz/Cargo.toml")]
    {
        if installed {
            let deny = ["deny", "--manifest-path", manifest, "--config", "deny.toml", "check"];
            check(tally, name, cargo(&[&deny[..], &["bans", "licenses", "sources"]].concat())?)?;
        } else {
            heading(name);
            println!("skipped");
            tally.skip(name, "cargo-deny is missing: cargo install cargo-deny --locked");
        }
    }
    Ok(())
}

/// A short run of every fuzz target.
fn fuzzing(tally: &mut Tally) -> anyhow::Result<()> {
    const NAME: &str = "fuzz targets";
    if fuzz::is_installed()? {
        return check(tally, NAME, cargo(&["xtask", "fuzz", "--seconds", "8"])?);
    }
    heading(NAME);
    println!("skipped");
    tally.skip(NAME, fuzz::REMEDY);
    Ok(())
}

/// All tests of the workspace, the whole-system ones too when the tools are there.
fn tests(tally: &mut Tally, tools: &Tools) -> anyhow::Result<()> {
    heading("tests");
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast", "--"])?;
    let include = if tools.lacking.is_empty() { &["--include-ignored"][..] } else { &[] };
    command.args(include);
    tools.tell(&mut command)?;
    let mut run = Tally::default();
    let ended_well = follow(&mut run, &mut command)?;
    if run.unfinished != 0 || (!ended_well && run.failed == 0) {
        run.fail("the tests: some did not build or ended early");
    } else if (1..=RUN_AGAIN).contains(&run.failures.len()) {
        heading("failed tests once more");
        // Doc tests have names that the filter does not understand.
        let mut command =
            cargo(&["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests", "--"])?;
        command.args(include).args(["--test-threads", "1", "--exact"]).args(&run.failures);
        tools.tell(&mut command)?;
        let mut again = Tally::default();
        follow(&mut again, &mut command)?;
        run.passed_again(&again);
    }
    tally.add(run);
    for reason in &tools.lacking {
        println!("whole-system tests are skipped: {reason}");
    }
    Ok(())
}

/// Runs `cargo test`, prints and counts what it prints; says whether it ended well.
fn follow(tally: &mut Tally, command: &mut Command) -> anyhow::Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read the output of cargo test")?;
        println!("{line}");
        tally.read(&line);
    }
    Ok(child.wait()?.success())
}

fn summary(tally: &Tally) -> anyhow::Result<()> {
    heading("summary");
    for name in &tally.failures {
        println!("FAILED   {name}");
    }
    for name in &tally.flaky {
        println!("FLAKY    {name}: failed once, and passed when it was run again");
    }
    for (name, reason) in &tally.skips {
        println!("skipped  {name}: {reason}");
    }
    // Readers of logs look for this line alone.
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    if tally.failed > 0 {
        bail!("{} failed", tally.failed);
    }
    if tally.skipped > 0 && skips_fail() {
        bail!("{} skipped, which is a failure with CI=true or EASTWEST_NO_SKIP=1", tally.skipped);
    }
    Ok(())
}

fn skips_fail() -> bool {
    let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    set("CI", "true") || set("EASTWEST_NO_SKIP", "1")
}
