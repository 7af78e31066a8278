//! Redirection of a pod's traffic through its sidecar by `eastwest redirect`.

use anyhow::Result;

use crate::{netns::Namespace, process::run, programs};

/// User and group of the agent and of Envoy, whose own traffic is left alone.
pub const SIDECAR_ID: u32 = 1337;

/// Sends the TCP traffic of a pod through the ports of its sidecar, over IPv4 and IPv6 alike.
///
/// # Errors
/// With the words of `eastwest redirect`.
pub fn redirect(pod: &Namespace) -> Result<()> {
    redirect_with(pod, &[]).map(drop)
}

/// Runs `eastwest redirect` in a pod with these flags; returns what it prints.
///
/// # Errors
/// With the words of `eastwest redirect`.
pub fn redirect_with(pod: &Namespace, flags: &[&str]) -> Result<String> {
    let mut command = pod.command(programs::eastwest()?);
    command.arg("redirect").args(flags);
    run(command)
}
