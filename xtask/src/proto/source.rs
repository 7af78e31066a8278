//! Finds and compiles the .proto files.
//!
//! The text of the xDS API comes from the package `envoy-types`, an optional dependency of this
//! crate that is never compiled: cargo downloads and verifies it like any other crate.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use prost_types::FileDescriptorSet;
use serde::Deserialize;

use super::allow::AllowList;
use crate::cargo;

/// Package that carries the .proto text of Envoy, xDS, googleapis and what they import.
const API_PACKAGE: &str = "envoy-types";

/// Folders of that package that .proto imports are relative to.
const API_ROOTS: [&str; 4] = ["data-plane-api", "xds", "googleapis", "protoc-gen-validate"];

/// Further roots, needed for imports only.
const IMPORT_ROOTS: [&str; 3] = ["cel-spec/proto", "client_model", "opentelemetry-proto"];

/// Compiles every file, in the API and in `own_root`, of a package that the list names, with all
/// imports.
pub(super) fn compile(own_root: &Path, allowed: &AllowList) -> anyhow::Result<FileDescriptorSet> {
    let api = package_dir(API_PACKAGE)?.join("proto");
    let mut roots = vec![own_root.to_owned()];
    roots.extend(API_ROOTS.iter().map(|root| api.join(root)));

    let mut files = Vec::new();
    for root in &roots {
        collect(root, root, allowed, &mut files)?;
    }
    files.sort();
    // Of a file that we write ourselves, the first root has it.
    files.dedup();
    roots.extend(IMPORT_ROOTS.iter().map(|root| api.join(root)));

    let mut compiler = protox::Compiler::new(&roots)?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(&files)?;
    Ok(compiler.file_descriptor_set())
}

/// Adds to `files` the files below `dir` (relative to `root`) whose package is on the list.
fn collect(root: &Path, dir: &Path, allowed: &AllowList, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, allowed, files)?;
        } else if path.extension().is_some_and(|end| end == "proto") {
            let text = fs::read_to_string(&path)?;
            if allowed.has_package(package_of(&text).unwrap_or_default()) {
                files.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    Ok(())
}

/// The package that a .proto text declares.
fn package_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("package ")?.trim().strip_suffix(';'))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

/// Folder of a dependency's sources; cargo fetches them when needed.
fn package_dir(name: &str) -> anyhow::Result<PathBuf> {
    let output = cargo(&["metadata", "--format-version=1", "--features", name])?
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let package = metadata.packages.into_iter().find(|package| package.name == name);
    let package = package.with_context(|| format!("{name} is not a dependency of xtask"))?;
    let dir = package.manifest_path.parent().context("package without folder")?;
    Ok(dir.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_line_is_found() {
        assert_eq!(package_of("// package x;\npackage a.v1;\n"), Some("a.v1"));
        assert_eq!(package_of("message M {}"), None);
    }
}
