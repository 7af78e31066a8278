//! `eastwest render`: the resources of a proxy, from a directory and from a server.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::harness::Bench;

const WHO: &str = "payments/payments-0";

#[test]
fn a_directory_and_a_server_render_the_same_bytes_each_time() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for flags in [&[][..], &["-o", "yaml"], &["-o", "table"], &["--type", "lds,cds"]] {
        let render = |source: [&str; 2]| bench.run(&[&["render", WHO], &source[..], flags].concat());
        let found = render(["--config-dir", "manifests"]);
        assert_eq!(found.success(), render(["--config-dir", "manifests"]).success());
        assert_eq!(found.success(), render(["--server", &server.url()]).success(), "{flags:?}");
    }
    let page = server.json(&format!("/debug/config_dump?workload={WHO}"));
    assert_eq!(page, bench.run(&["render", WHO, "--config-dir", "manifests"]).json());
    assert!(server.page("/debug/list").1.contains("/debug/config_dump"));
    assert_eq!(server.page("/debug/config_dump?workload=payments/nobody").0, 404);
    assert_eq!(server.page(&format!("/debug/config_dump?workload={WHO}&types=secrets")).0, 400);
    server.stop();
}

#[test]
fn resources_are_complete_in_order_and_filtered_by_type() {
    let bench = Bench::new();
    let render = |flags: &[&str]| {
        let all = [&["render", WHO, "--config-dir", "manifests"], flags].concat();
        bench.run(&all).json()["resources"].as_array().unwrap().clone()
    };
    let key =
        |one: &Value| (one["type"].as_str().unwrap().to_owned(), one["name"].as_str().unwrap().to_owned());
    let all: Vec<_> = render(&[]).iter().map(key).collect();
    assert!(all.is_sorted(), "{all:?}");
    let types: BTreeSet<_> = all.iter().map(|(of, _)| of.as_str()).collect();
    assert_eq!(types, BTreeSet::from(["cds", "eds", "lds", "rds", "workload"]));
    for wanted in [("cds", "outbound|80||orders.bookshop.svc.cluster.local"), ("lds", "virtualInbound")] {
        assert!(all.contains(&(wanted.0.to_owned(), wanted.1.to_owned())), "{all:?}");
    }
    let some = render(&["--type", "rds", "--type", "eds"]);
    let some: Vec<_> = some.iter().map(key).collect();
    let expected: Vec<_> =
        all.iter().filter(|(of, _)| ["eds", "rds"].contains(&of.as_str())).cloned().collect();
    assert_eq!(some, expected);
    bench
        .run(&["render", WHO, "--config-dir", "manifests", "--type", "secrets"])
        .failure(2, &["--type", "secrets"]);
    bench
        .run(&["render", "payments/nobody", "--config-dir", "manifests"])
        .failure(2, &["payments/nobody", "payments-0"]);
}

/// The state directory holds every secret that there is.
#[test]
fn no_secret_of_the_state_directory_is_shown() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (status, page) = server.page(&format!("/debug/config_dump?workload={WHO}"));
    assert_eq!(status, 200);
    let mut lines = 0;
    for entry in fs::read_dir(bench.state()).unwrap() {
        let Ok(text) = fs::read_to_string(entry.unwrap().path()) else { continue };
        for line in text.lines().filter(|line| line.len() > 30) {
            assert!(!page.contains(line), "a line of the state directory is shown");
            lines += 1;
        }
    }
    assert!(lines > 3 && !page.contains("PRIVATE KEY"), "{lines} lines");
    server.stop();
}
