//! A world of network namespaces: one with a bridge, and one for each pod around it.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::process::run;

/// Address of the bridge: the pods' gateway, and where the control plane listens.
pub const HUB_ADDRESS: &str = "10.77.0.1";

/// The bridge's IPv6 address.
pub const HUB_ADDRESS_V6: &str = "fd77::1";

/// What names of namespaces begin with; the id of the process that made them follows.
const PREFIX: &str = "eastwest-";

/// Numbers the worlds of this process.
static WORLDS: AtomicU32 = AtomicU32::new(0);

/// A bridge in a namespace of its own, to which pods are connected, and a folder for their files.
///
/// Namespaces keep worlds apart: two of them may have the same addresses. Dropping the world (a
/// panic does) removes the bridge; a world whose process was killed is removed by the next one.
#[derive(Debug)]
pub struct World {
    name: String,
    hub: Namespace,
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl World {
    /// Makes the bridge.
    pub fn new() -> Result<Self> {
        sweep()?;
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        // The sidecars' user walks through it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let hub = Namespace::new(&format!("{name}-hub"))?;
        hub.ip(&["link", "set", "lo", "up"])?;
        hub.ip(&["link", "add", "bridge", "type", "bridge"])?;
        for address in [HUB_ADDRESS, HUB_ADDRESS_V6] {
            hub.add_address(address, "bridge")?;
        }
        hub.ip(&["link", "set", "bridge", "up"])?;
        let path = dir.path().to_owned();
        Ok(Self { name, hub, dir: Some(dir), path })
    }

    /// The namespace of the bridge.
    pub fn hub(&self) -> &Namespace {
        &self.hub
    }

    /// A folder that lives as long as the world; it is kept, and named, when a test
    /// panics or `EASTWEST_KEEP` is set.
    pub fn dir(&self) -> &Path {
        &self.path
    }

    /// A namespace connected to the bridge by a veth pair: `eth0` inside, `port_of(pod)` at the hub.
    /// All other addresses of the families that it has, those of Services too, are routed to the bridge.
    pub fn connect(&self, pod: &str, addresses: &[&str]) -> Result<Namespace> {
        let namespace = Namespace::new(&format!("{}-{pod}", self.name))?;
        let port = port_of(pod);
        let inside = ["type", "veth", "peer", "name", "eth0", "netns", &namespace.name];
        self.hub.ip(&[&["link", "add", &port], &inside[..]].concat())?;
        self.hub.ip(&["link", "set", &port, "master", "bridge", "up"])?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.ip(&["link", "set", "eth0", "up"])?;
        for address in addresses {
            namespace.add_address(address, "eth0")?;
            let gateway = if is_ipv6(address) { HUB_ADDRESS_V6 } else { HUB_ADDRESS };
            namespace.ip(&["route", "replace", "default", "via", gateway])?;
        }
        Ok(namespace)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if (thread::panicking() || env::var_os("EASTWEST_KEEP").is_some())
            && let Some(dir) = self.dir.take()
        {
            eprintln!("logs and files are kept in {}", dir.keep().display());
        }
    }
}

fn is_ipv6(address: &str) -> bool {
    address.contains(':')
}

/// Name of a pod's interface at the hub. Interface names have at most 15 bytes.
pub fn port_of(pod: &str) -> String {
    format!("v-{pod}").chars().take(15).collect()
}

/// A network namespace with a name. Dropping it ends the processes in it and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: &str) -> Result<Self> {
        let mut add = Command::new("ip");
        add.args(["netns", "add", name]);
        run(add).context("network namespaces need root")?;
        Ok(Self { name: name.to_owned() })
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs in this namespace as root.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program.as_ref());
        command
    }

    /// A command that runs in this namespace as user and group `id`, without privileges.
    pub fn command_as(&self, id: u32, program: impl AsRef<Path>) -> Command {
        let mut command = self.command("setpriv");
        command.args([format!("--reuid={id}"), format!("--regid={id}")]);
        command.args(["--clear-groups", "--no-new-privs", "--"]).arg(program.as_ref());
        command
    }

    /// Gives an interface an address, or one more. Nobody looks for duplicates of an IPv6 address, which would take a
    /// second.
    pub fn add_address(&self, address: &str, interface: &str) -> Result<()> {
        match is_ipv6(address) {
            true => self.ip(&["addr", "add", &format!("{address}/64"), "dev", interface, "nodad"]),
            false => self.ip(&["addr", "add", &format!("{address}/24"), "dev", interface]),
        }
    }

    pub(crate) fn ip(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(arguments);
        run(command).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("network namespace {} stays behind: {error:#}", self.name);
        }
    }
}

/// Removes what all worlds of this process have made. For a program that ends without unwinding.
pub fn remove_all() -> Result<()> {
    let ours = format!("{PREFIX}{}-", std::process::id());
    names()?.iter().filter(|name| name.starts_with(&ours)).try_for_each(|name| remove(name))?;
    for entry in fs::read_dir(env::temp_dir())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&ours) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Removes namespaces of processes that are no more.
fn sweep() -> Result<()> {
    for name in names()? {
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            remove(&name)?;
        }
    }
    Ok(())
}

fn names() -> Result<Vec<String>> {
    let mut list = Command::new("ip");
    list.args(["netns", "list"]);
    let text = run(list)?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Ends every process inside, for an agent that is killed leaves its Envoy behind.
fn remove(name: &str) -> Result<()> {
    let mut list = Command::new("ip");
    list.args(["netns", "pids", name]);
    for id in run(list)?.lines() {
        // It may have ended meanwhile.
        let _ = signal::kill(Pid::from_raw(id.trim().parse()?), Signal::SIGKILL);
    }
    let mut delete = Command::new("ip");
    delete.args(["netns", "del", name]);
    run(delete).map(drop)
}
