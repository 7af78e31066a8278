//! `cargo xtask cluster`: a real Kubernetes API with the bookshop in it, until it is stopped.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use crate::{cargo, succeed, target_dir, tools};

/// How long the start and the end may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Start it, and write a kubeconfig file.
    Up,
    /// Stop it, and delete its files.
    Down,
}

/// Starts or stops the cluster in `target/cluster`.
pub(crate) fn run(action: &Action) -> anyhow::Result<()> {
    let dir = target_dir()?.join("cluster");
    match action {
        Action::Up => up(&dir),
        Action::Down => down(&dir),
    }
}

fn up(dir: &Path) -> anyhow::Result<()> {
    if let Some(process) = running(dir) {
        bail!("a cluster is running already (process {process}): cargo xtask cluster down");
    }
    let tools = tools::ensure_for_cluster()?;
    if !tools.lacking.is_empty() {
        bail!("the cluster cannot run here:\n  {}", tools.lacking.join("\n  "));
    }
    succeed(tools::build_eastwest()?)?;
    succeed(cargo(&["build", "--package", "eastwest-tests", "--bins"])?)?;
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    let log = dir.join("cluster.log");
    // A session of its own, so that Ctrl-C in the terminal does not end it.
    let mut start = Command::new("setsid");
    start.arg(target_dir()?.join("debug/cluster")).arg(dir);
    tools.tell(&mut start)?;
    let out = fs::File::create(&log)?;
    let mut child = start
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("cannot start the cluster")?;
    println!("starting etcd, kube-apiserver and kube-controller-manager ...");
    let text = wait(|| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        match text.find("cluster ready\n") {
            Some(at) => Ok(Some(text[at..].to_owned())),
            None if child.try_wait()?.is_some() => bail!("it ended:\n{text}"),
            None => Ok(None),
        }
    })?;
    print!("{text}");
    Ok(())
}

fn down(dir: &Path) -> anyhow::Result<()> {
    let Some(process) = running(dir) else {
        println!("no cluster is running");
        return Ok(());
    };
    succeed({
        let mut kill = Command::new("kill");
        kill.arg(process.to_string());
        kill
    })?;
    wait(|| Ok(running(dir).is_none().then_some(())))?;
    fs::remove_dir_all(dir)?;
    println!("stopped");
    Ok(())
}

/// The process of the cluster in `dir`, if it runs.
fn running(dir: &Path) -> Option<u32> {
    let process = fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    (name.trim() == "cluster").then_some(process)
}

fn wait<T>(mut condition: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("it took longer than {} s", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(100));
    }
}
