//! The house rules that a compiler does not hold: layers, pure crates, modules without circles, and a map that names
//! only what exists.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod kinds;
mod modules;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

/// The picture of docs/ARCHITECTURE.md: a crate, its layer, and the crates of ours that it may use.
const LAYERS: &[(&str, u8, &[&str])] = &[
    ("eastwest-proto", 1, &[]),
    ("eastwest-identity", 1, &[]),
    ("eastwest-redirect", 1, &[]),
    ("eastwest-model", 2, &["eastwest-identity"]),
    ("eastwest-manifest", 3, &["eastwest-model"]),
    ("eastwest-testing", 3, &["eastwest-model"]),
    ("eastwest-engine", 3, &["eastwest-model"]),
    ("eastwest-inject", 3, &["eastwest-redirect"]),
    ("eastwest-ca", 2, &["eastwest-identity"]),
    ("eastwest-xds", 2, &["eastwest-proto"]),
    ("eastwest-translate", 4, &["eastwest-engine", "eastwest-model", "eastwest-proto", "eastwest-xds"]),
    ("eastwest-io", 4, &[]),
    ("eastwest-sources", 5, &["eastwest-io", "eastwest-manifest", "eastwest-model"]),
    ("eastwest-ca-server", 5, &["eastwest-ca", "eastwest-identity", "eastwest-io", "eastwest-proto"]),
    ("eastwest-xds-server", 5, &["eastwest-proto", "eastwest-xds"]),
    ("eastwest-kubernetes", 5, &["eastwest-manifest", "eastwest-model"]),
    (
        "eastwest-cluster",
        6,
        &["eastwest-ca", "eastwest-ca-server", "eastwest-identity", "eastwest-kubernetes", "eastwest-model"],
    ),
    (
        "eastwest-agent",
        6,
        &[
            "eastwest-ca",
            "eastwest-identity",
            "eastwest-io",
            "eastwest-proto",
            "eastwest-redirect",
            "eastwest-xds",
            "eastwest-xds-server",
        ],
    ),
    ("eastwest", 7, &["*"]),
    ("eastwest-tests", 8, &["*"]),
    ("xtask", 9, &["eastwest-tests"]),
];

/// The top-level folders that hold crates, from the lowest to the highest. A crate uses crates of its own folder and of
/// folders below.
const FOLDERS: &[&str] = &["proto", "ca", "xds", "agent", "control-plane", "tests", "xtask"];

/// Crates that decide and do no I/O, and what they must not link.
const PURE: &[&str] = &[
    "eastwest-identity",
    "eastwest-redirect",
    "eastwest-model",
    "eastwest-manifest",
    "eastwest-engine",
    "eastwest-inject",
    "eastwest-testing",
    "eastwest-ca",
    "eastwest-xds",
    "eastwest-translate",
];
const IMPURE: &[&str] = &["tokio", "tonic", "kube", "notify", "hyper", "axum", "dashmap", "tracing"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What cargo knows of each crate of the workspace.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Every crate of the workspace with its normal dependencies.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        all.filter(|d| d["kind"].is_null()).map(|d| text(&d["name"])).collect()
    };
    packages().iter().map(|package| (text(&package["name"]), normal(package))).collect()
}

#[test]
fn dependencies_point_down_and_are_in_the_picture() {
    let layers: BTreeMap<_, _> = LAYERS.iter().map(|(name, layer, uses)| (*name, (*layer, *uses))).collect();
    let dependencies = dependencies();
    let drawn: BTreeSet<_> = layers.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        dependencies.keys().cloned().collect::<BTreeSet<_>>(),
        drawn,
        "the picture and the workspace differ"
    );
    for (name, uses) in &dependencies {
        let (layer, allowed) = layers[name.as_str()];
        for (used, (below, _)) in uses.iter().filter_map(|used| layers.get_key_value(used.as_str())) {
            assert!(*below < layer, "{name} (layer {layer}) uses {used} (layer {below})");
            assert!(
                allowed.contains(&"*") || allowed.contains(used),
                "{name} → {used} is not in the picture"
            );
        }
    }
}

/// The folder below the root in which a crate lies, such as `ca` for `ca/server`.
fn top_folder(package: &Value) -> String {
    let manifest = text(&package["manifest_path"]);
    let below = Path::new(&manifest).strip_prefix(root().canonicalize().unwrap()).unwrap().to_owned();
    below.components().next().unwrap().as_os_str().to_str().unwrap().to_owned()
}

/// Dependencies of all kinds count: those of tests and build scripts too.
#[test]
fn a_top_folder_uses_only_folders_below_it() {
    let packages = packages();
    let folders: BTreeMap<_, _> =
        packages.iter().map(|package| (text(&package["name"]), top_folder(package))).collect();
    let height = |folder: &str| {
        let height = FOLDERS.iter().position(|one| *one == folder);
        height.unwrap_or_else(|| panic!("the folder {folder} has no place in FOLDERS"))
    };
    for package in &packages {
        let (name, folder) = (text(&package["name"]), top_folder(package));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = text(&dependency["name"]);
            let Some(below) = folders.get(&used) else { continue };
            assert!(height(below) <= height(&folder), "{name} in {folder}/ uses {used} in {below}/");
        }
    }
}

#[test]
fn pure_crates_link_nothing_that_does_io() {
    let dependencies = dependencies();
    for (name, impure) in PURE.iter().flat_map(|name| IMPURE.iter().map(move |impure| (name, impure))) {
        assert!(!dependencies[*name].contains(*impure), "{name} is pure and must not use {impure}");
    }
}

#[test]
fn no_module_cycles() {
    let circle = |package: &Value| {
        let manifest = text(&package["manifest_path"]);
        let circle = modules::circle(&Path::new(&manifest).with_file_name("src"))?;
        Some(format!("{}: {circle}", text(&package["name"])))
    };
    let circles: Vec<_> = packages().iter().filter_map(circle).collect();
    assert!(circles.is_empty(), "modules use each other in a circle: {circles:#?}");
}

/// The files that docs/ARCHITECTURE.md lists for a new xDS type are all that name one, by the example of routes.
#[test]
fn an_xds_type_is_named_in_three_files() {
    let words = ["TypeUrl::ROUTE", "type_url::ROUTE", "rds::Routes", "\"rds\""];
    let folders = ["xds/src", "xds/server/src", "control-plane/translate/src", "control-plane/src"];
    let named = folders.into_iter().flat_map(|folder| {
        let modules = modules::code(&root().join(folder)).into_iter();
        let named = modules.filter(|(_, code)| words.iter().any(|word| code.contains(word)));
        named.map(move |(module, _)| format!("{folder} {}", module.join("::")))
    });
    let named: BTreeSet<_> = named.collect();
    let expected = [
        "control-plane/translate/src sidecar",
        "control-plane/translate/src sidecar::rds",
        "xds/src type_url",
    ];
    assert_eq!(named, BTreeSet::from(expected.map(str::to_owned)));
}

/// Whatever looks like a path in the map must exist.
#[test]
fn the_map_names_only_what_exists() {
    let map = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let is_path = |text: &&str| text.contains('/') && !text.contains([' ', '<', '|', ':', '*']);
    let paths: Vec<_> = map.split('`').skip(1).step_by(2).filter(is_path).collect();
    assert!(paths.len() > 20, "the map names only {} paths", paths.len());
    let missing: Vec<_> = paths.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md names what does not exist: {missing:?}");
}
