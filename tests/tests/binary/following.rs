//! The directory changes while streams are open: affected proxies get the change, all others get nothing.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use eastwest_proto::{
    eastwest::v1::WorkloadTls,
    type_url::{CLUSTER, ENDPOINT, LISTENER, WORKLOAD_TLS},
};
use eastwest_tests::bookshop::{CATALOG, PAYMENTS, STOREFRONT};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{
    Bench, Server,
    clients::{certify, plain, tls},
    xds::{First, Received, Stream, VARIANTS, Variant, endpoints, node, refusal},
};

const ORDERS: [&str; 2] =
    ["outbound|5000||orders.bookshop.svc.cluster.local", "outbound|80||orders.bookshop.svc.cluster.local"];

/// All other resources that these streams get until each has seen orders-0 become unready and ready again. Everything that
/// changed in the directory before has been published then.
async fn besides(bench: &Bench, streams: &mut [&mut Stream]) -> Vec<Received> {
    let mut besides = Vec::new();
    for ready in [false, true] {
        let [was, is] = [!ready, ready].map(|one| if one { "\"True\"" } else { "\"False\"" });
        bench.edit("orders.yaml", &format!("status: {was}"), &format!("status: {is}"));
        for stream in &mut *streams {
            loop {
                let received = stream.accept().await;
                let told = received.resources.contains_key(ORDERS[0])
                    && received.type_url == ENDPOINT
                    && endpoints(&received, ORDERS[0]).is_empty() != ready;
                if told {
                    assert_eq!(received.names(), ORDERS, "the assignments of that pod alone");
                    break;
                }
                besides.push(received);
            }
        }
    }
    besides
}

