//! Redirection of a pod's traffic through its sidecar, over IPv4 and IPv6 alike (ENVOY.md E1).

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::netns::Namespace;

/// User and group of the agent and of Envoy, whose own traffic is left alone.
pub const SIDECAR_ID: u32 = 1337;

/// The order of the rules for outbound traffic is what makes them work:
/// 1. what Envoy sends to the application comes from SOURCE;
/// 2. an application that calls its own Service comes in like any other caller;
/// 3. others talk on the loopback interface undisturbed;
/// 4. Envoy and the agent reach the world directly;
/// 5. LOOPBACK is this pod.
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
-A OUT -o lo -s SOURCE -j RETURN
-A OUT -o lo ! -d LOOPBACK -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j IN_REDIRECT
-A OUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A OUT -m owner --uid-owner 1337 -j RETURN
-A OUT -o lo ! -d LOOPBACK -p tcp ! --dport 15008 -m owner --gid-owner 1337 -j IN_REDIRECT
-A OUT -o lo -m owner ! --gid-owner 1337 -j RETURN
-A OUT -m owner --gid-owner 1337 -j RETURN
-A OUT -d LOOPBACK -j RETURN
-A OUT -j OUT_REDIRECT
COMMIT
";

/// Sends the TCP traffic of a pod through the ports of its sidecar.
pub fn redirect(pod: &Namespace) -> Result<()> {
    restore(pod, "iptables-restore", "127.0.0.6/32", "127.0.0.1/32")?;
    // Without the address no socket binds it; all of 127.0.0.0/8 is there anyway.
    pod.ip(&["addr", "add", "::6/128", "dev", "lo"])?;
    restore(pod, "ip6tables-restore", "::6/128", "::1/128")
}

fn restore(pod: &Namespace, program: &str, source: &str, loopback: &str) -> Result<()> {
    let rules = RULES.replace("SOURCE", source).replace("LOOPBACK", loopback);
    let mut restore = pod.command(program);
    restore.args(["--wait"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = restore.spawn().with_context(|| format!("cannot run {program}"))?;
    let mut stdin = child.stdin.take().with_context(|| format!("{program} has no input"))?;
    stdin.write_all(rules.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
