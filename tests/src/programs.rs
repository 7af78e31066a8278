//! Where the programs under test are.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, Result, bail};

/// The built `eastwest`: `EASTWEST_BIN`, else in the folder cargo built this program into.
pub fn eastwest() -> Result<PathBuf> {
    reachable(&given_or_built("EASTWEST_BIN", "eastwest", "cargo build --package eastwest")?)
}

/// Stock Envoy: `EASTWEST_ENVOY`, else `target/tools/envoy`.
pub fn envoy() -> Result<PathBuf> {
    if let Some(given) = env::var_os("EASTWEST_ENVOY") {
        return reachable(Path::new(&given));
    }
    let path = build_dir()?.join("../tools/envoy");
    if !path.is_file() {
        bail!("{} is missing: cargo xtask tools", path.display());
    }
    reachable(&path)
}

/// Where Python finds the SPIFFE client library: `EASTWEST_SPIFFE_PYTHON`, else `target/tools/spiffe-python`.
pub fn spiffe_for_python() -> Result<PathBuf> {
    let given = env::var_os("EASTWEST_SPIFFE_PYTHON").map(PathBuf::from);
    let path =
        given.map_or_else(|| Ok::<_, anyhow::Error>(build_dir()?.join("../tools/spiffe-python")), Ok)?;
    if !path.join("spiffe").is_dir() {
        bail!("{} is missing: cargo xtask tools", path.display());
    }
    Ok(path)
}

/// etcd and kube-apiserver in one: `EASTWEST_KUBERNETES`, else `target/tools/kubernetes`.
pub fn kubernetes() -> Result<PathBuf> {
    given_or_built("EASTWEST_KUBERNETES", "../tools/kubernetes", "cargo xtask tools")
}

/// kubectl: `EASTWEST_KUBECTL`, else `target/tools/kubectl`.
pub fn kubectl() -> Result<PathBuf> {
    given_or_built("EASTWEST_KUBECTL", "../tools/kubectl", "cargo xtask tools")
}

/// Istio's client of the CA: `EASTWEST_ISTIO_CLIENT`, else `target/tools/istio-client`.
pub fn istio_client() -> Result<PathBuf> {
    given_or_built("EASTWEST_ISTIO_CLIENT", "../tools/istio-client", "cargo xtask tools")
}

/// istioctl: `EASTWEST_ISTIOCTL`, else `target/tools/istioctl`.
pub fn istioctl() -> Result<PathBuf> {
    given_or_built("EASTWEST_ISTIOCTL", "../tools/istioctl", "cargo xtask tools")
}

/// Istio's CustomResourceDefinitions: `EASTWEST_ISTIO_DEFINITIONS`, else `target/tools/istio-definitions.yaml`.
pub fn istio_definitions() -> Result<PathBuf> {
    given_or_built("EASTWEST_ISTIO_DEFINITIONS", "../tools/istio-definitions.yaml", "cargo xtask tools")
}

/// The servers and clients of [`crate::app`].
pub fn testapp() -> Result<PathBuf> {
    reachable(&given_or_built("EASTWEST_TESTAPP", "testapp", "cargo build --package eastwest-tests --bins")?)
}

fn given_or_built(variable: &str, name: &str, remedy: &str) -> Result<PathBuf> {
    let path = match env::var_os(variable) {
        Some(given) => PathBuf::from(given),
        None => build_dir()?.join(name),
    };
    if !path.is_file() {
        bail!("{} is missing: {remedy}", path.display());
    }
    Ok(path)
}

/// `target/debug` or `target/release`: programs lie there, tests in `deps` below it.
fn build_dir() -> Result<PathBuf> {
    let this = env::current_exe().context("where am I?")?;
    let here = this.parent().context("a program lies in a folder")?;
    let nested = here.ends_with("deps") || here.ends_with("examples");
    Ok(if nested { here.join("..") } else { here.to_owned() })
}

/// A path to the program that the sidecar's user can start: itself, or a copy when a folder above
/// it is closed to others, as root's home is.
fn reachable(program: &Path) -> Result<PathBuf> {
    let program = program.canonicalize().with_context(|| format!("{} is missing", program.display()))?;
    let closed = |dir: &&Path| fs::metadata(dir).is_ok_and(|found| found.mode() & 0o001 == 0);
    if program.ancestors().skip(1).find(closed).is_none() {
        return Ok(program);
    }
    let found = fs::metadata(&program)?;
    let changed = found.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
    let name = program.file_name().context("a program has a name")?.to_string_lossy();
    let dir = env::temp_dir().join("eastwest-programs");
    let copy = dir.join(format!("{name}-{changed}-{}", found.len()));
    if !copy.is_file() {
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let draft = tempfile::NamedTempFile::new_in(&dir)?;
        fs::copy(&program, draft.path())?;
        fs::set_permissions(draft.path(), fs::Permissions::from_mode(0o755))?;
        draft.into_temp_path().persist(&copy)?;
    }
    Ok(copy)
}
