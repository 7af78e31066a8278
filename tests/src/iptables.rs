//! Redirection of a pod's traffic through its sidecar (ENVOY.md E1).

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::netns::Namespace;

/// User and group of the agent and of Envoy, whose own traffic is left alone.
pub const SIDECAR_ID: u32 = 1337;

/// The order of the rules for outbound traffic is what makes them work:
/// 1. what Envoy sends to the application comes from 127.0.0.6;
/// 2. an application that calls its own Service comes in like any other caller;
/// 3. others talk on the loopback interface undisturbed;
/// 4. Envoy and the agent reach the world directly;
/// 5. 127.0.0.1 is this pod.
const RULES: &str = "\
*nat
:IN - [0:0]
:IN_REDIRECT - [0:0]
:OUT - [0:0]
:OUT_REDIRECT - [0:0]
-A PREROUTING -p tcp -j IN
-A OUTPUT -p tcp -j OUT
-A IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A OUT_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A IN -p tcp -m multiport --dports 15008,15020,15021,15090 -j RETURN
-A IN -p tcp -j IN_REDIRECT
-A OUT -o lo -s 127.0.0.6/32 -j RETURN
-A OUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j IN_REDIRECT
-A OUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A OUT -m owner --uid-owner 1337 -j RETURN
-A OUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j IN_REDIRECT
-A OUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A OUT -m owner --gid-owner 1337 -j RETURN
-A OUT -d 127.0.0.1/32 -j RETURN
-A OUT -j OUT_REDIRECT
COMMIT
";

/// Sends the TCP traffic of a pod through the ports of its sidecar.
pub fn redirect(pod: &Namespace) -> Result<()> {
    let mut restore = pod.command("iptables-restore");
    restore.args(["--wait"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = restore.spawn().context("cannot run iptables-restore")?;
    let mut stdin = child.stdin.take().context("iptables-restore has no input")?;
    stdin.write_all(RULES.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("iptables-restore: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