/// `policies.yaml` with another mode for the namespace payments.
fn payments_mode(bench: &Bench, from: &str, to: &str) {
    let policy =
        "  namespace: payments\n  creationTimestamp: \"2026-01-12T09:00:00Z\"\nspec:\n  mtls:\n    mode: ";
    bench.edit("policies.yaml", &format!("{policy}{from}"), &format!("{policy}{to}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_one_namespace_costs_one_listener_there_and_nothing_elsewhere() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut payments, before) = Stream::warm(&server, Variant::Delta, &PAYMENTS).await;
    let (mut delta, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    let (mut world, _) = Stream::warm(&server, Variant::StateOfTheWorld, &STOREFRONT).await;
    let mut versions = vec![before.listeners.version_of("virtualInbound").to_owned()];
    for (from, to) in [("STRICT", "PERMISSIVE"), ("PERMISSIVE", "STRICT")] {
        payments_mode(&bench, from, to);
        let change = payments.accept().await;
        assert_eq!((change.type_url.as_str(), change.names()), (LISTENER, vec!["virtualInbound"]));
        assert!(change.removed.is_empty());
        versions.push(change.version_of("virtualInbound").to_owned());
    }
    assert_ne!(versions[0], versions[1]);
    assert_eq!(versions[0], versions[2], "the same content again");
    assert_eq!(besides(&bench, &mut [&mut payments, &mut delta, &mut world]).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_the_mesh_costs_each_proxy_its_own_listener() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut storefront, before) = Stream::warm(&server, Variant::StateOfTheWorld, &STOREFRONT).await;
    let (mut payments, _) = Stream::warm(&server, Variant::Delta, &PAYMENTS).await;
    bench.edit("policies.yaml", "    mode: PERMISSIVE", "    mode: STRICT");
    let change = storefront.accept().await;
    assert_eq!(change.type_url, LISTENER);
    assert_eq!(change.names(), before.listeners.names(), "in state of the world always all of them");
    let differs = |name: &&&str| change.resources[**name] != before.listeners.resources[**name];
    assert_eq!(change.names().iter().filter(differs).collect::<Vec<_>>(), [&"virtualInbound"]);
    assert_eq!(
        besides(&bench, &mut [&mut storefront, &mut payments]).await,
        [],
        "payments has its own policy"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_not_ready_leaves_the_assignments_it_was_in() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let all = "outbound|80||catalog.bookshop.svc.cluster.local";
    let next = "outbound|80|next|catalog.bookshop.svc.cluster.local";
    for variant in VARIANTS {
        let (mut stream, _) = Stream::warm(&server, variant, &STOREFRONT).await;
        let text = fs::read_to_string(bench.manifests.dir().join("catalog.yaml")).unwrap();
        let end = text.rfind("status: \"True\"").unwrap();
        bench.write("catalog.yaml", &format!("{}status: \"False\"\n", &text[..end]));
        let change = stream.accept().await;
        assert_eq!(change.type_url, ENDPOINT);
        assert_eq!(change.names(), [next, all], "the subset `current` is as it was");
        assert_eq!(endpoints(&change, all), ["10.77.0.20:8080"]);
        assert!(endpoints(&change, next).is_empty(), "empty, for Envoy keeps what is removed");
        bench.write("catalog.yaml", &text);
        assert_eq!(endpoints(&stream.accept().await, next), ["10.77.0.21:8080"]);
        assert_eq!(besides(&bench, &mut [&mut stream]).await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_changes_no_setting_updates_no_proxy() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut storefront, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    let (mut payments, _) = Stream::warm(&server, Variant::StateOfTheWorld, &PAYMENTS).await;
    for file in ["policies.yaml", "payments.yaml", "storefront.yaml"] {
        let text = fs::read_to_string(bench.manifests.dir().join(file)).unwrap();
        bench.write(
            file,
            &format!("# Nothing new.\n{}", text.replace("bookshop/payments:v1", "bookshop/payments:v2")),
        );
    }
    bench
        .write("note.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: note, namespace: bookshop}\n");
    assert_eq!(besides(&bench, &mut [&mut storefront, &mut payments]).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_moves_says_nothing_new() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut stream, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    let dir = bench.manifests.dir();
    fs::create_dir(dir.join("more")).unwrap();
    for file in ["payments.yaml", "policies.yaml"] {
        fs::rename(dir.join(file), dir.join("more").join(file)).unwrap();
        // As `cp` does: from now on each object is there twice.
        fs::copy(dir.join("catalog.yaml"), dir.join("more").join(format!("catalog-and-{file}"))).unwrap();
    }
    assert_eq!(besides(&bench, &mut [&mut stream]).await, []);
    assert_eq!(server.json("/debug/config_errors"), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_vanishes_and_returns_loses_nothing() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut stream, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    let away = bench.path("away");
    fs::rename(bench.manifests.dir(), &away).unwrap();
    server.until("/debug/config_errors", is_not_empty);
    assert_eq!(server.json("/debug/workloads").as_array().unwrap().len(), 7);
    fs::rename(&away, bench.manifests.dir()).unwrap();
    server.until("/debug/config_errors", is_empty);
    assert_eq!(besides(&bench, &mut [&mut stream]).await, []);
}

fn is_empty(page: &Value) -> bool {
    page.as_array().is_some_and(Vec::is_empty)
}

fn is_not_empty(page: &Value) -> bool {
    !is_empty(page)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_is_reported_until_it_is_corrected() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut payments, _) = Stream::warm(&server, Variant::Delta, &PAYMENTS).await;
    let (mut storefront, _) = Stream::warm(&server, Variant::StateOfTheWorld, &STOREFRONT).await;
    let path = bench.manifests.dir().join("policies.yaml");
    let good = fs::read_to_string(&path).unwrap();
    let broken = [
        // Written in place and cut off within a word, as some editors do.
        good.split_at(good.find("TRICT").unwrap()).0.replace("mode: S", "mode: \"S"),
        "kind: [\n".to_owned(),
        "\u{0}".repeat(64),
    ];
    for text in &broken {
        fs::write(&path, text).unwrap();
        let errors = server.until("/debug/config_errors", is_not_empty);
        assert_eq!(errors[0]["file"], "policies.yaml", "{errors:#}");
        assert_eq!(errors[0]["severity"], "error", "{errors:#}");
        let checked = bench.run(&["check", "--server", &server.url()]);
        assert_eq!(checked.code, 1, "{checked:?}");
        assert!(checked.out.contains("policies.yaml"), "{}", checked.out);
        assert_eq!(
            besides(&bench, &mut [&mut payments, &mut storefront]).await,
            [],
            "the last good content stays"
        );
    }
    fs::write(&path, good.replace("mode: STRICT", "mode: PERMISSIVE")).unwrap();
    let healed = payments.accept().await;
    assert_eq!((healed.type_url.as_str(), healed.names()), (LISTENER, vec!["virtualInbound"]));
    server.until("/debug/config_errors", is_empty);
    bench.run(&["check", "--server", &server.url()]).success();
    assert_eq!(server.output().matches("ready grpc=").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_refused_takes_no_other_with_it() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut payments, _) = Stream::warm(&server, Variant::Delta, &PAYMENTS).await;
    bench.edit("policies.yaml", "    mode: PERMISSIVE", "    mode: SOMETIMES");
    let errors = server.until("/debug/config_errors", is_not_empty);
    assert_eq!(errors.as_array().unwrap().len(), 1, "{errors:#}");
    assert_eq!(errors[0]["object"], "PeerAuthentication/istio-system/default");
    assert_eq!(errors[0]["field"], "spec.mtls.mode");
    // The same file is still followed.
    payments_mode(&bench, "STRICT", "PERMISSIVE");
    assert_eq!(payments.accept().await.names(), ["virtualInbound"]);
    let log = server.output();
    assert!(log.contains("SOMETIMES") && log.contains("PeerAuthentication/istio-system/default"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_takes_its_objects_with_it() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let clusters = [
        "outbound|7000||warehouse.warehouse.svc.cluster.local",
        "outbound|80||warehouse.warehouse.svc.cluster.local",
    ];
    for variant in VARIANTS {
        let (mut stream, before) = Stream::warm(&server, variant, &STOREFRONT).await;
        let text = fs::read_to_string(bench.manifests.dir().join("warehouse.yaml")).unwrap();
        bench.remove("warehouse.yaml");
        let gone = until(&mut stream, |received| received.type_url == CLUSTER).await;
        match variant {
            Variant::StateOfTheWorld => {
                let kept = |name: &&str| !clusters.contains(name);
                let rest: Vec<_> = before.clusters.names().into_iter().filter(kept).collect();
                assert_eq!(gone.names(), rest);
            }
            Variant::Delta => {
                assert!(gone.names().is_empty());
                assert_eq!(gone.removed, clusters);
            }
        }
        let unknown = bench.run(&["tls", "warehouse/warehouse-0", "--server", &server.url()]);
        unknown.failure(2, &["warehouse/warehouse-0"]);

        bench.write("warehouse.yaml", &text);
        let back = until(&mut stream, |received| {
            received.type_url == CLUSTER && received.resources.contains_key(clusters[0])
        })
        .await;
        for cluster in clusters {
            assert_eq!(back.resources[cluster], before.clusters.resources[cluster], "the same as ever");
        }
    }
}

/// Accepts responses until one fulfils the condition, and returns it.
async fn until(stream: &mut Stream, wanted: impl Fn(&Received) -> bool) -> Received {
    loop {
        let received = stream.accept().await;
        if wanted(&received) {
            return received;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_service_is_offered_with_its_endpoints() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut stream, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    let orders = fs::read_to_string(bench.manifests.dir().join("orders.yaml")).unwrap();
    let reviews = orders
        .replace("orders", "reviews")
        .replace("10.96.1.30", "10.96.1.70")
        .replace("10.77.0.30", "10.77.0.70");
    bench.write("reviews.yaml", &reviews);
    let clusters = stream.accept().await;
    let added = [
        "outbound|5000||reviews.bookshop.svc.cluster.local",
        "outbound|80||reviews.bookshop.svc.cluster.local",
    ];
    assert_eq!((clusters.type_url.as_str(), clusters.names()), (CLUSTER, added.to_vec()), "clusters first");
    stream.ask(ENDPOINT, &added.map(str::to_owned));
    let assigned = until(&mut stream, |received| received.type_url == ENDPOINT).await;
    assert_eq!(endpoints(&assigned, added[1]), ["10.77.0.70:8080"]);
}

/// What Kubernetes makes of a mounted ConfigMap: files are links into `..data`, which is a link to a folder that is
/// swapped whole.
struct Mount(PathBuf);

impl Mount {
    fn new(dir: PathBuf, from: &Path) -> Self {
        fs::create_dir(&dir).unwrap();
        let mount = Self(dir);
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            symlink(Path::new("..data").join(&name), mount.0.join(&name)).unwrap();
        }
        mount.swap("..2026_01", from);
        mount
    }

    fn swap(&self, version: &str, from: &Path) {
        let before = fs::read_link(self.0.join("..data"));
        let folder = self.0.join(version);
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        symlink(version, self.0.join("..data_tmp")).unwrap();
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
        if let Ok(before) = before {
            fs::remove_dir_all(self.0.join(before)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_swap_of_a_mounted_config_map_is_followed() {
    let bench = Bench::new();
    let mount = Mount::new(bench.path("mount"), bench.manifests.dir());
    let server = bench.serve(&["--config-dir", "mount"]);
    assert_eq!(server.json("/debug/workloads").as_array().unwrap().len(), 7, "each object once");
    assert_eq!(server.json("/debug/config_errors"), json!([]));
    let (mut payments, before) = Stream::warm(&server, Variant::Delta, &PAYMENTS).await;
    for (version, from, to) in [("..2026_02", "STRICT", "PERMISSIVE"), ("..2026_03", "PERMISSIVE", "STRICT")]
    {
        payments_mode(&bench, from, to);
        mount.swap(version, bench.manifests.dir());
        let change = payments.accept().await;
        assert_eq!((change.type_url.as_str(), change.names()), (LISTENER, vec!["virtualInbound"]));
        let same = change.version_of("virtualInbound") == before.listeners.version_of("virtualInbound");
        assert_eq!(same, to == "STRICT");
    }
}

fn mesh_config(bench: &Bench, mesh: &str) {
    let mesh: String = mesh.lines().map(|line| format!("    {line}\n")).collect();
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: istio\n  namespace: istio-system\n";
    bench.write("mesh.yaml", &format!("{head}data:\n  mesh: |\n{mesh}"));
}

async fn own_settings(server: &Server) -> (Stream, WorkloadTls) {
    let first = First { node: Some(node(&STOREFRONT)), type_url: WORKLOAD_TLS, ..First::default() };
    let mut stream = Stream::open(plain(server.grpc), Variant::Delta, first).await.unwrap();
    let settings = stream.accept().await.get("bookshop/storefront-0");
    (stream, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_config_decides_the_trust_domain_and_may_change_it() {
    let bench = Bench::new();
    let server = bench.serve(&["--trust-domain", "first.example"]);
    let token = bench.token("bookshop/storefront");
    let (mut stream, settings) = own_settings(&server).await;
    assert_eq!(settings.identity, "spiffe://first.example/ns/bookshop/sa/storefront");
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    certify(channel.clone(), Some(&token), 0).await.unwrap();

    mesh_config(&bench, "trustDomain: second.example");
    let identity = "spiffe://second.example/ns/bookshop/sa/storefront";
    let changed: WorkloadTls = stream.accept().await.get("bookshop/storefront-0");
    assert_eq!(changed.identity, identity);
    let names = changed.outbound.iter().filter_map(|one| one.subject_alt_names.as_ref());
    assert!(names.flat_map(|names| &names.names).all(|name| name.starts_with("spiffe://second.example/")));
    let (svid, _) = certify(channel, Some(&token), 0).await.unwrap();
    let proven = tls(server.tls, &bench.root(), Some(&svid)).await.unwrap();
    let first = First { node: Some(node(&STOREFRONT)), type_url: CLUSTER, ..First::default() };
    let mut proven = Stream::open(proven, Variant::Delta, first).await.unwrap();
    proven.accept().await;
    let connections = server.json("/debug/syncz");
    let identities = connections.as_array().unwrap().iter().map(|one| &one["identity"]);
    assert!(identities.clone().any(|one| one == identity), "{connections:#}");

    bench.remove("mesh.yaml");
    let again: WorkloadTls = stream.accept().await.get("bookshop/storefront-0");
    assert_eq!(again, settings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_config_that_cannot_be_read_keeps_the_one_before() {
    let bench = Bench::new();
    mesh_config(&bench, "trustDomain: shop.example");
    let server = bench.serve(&[]);
    let (_, settings) = own_settings(&server).await;
    assert_eq!(settings.identity, "spiffe://shop.example/ns/bookshop/sa/storefront");
    mesh_config(&bench, "trustDomain: [");
    let errors = server.until("/debug/config_errors", is_not_empty);
    assert_eq!(errors[0]["object"], "ConfigMap/istio-system/istio", "{errors:#}");
    let (_, settings) = own_settings(&server).await;
    assert_eq!(settings.identity, "spiffe://shop.example/ns/bookshop/sa/storefront");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_pod_has_another_service_account() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut catalog, _) = Stream::warm(&server, Variant::Delta, &CATALOG).await;
    let text = fs::read_to_string(bench.manifests.dir().join("catalog.yaml")).unwrap();
    bench.write(
        "catalog.yaml",
        &text.replacen("serviceAccountName: catalog", "serviceAccountName: orders", 1),
    );
    assert_eq!(catalog.error().await.code(), Code::Unavailable);
    let first = First { node: Some(node(&CATALOG)), type_url: CLUSTER, ..First::default() };
    let refused = refusal(plain(server.grpc), Variant::Delta, first).await;
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_pod_is_deleted() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (mut catalog, _) = Stream::warm(&server, Variant::Delta, &CATALOG).await;
    let (mut storefront, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    bench.remove("catalog.yaml");
    assert_eq!(catalog.error().await.code(), Code::Unavailable);
    // The others see that its services are gone, and go on.
    storefront.accept().await;
}
