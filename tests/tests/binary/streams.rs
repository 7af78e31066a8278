//! Who may open an xDS stream, and what becomes of one.

use eastwest_proto::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    type_url::{CLUSTER, LISTENER, ROUTE},
};
use eastwest_tests::bookshop::{CATALOG, Member, PAYMENTS, STOREFRONT};
use tonic::{Code, transport::Channel};

use crate::harness::{
    Bench, Server,
    clients::{plain, soon, svid, tls},
    xds::{First, Stream, VARIANTS, Variant, node, node_of, refusal},
};

fn first(node: Node) -> First<'static> {
    First { node: Some(node), type_url: CLUSTER, ..First::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_gets_its_configuration_by_plaintext_by_token_and_by_certificate() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let token = bench.token("bookshop/storefront");
    let held = svid(&bench, &server, "bookshop/storefront").await;
    for variant in VARIANTS {
        let ways = [
            (plain(server.grpc), None),
            (tls(server.tls, &bench.root(), None).await.unwrap(), Some(token.as_str())),
            (tls(server.tls, &bench.root(), Some(&held)).await.unwrap(), None),
        ];
        let mut warm = Vec::new();
        for (channel, token) in ways {
            let mut stream =
                Stream::open(channel, variant, First { token, ..first(node(&STOREFRONT)) }).await.unwrap();
            warm.push(stream.warm_up().await);
        }
        for other in &warm[1..] {
            assert_eq!(warm[0].clusters.resources, other.clusters.resources);
            assert_eq!(warm[0].endpoints.resources, other.endpoints.resources);
            assert_eq!(warm[0].listeners.resources, other.listeners.resources);
            assert_eq!(warm[0].routes.resources, other.routes.resources);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_page_names_node_and_proven_identity() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let held = svid(&bench, &server, "bookshop/storefront").await;
    let channel = tls(server.tls, &bench.root(), Some(&held)).await.unwrap();
    let mut stream = Stream::open(channel, Variant::Delta, first(node(&STOREFRONT))).await.unwrap();
    stream.warm_up().await;
    let connections = server.until("/debug/syncz", |page| {
        let types = page[0]["types"].as_array().map(Vec::as_slice).unwrap_or_default();
        types.len() == 4 && types.iter().all(|one| one["state"] == "SYNCED")
    });
    assert_eq!(connections[0]["node"], node(&STOREFRONT).id);
    assert_eq!(connections[0]["identity"], STOREFRONT.spiffe_id());
    drop(stream);
    server.until("/debug/syncz", |page| page.as_array().is_some_and(Vec::is_empty));
}

/// POLICY.md L9: nothing says that the second address is redirected.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_a_pod_that_its_proxy_does_not_report_is_warned_of() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    // This client acknowledges nothing that changes, so its state is not what this is about.
    let status = || bench.run(&["status", "--server", &server.url()]).out;
    let _stream = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    assert!(!status().contains("does not report"), "{}", status());
    let one = format!("- ip: {}", STOREFRONT.address);
    bench.edit("storefront.yaml", &one, &format!("{one}\n    - ip: fd77::10"));
    server.until("/debug/syncz", |page| page[0]["uncovered"] == serde_json::json!(["fd77::10"]));
    let said = status();
    let warning = "warning: storefront-0.bookshop has fd77::10, which its proxy does not report";
    assert!(said.contains(warning) && said.contains("in plaintext, also under STRICT"), "{said}");
}

/// All clients here have the identity of the storefront.
async fn storefront(bench: &Bench, server: &Server, by_token: bool) -> (Channel, Option<String>) {
    if by_token {
        let channel = tls(server.tls, &bench.root(), None).await.unwrap();
        return (channel, Some(bench.token("bookshop/storefront")));
    }
    let held = svid(bench, server, "bookshop/storefront").await;
    (tls(server.tls, &bench.root(), Some(&held)).await.unwrap(), None)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_gets_the_configuration_of_another() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let id = |member: &Member| node(member).id;
    let claims = [
        ("all of another pod", node(&PAYMENTS), "NAMESPACE"),
        ("a pod of another namespace", node_of(&id(&PAYMENTS), "bookshop", "storefront"), "NAMESPACE"),
        ("another namespace", node_of(&id(&STOREFRONT), "payments", "storefront"), "NAMESPACE"),
        ("another service account", node_of(&id(&STOREFRONT), "bookshop", "catalog"), "SERVICE_ACCOUNT"),
        ("a pod of another service account", node_of(&id(&CATALOG), "bookshop", "storefront"), "catalog"),
        ("another pod, claiming no account", node_of(&id(&CATALOG), "bookshop", ""), "catalog"),
    ];
    for by_token in [true, false] {
        let (channel, token) = storefront(&bench, &server, by_token).await;
        for variant in VARIANTS {
            for (claim, node, words) in &claims {
                let first = First { token: token.as_deref(), ..first(node.clone()) };
                let refused = refusal(channel.clone(), variant, first).await;
                assert_eq!(refused.code(), Code::PermissionDenied, "{claim}: {refused}");
                assert!(refused.message().contains(words), "{claim}: {refused}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tls_port_refuses_unauthenticated_peers() {
    let (bench, stranger) = (Bench::new(), Bench::new());
    let server = bench.serve(&[]);
    stranger.run(&["ca", "init"]).success();
    let foreign = stranger.token("bookshop/storefront");
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    for variant in VARIANTS {
        for token in [None, Some("nonsense"), Some(foreign.as_str())] {
            let first = First { token, ..first(node(&STOREFRONT)) };
            let refused = refusal(channel.clone(), variant, first).await;
            assert_eq!(refused.code(), Code::Unauthenticated, "{token:?}: {refused}");
        }
    }
}

/// A stranger makes the server keep nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_refused_before_it_sends_a_request() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let silent = tokio_stream::pending::<DiscoveryRequest>();
    let refused = match soon(client.stream_aggregated_resources(silent)).await {
        Ok(stream) => soon(stream.into_inner().message()).await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_node_is_refused_with_the_wrong_part() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let mangled = [
        "",
        "storefront-0",
        "sidecar~10.77.0.10~storefront-0.bookshop",
        "car~10.77.0.10~storefront-0.bookshop~bookshop.svc.cluster.local",
        "sidecar~here~storefront-0.bookshop~bookshop.svc.cluster.local",
        "sidecar~10.77.0.10~storefront-0~bookshop.svc.cluster.local",
        "sidecar~10.77.0.10~.~bookshop.svc.cluster.local",
        "sidecar~10.77.0.10~storefront-0.BOOK/SHOP~bookshop.svc.cluster.local",
    ];
    for variant in VARIANTS {
        for id in mangled {
            let refused =
                refusal(plain(server.grpc), variant, first(Node { id: id.to_owned(), ..Node::default() }))
                    .await;
            assert_eq!(refused.code(), Code::InvalidArgument, "{id:?}: {refused}");
            assert!(refused.message().contains("node.id"), "{id:?}: {refused}");
        }
        let nobody = First { type_url: CLUSTER, ..First::default() };
        let refused = refusal(plain(server.grpc), variant, nobody).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("node"), "{refused}");
    }
    assert_eq!(server.page("/readyz").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_whose_role_is_not_served_is_refused_by_the_name_of_its_role() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (channel, token) = storefront(&bench, &server, true).await;
    for variant in VARIANTS {
        for role in ["router", "waypoint", "ztunnel", "agentgateway"] {
            let id = node(&STOREFRONT).id.replacen("sidecar", role, 1);
            let words = format!("a proxy of type {role} is not served; the types served are: sidecar");
            for (channel, token) in [(plain(server.grpc), None), (channel.clone(), token.as_deref())] {
                let first = First { token, ..first(node_of(&id, "bookshop", "storefront")) };
                let refused = refusal(channel, variant, first).await;
                assert_eq!(refused.code(), Code::InvalidArgument, "{variant:?} {role}: {refused}");
                assert!(refused.message().contains(&words), "{variant:?} {role}: {refused}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_type_is_refused_and_an_unknown_one_is_ignored() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for variant in VARIANTS {
        let refused =
            refusal(plain(server.grpc), variant, First { type_url: "", ..first(node(&STOREFRONT)) }).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("type_url"), "{refused}");

        let unknown = "type.googleapis.com/istio.extensions.Nothing";
        let first = First { type_url: unknown, ..first(node(&STOREFRONT)) };
        let mut stream = Stream::open(plain(server.grpc), variant, first).await.unwrap();
        stream.ask(LISTENER, &[]);
        assert_eq!(stream.accept().await.type_url, LISTENER, "the stream lives on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_response_is_shown_and_not_repeated() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for variant in VARIANTS {
        let mut stream = Stream::open(plain(server.grpc), variant, first(node(&STOREFRONT))).await.unwrap();
        let clusters = stream.reject("no such filter").await;
        assert_eq!(clusters.type_url, CLUSTER);
        let error = |page: &serde_json::Value| page.to_string().contains("no such filter");
        let page = server.until("/debug/syncz", error);
        assert_eq!(page[0]["types"][0]["state"], "ERROR", "{page:#}");
        stream.ask(LISTENER, &[]);
        assert_eq!(stream.accept().await.type_url, LISTENER, "next is not the refused content again");
        stream.fetch(ROUTE, &["80".to_owned()]).await;
        drop(stream);
        server.until("/debug/syncz", |page| page.as_array().is_some_and(Vec::is_empty));
    }
    let (_, metrics) = server.page("/metrics");
    assert!(metrics.contains("pilot_total_xds_rejects 2\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_node_are_independent() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (first, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    let (mut second, _) = Stream::warm(&server, Variant::StateOfTheWorld, &STOREFRONT).await;
    drop(first);
    server.until("/debug/syncz", |page| page.as_array().is_some_and(|open| open.len() == 1));
    bench.edit("orders.yaml", "status: \"True\"", "status: \"False\"");
    assert!(!second.accept().await.resources.is_empty(), "the other goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_stream_ends_with_ok() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for variant in VARIANTS {
        let (mut stream, _) = Stream::warm(&server, variant, &STOREFRONT).await;
        stream.half_close();
        assert_eq!(stream.next().await.unwrap(), None, "OK");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_manifest_is_served_by_its_own_claims() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let member = Member { pod: "storefront-7", address: "10.77.0.17", ..STOREFRONT };
    for variant in VARIANTS {
        let (_, warm) = Stream::warm(&server, variant, &member).await;
        assert!(warm.clusters.names().contains(&"outbound|80||payments.payments.svc.cluster.local"));
        assert!(warm.listeners.names().contains(&"virtualInbound"));
    }
}
