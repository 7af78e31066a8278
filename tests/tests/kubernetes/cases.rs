//! The same objects from the API and from files give the same answers and the same resources.

use std::{fs, path::Path};

use eastwest_engine::{Index, Snapshot, lint, report};
use eastwest_kubernetes::{RESOURCES, load};
use eastwest_manifest::merge::{Merge, SourceId};
use eastwest_model::{Change, MeshConfig, TrustDomain};
use eastwest_tests::{kubernetes::read_manifests, process::until};
use eastwest_translate::render::render;
use serde_json::Value;

use crate::{PATIENCE, cluster::Cluster};

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn all_cases_give_the_same_from_the_api_as_from_files() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let definitions = eastwest_tests::programs::istio_definitions().unwrap();
    cluster.programs().apply(&definitions).unwrap();
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cases/tls"));
    let mut cases: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.push(eastwest_tests::bookshop::manifests());
    cases.sort();
    let (mut compared, mut workloads) = (0, 0);
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let objects = read_manifests(case).unwrap();
        let applied = cluster.apply(&objects);
        workloads += same_from_files(&cluster, &name);
        compared += 1;
        // Without a namespace controller, a namespace would end for ever.
        for path in applied
            .iter()
            .rev()
            .filter(|path| !path.starts_with("/api/v1/namespaces/") || path.matches('/').count() > 4)
        {
            cluster.delete(path);
        }
    }
    assert!(compared > 80 && workloads > 100, "{compared} cases with {workloads} workloads");
}

/// Compares what the API has now with the same objects as files; the number of workloads.
pub(crate) fn same_from_files(cluster: &Cluster, case: &str) -> usize {
    let files = tempfile::tempdir().unwrap();
    write_everything(cluster, files.path());
    compare(case, &world_of_api(cluster), &world_of_files(files.path()))
}

fn defaults() -> MeshConfig {
    MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system")
}

/// All objects of the API, with all their fields, as files.
fn write_everything(cluster: &Cluster, dir: &Path) {
    let mut collections: Vec<_> = RESOURCES
        .iter()
        .map(|resource| {
            let (group, version) = (resource.group, resource.versions[0]);
            let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
            let api_version =
                if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
            (format!("{root}/{version}/{}", resource.plural), api_version, resource.kind)
        })
        .collect();
    for (resource, kind) in [("configmaps", "ConfigMap"), ("secrets", "Secret")] {
        collections.push((format!("/api/v1/{resource}"), "v1".to_owned(), kind));
    }
    for (number, (path, api_version, kind)) in collections.into_iter().enumerate() {
        // The API answers 429 while it opens the storage of a new definition.
        let list = until("a list", PATIENCE, || {
            let (status, list) = cluster.try_ask("GET", &path, None);
            Ok((status == 200).then_some(list))
        });
        let list = list.unwrap();
        for (item, object) in list["items"].as_array().unwrap().iter().enumerate() {
            let mut object = object.clone();
            object["apiVersion"] = api_version.as_str().into();
            object["kind"] = kind.into();
            fs::write(dir.join(format!("{number}-{item}.json")), object.to_string()).unwrap();
        }
    }
}

fn freeze(changes: Vec<Change>) -> std::sync::Arc<Snapshot> {
    let mut index = Index::new(defaults());
    changes.into_iter().for_each(|change| drop(index.apply(change)));
    index.freeze()
}

/// The world, and the objects that are refused, each with the messages.
type World = (std::sync::Arc<Snapshot>, Vec<(String, String)>);

fn world_of_api(cluster: &Cluster) -> World {
    let id = SourceId::new("api");
    let mut merge = Merge::new([id.clone()]);
    let batch = cluster.block_on(load(cluster.api(), &id, defaults(), |_| {})).unwrap();
    let changes = merge.apply(batch).changes;
    let diagnostics = merge.diagnostics().iter();
    let refused = diagnostics.map(|one| (one.object.clone(), one.message.clone())).collect();
    (freeze(changes), refused)
}

fn world_of_files(dir: &Path) -> World {
    let loaded = eastwest_sources::load(dir, &defaults()).unwrap();
    let diagnostics = loaded.diagnostics.iter();
    let refused = diagnostics.map(|one| (one.object.clone(), one.message.clone())).collect();
    (freeze(loaded.changes), refused)
}

/// Compares all answers; returns the number of workloads.
fn compare(case: &str, (api, told): &World, (files, told_of_files): &World) -> usize {
    let sorted = |told: &[(String, String)]| {
        let mut told = told.to_vec();
        told.sort();
        told
    };
    assert_eq!(sorted(told), sorted(told_of_files), "{case}: diagnostics");
    let findings = |snapshot: &Snapshot| -> Vec<_> {
        let all = lint::diagnostics(snapshot);
        let mut all: Vec<_> = all.into_iter().map(|one| (one.object, one.field, one.message)).collect();
        all.sort();
        all
    };
    assert_eq!(findings(api), findings(files), "{case}: findings");
    let keys = |snapshot: &Snapshot| snapshot.workloads().map(|one| one.key()).collect::<Vec<_>>();
    assert_eq!(keys(api), keys(files), "{case}: workloads");
    for workload in keys(api) {
        let json = |snapshot: &Snapshot| -> [Value; 2] {
            let settings = report::workload_tls(snapshot, &workload).unwrap();
            [
                serde_json::to_value(report::tls_report(snapshot, &workload).unwrap()).unwrap(),
                serde_json::to_value(render(&settings, &[], false).unwrap()).unwrap(),
            ]
        };
        assert!(json(api) == json(files), "{case}: {workload}: {:#?} {:#?}", json(api)[0], json(files)[0]);
    }
    keys(api).len()
}
