//! `eastwest launch`: becomes a command that ends with its parent. `eastwest agent` starts its command by it.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, ensure};
use clap::Args;
use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};

use super::Result;

/// Arguments of `launch`.
#[derive(Debug, Args)]
pub(super) struct LaunchArgs {
    /// Process that has started this one.
    parent: i32,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl LaunchArgs {
    /// Does not return unless it fails.
    pub(super) fn run(self) -> Result {
        prctl::set_pdeathsig(Signal::SIGTERM).context("cannot ask to end with the agent")?;
        ensure_parent(self.parent)?;
        let [program, arguments @ ..] = &self.command[..] else { unreachable!("clap requires it") };
        let failed = Command::new(program).args(arguments).exec();
        Err(anyhow::Error::new(failed).context(format!("cannot start {}", program.display())).into())
    }
}

/// The parent may have ended before the kernel was asked.
fn ensure_parent(parent: i32) -> anyhow::Result<()> {
    ensure!(getppid().as_raw() == parent, "the agent that started this has ended");
    Ok(())
}
