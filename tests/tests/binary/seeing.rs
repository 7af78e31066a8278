//! Where the proxies stand: `status`, `config`, and the same for programs over xDS.

use eastwest_proto::{
    Any,
    envoy::{
        admin::v3::ClustersConfigDump,
        config::{cluster::v3::Cluster, core::v3::Node},
        service::{
            discovery::v3::{
                DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse,
                aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
            },
            status::v3::{
                ClientConfig, ClientStatusRequest, ConfigStatus,
                client_status_discovery_service_client::ClientStatusDiscoveryServiceClient,
            },
        },
        r#type::matcher::v3::{NodeMatcher, StringMatcher, StructMatcher, string_matcher::MatchPattern},
    },
    type_url::{CLUSTER, ROUTE},
};
use eastwest_tests::{bookshop::STOREFRONT, process::Process};
use serde_json::Value;
use tonic::{Code, Status};

use crate::harness::{
    Bench, PATIENCE, Server,
    clients::{bearing, plain, soon, tls},
    xds::{First, Stream, VARIANTS, Variant, node},
};

const CATALOG: &str = "outbound|80||catalog.bookshop.svc.cluster.local";
const NAME: &str = "bookshop/storefront-0";

/// A sidecar whose clusters are refused with the words of stock Envoy.
async fn refusing(server: &Server, variant: Variant) -> Stream {
    let first = First { node: Some(node(&STOREFRONT)), type_url: CLUSTER, ..First::default() };
    let mut stream = Stream::open(plain(server.grpc), variant, first).await.unwrap();
    stream.reject(&format!("Error adding/updating cluster(s) {CATALOG}: no such extension")).await;
    server.until("/debug/syncz", |page| page[0]["types"][0]["state"] == "ERROR");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_who_is_in_sync() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (stream, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    server.until("/debug/syncz", |page| {
        let types = page[0]["types"].as_array().map(Vec::as_slice).unwrap_or_default();
        types.len() == 4 && types.iter().all(|one| one["state"] == "SYNCED")
    });
    let url = server.url();
    let all = bench.run(&["status", "--server", &url]);
    let table = all.success();
    assert!(table.starts_with("NAME"), "{table}");
    assert!(table.contains("storefront-0.bookshop  SYNCED ("), "{table}");
    let one = bench.run(&["status", NAME, "--server", &url]);
    assert!(one.success().contains("RouteConfiguration     SYNCED ("), "{}", one.out);
    let json = bench.run(&["status", NAME, "--server", &url, "-o", "json"]).json();
    assert_eq!((&json[0]["pod"], &json[0]["namespace"]), (&"storefront-0".into(), &"bookshop".into()));
    drop(stream);
    server.until("/debug/syncz", |page| page.as_array().is_some_and(Vec::is_empty));
    assert_eq!(bench.run(&["status", "--server", &url]).success().trim(), "no proxy is connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_names_the_object_behind_what_a_proxy_refused() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let url = server.url();
    for variant in VARIANTS {
        let stream = refusing(&server, variant).await;
        for question in [&["status", "--server", &url][..], &["status", NAME, "--server", &url]] {
            let said = bench.run(question);
            assert_eq!(said.code, 1, "{said:?}");
            for words in [
                "ERROR (",
                "no such extension",
                &format!("resource  {CATALOG}"),
                "from      DestinationRule/bookshop/catalog (policies.yaml:",
            ] {
                assert!(said.out.contains(words), "{words}: {}", said.out);
            }
        }
        drop(stream);
        server.until("/debug/syncz", |page| page.as_array().is_some_and(Vec::is_empty));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_goes_on_with_watch() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let url = server.url();
    let command = bench.command(&["status", "--watch", "--server", &url]);
    let mut watch = Process::spawn("eastwest status", command, &bench.path("watch.log")).unwrap();
    watch.wait_for_line("no proxy is connected", PATIENCE).unwrap();
    let (_stream, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    watch.wait_for_line("storefront-0.bookshop", PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn config_shows_what_a_proxy_may_have_and_has_not_accepted() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let url = server.url();
    for source in [["--config-dir", "manifests"], ["--server", &url]] {
        let tables = bench.run(&[&["config", NAME], &source[..]].concat());
        let text = tables.success().split_whitespace().collect::<Vec<_>>().join(" ");
        for words in [
            "not connected here",
            "SERVICE FQDN",
            "catalog.bookshop.svc.cluster.local 80 next outbound EDS bookshop/catalog",
            "ADDRESSES PORT MATCH DESTINATION",
            "10.96.1.30 5000 ALL Cluster: outbound|5000||orders.bookshop.svc.cluster.local",
            "80 orders.bookshop.svc.cluster.local:80 orders.bookshop.svc.cluster.local:80, orders.bookshop.svc.cluster.local + 8 more... /* outbound|80||orders.bookshop.svc.cluster.local",
            "10.77.0.30:5000 HEALTHY - outbound|5000||orders.bookshop.svc.cluster.local",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let clusters = bench.run(&[&["config", NAME, "cluster", "-o", "json"], &source[..]].concat()).json();
        let types = clusters["resources"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap());
        assert!(types.clone().count() > 3 && types.into_iter().all(|one| one == "cds"), "{clusters:#}");
    }
    let diff = ["config", NAME, "--diff"];
    bench.run(&[&diff[..], &["--config-dir", "manifests"]].concat()).failure(2, &["--diff", "--server"]);
    let asked = [&diff[..], &["--server", &url]].concat();
    bench.run(&asked).failure(2, &["no proxy of bookshop/storefront-0 is connected"]);
    let (stream, _) = Stream::warm(&server, Variant::StateOfTheWorld, &STOREFRONT).await;
    server.until("/debug/syncz", |page| page[0]["types"].as_array().is_some_and(|types| types.len() == 4));
    assert!(bench.run(&asked).success().contains("has accepted everything"));
    let connected = bench.run(&["config", NAME, "--server", &url]);
    assert!(connected.success().contains(&format!("proxy     {}", node(&STOREFRONT).id)));
    drop(stream);
    server.until("/debug/syncz", |page| page.as_array().is_some_and(Vec::is_empty));
    let _stream = refusing(&server, Variant::Delta).await;
    let refused = bench.run(&asked);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.out.contains("1 difference from what the proxy has accepted"), "{}", refused.out);
    let row = refused.out.lines().find(|line| line.contains(CATALOG)).unwrap_or_default();
    assert!(row.contains("refused") && row.contains("DestinationRule/bookshop/catalog"), "{row}");
}

/// The answer to one request for a debug type.
async fn debug(
    server: &Server,
    bench: &Bench,
    account: Option<&str>,
    request: DiscoveryRequest,
) -> Result<DiscoveryResponse, Status> {
    let token = account.map(|account| bench.token(account));
    let channel = match account {
        None => plain(server.grpc),
        Some(_) => tls(server.tls, &bench.root(), None).await.unwrap(),
    };
    let mut stub = AggregatedDiscoveryServiceClient::new(channel);
    let requests = bearing(tokio_stream::iter([request]), token.as_deref());
    let mut answers = soon(stub.stream_aggregated_resources(requests)).await?.into_inner();
    Ok(soon(answers.message()).await?.expect("an answer"))
}

/// As istioctl asks: for itself, with the node of no pod.
fn asking(type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(Node { id: "sidecar~~test-1.istio-system~d".to_owned(), ..Node::default() }),
        type_url: type_url.to_owned(),
        response_nonce: "2026-12-01 00:51:12 of the client".to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_types_are_answered_to_workloads_of_the_root_namespace() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let _proxy = refusing(&server, Variant::Delta).await;
    let operator = Some("istio-system/default");
    let syncz = debug(&server, &bench, operator, asking("istio.io/debug/syncz", &[])).await.unwrap();
    let identifier: Value = serde_json::from_str(&syncz.control_plane.unwrap().identifier).unwrap();
    assert_eq!(identifier["Component"], "eastwest");
    assert_eq!(syncz.resources.len(), 1, "who asks is no proxy");
    let config: ClientConfig = syncz.resources[0].unpack().unwrap();
    assert_eq!(config.node.unwrap().id, node(&STOREFRONT).id);
    let clusters = &config.generic_xds_configs[0];
    assert_eq!((clusters.type_url.as_str(), clusters.config_status()), (CLUSTER, ConfigStatus::Error));
    assert!(clusters.error_state.as_ref().unwrap().details.contains(CATALOG));

    let request = asking("istio.io/debug/config_dump", &["storefront-0.bookshop"]);
    let dump = debug(&server, &bench, operator, request).await.unwrap();
    let clusters = dump.resources.iter().find_map(|one| one.unpack::<ClustersConfigDump>().ok()).unwrap();
    let names = clusters.dynamic_active_clusters.iter().map(|one| one.cluster.as_ref().unwrap());
    let names: Vec<_> = names.map(|one: &Any| one.unpack::<Cluster>().unwrap().name).collect();
    assert!(names.iter().any(|name| name == CATALOG), "{names:?}");
    let unknown = asking("istio.io/debug/config_dump", &["nobody.bookshop"]);
    assert!(debug(&server, &bench, operator, unknown).await.unwrap().resources.is_empty());

    for (account, type_url, code, words) in [
        (None, "istio.io/debug/syncz", Code::Unauthenticated, "istio-system"),
        (Some("bookshop/storefront"), "istio.io/debug/syncz", Code::PermissionDenied, "istio-system"),
        (Some("bookshop/storefront"), "istio.io/debug/config_dump", Code::PermissionDenied, "istio-system"),
        (operator, "istio.io/debug/nothing", Code::InvalidArgument, "istio.io/debug/syncz"),
    ] {
        let refused = debug(&server, &bench, account, asking(type_url, &[])).await.unwrap_err();
        assert_eq!(refused.code(), code, "{account:?}: {refused}");
        assert!(refused.message().contains(words), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_types_are_answered_over_delta_and_again() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    let token = bench.token("istio-system/default");
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    let ask = |nonce: &str| DeltaDiscoveryRequest {
        type_url: "istio.io/debug/syncz".to_owned(),
        response_nonce: nonce.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    sender.send(ask("")).unwrap();
    let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(requests);
    let mut stub = AggregatedDiscoveryServiceClient::new(channel);
    let answers = stub.delta_aggregated_resources(bearing(requests, Some(&token)));
    let mut answers = soon(answers).await.unwrap().into_inner();
    let first = soon(answers.message()).await.unwrap().unwrap();
    assert!(first.resources.is_empty() && first.control_plane.is_some());
    let (_proxy, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    // An ACK is not answered, the next question is.
    sender.send(ask(&first.nonce)).unwrap();
    sender.send(ask("")).unwrap();
    let second = soon(answers.message()).await.unwrap().unwrap();
    assert_eq!(second.resources[0].name, node(&STOREFRONT).id);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_status_service_shows_what_each_client_has() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (_proxy, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    server.until("/debug/syncz", |page| page[0]["types"].as_array().is_some_and(|types| types.len() == 4));
    let fetch = async |account: &str, request: ClientStatusRequest| {
        let channel = tls(server.tls, &bench.root(), None).await.unwrap();
        let mut stub = ClientStatusDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let token = bench.token(account);
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        soon(stub.fetch_client_status(request)).await.map(tonic::Response::into_inner)
    };
    let id = |pattern| NodeMatcher {
        node_id: Some(StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() }),
        ..NodeMatcher::default()
    };
    let all = fetch("istio-system/default", ClientStatusRequest::default()).await.unwrap();
    let configs = &all.config[0].generic_xds_configs;
    let of = |type_url: &str| configs.iter().filter(|one| one.type_url == type_url).collect::<Vec<_>>();
    let catalog = of(CLUSTER).into_iter().find(|one| one.name == CATALOG).unwrap();
    assert_eq!(catalog.config_status(), ConfigStatus::Synced);
    assert_eq!(catalog.xds_config.as_ref().unwrap().unpack::<Cluster>().unwrap().name, CATALOG);
    assert_eq!(of(ROUTE)[0].version_info.len(), 16);

    let contains = id(MatchPattern::Contains("storefront-0".to_owned()));
    let narrow = ClientStatusRequest {
        node_matchers: vec![contains],
        exclude_resource_contents: true,
        ..ClientStatusRequest::default()
    };
    let narrow = fetch("istio-system/default", narrow).await.unwrap();
    assert!(narrow.config[0].generic_xds_configs.iter().all(|one| one.xds_config.is_none()));
    let nobody = vec![id(MatchPattern::Exact("storefront-0".to_owned()))];
    let nobody = ClientStatusRequest { node_matchers: nobody, ..ClientStatusRequest::default() };
    assert!(fetch("istio-system/default", nobody).await.unwrap().config.is_empty());

    let by_metadata =
        NodeMatcher { node_metadatas: vec![StructMatcher::default()], ..NodeMatcher::default() };
    let by_metadata =
        ClientStatusRequest { node_matchers: vec![by_metadata], ..ClientStatusRequest::default() };
    let refused = fetch("istio-system/default", by_metadata).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let refused = fetch("bookshop/storefront", ClientStatusRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}
