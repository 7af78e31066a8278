//! Redirection of a pod's traffic through its sidecar by `eastwest redirect`.

use anyhow::Result;

use crate::{netns::Namespace, process::run, programs};

/// Runs `eastwest redirect` in a pod with these flags; returns what it prints.
///
/// # Errors
/// With the words of `eastwest redirect`.
pub fn redirect_with(pod: &Namespace, flags: &[&str]) -> Result<String> {
    let mut command = pod.command(programs::eastwest()?);
    command.arg("redirect").args(flags);
    run(command)
}
