//! Streams of both variants over a real connection.
#![allow(missing_docs, clippy::unwrap_used)]

mod peers;

use eastwest_proto::type_url::{CLUSTER, LISTENER};
use eastwest_xds::TypeUrl;
use peers::{Client, Host, VARIANTS, node, soon, view};
use tonic::Code;

#[tokio::test]
async fn x1_both_variants_are_served_and_updated() {
    for variant in VARIANTS {
        let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1"), ("b", "B1")])])).await;
        let mut client = Client::open(&host, variant).await;
        client.ask(CLUSTER, &[]);
        let first = client.get().await;
        assert_eq!(
            (first.type_url.as_str(), first.bodies.clone()),
            (CLUSTER, vec!["A1".into(), "B1".into()])
        );
        client.ack(&first);
        host.publish(view(&[(TypeUrl::CLUSTER, &[("a", "A1"), ("b", "B2")])]));
        let second = client.get().await;
        assert!(second.bodies.contains(&"B2".to_owned()));
        assert_ne!(first.nonce, second.nonce);
        host.publish(view(&[(TypeUrl::CLUSTER, &[("a", "A1")])]));
        let third = client.get().await;
        assert!(third.removed == ["b"] || third.bodies == ["A1"], "{third:?}");
    }
}

#[tokio::test]
async fn x26_an_unchanged_view_sends_nothing() {
    for variant in VARIANTS {
        let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1")]), (TypeUrl::LISTENER, &[])])).await;
        let mut client = Client::open(&host, variant).await;
        client.ask(CLUSTER, &[]);
        client.get().await;
        client.ask(LISTENER, &[]);
        client.get().await;
        for _ in 0..3 {
            host.publish(view(&[(TypeUrl::CLUSTER, &[("a", "A1")]), (TypeUrl::LISTENER, &[])]));
        }
        host.publish(view(&[(TypeUrl::CLUSTER, &[("a", "A1")]), (TypeUrl::LISTENER, &[("l", "L1")])]));
        let next = client.get().await;
        assert_eq!((next.type_url.as_str(), next.bodies), (LISTENER, vec!["L1".to_owned()]));
    }
}

#[tokio::test]
async fn x2_a_malformed_node_is_refused_with_field_and_remedy() {
    for variant in VARIANTS {
        let host = Host::start(view(&[])).await;
        for (bad, expected) in [
            (node("nonsense"), "node.id \"nonsense\": expected type~ip~pod.namespace~domain"),
            (None, "node is missing"),
        ] {
            let mut client = Client::open(&host, variant).await.with_node(bad);
            client.ask(CLUSTER, &[]);
            let status = client.next().await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(expected), "{status}");
        }
        assert!(host.connections.is_empty());
    }
}

#[tokio::test]
async fn x3_the_node_of_the_first_request_stays() {
    for variant in VARIANTS {
        let host =
            Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1")]), (TypeUrl::LISTENER, &[("l", "L1")])]))
                .await;
        let mut client = Client::open(&host, variant).await;
        client.ask(CLUSTER, &[]);
        client.get().await;
        let mut client = client.with_node(node("sidecar~10.0.0.8~safe-0.bank~bank.svc.cluster.local"));
        client.ask(LISTENER, &[]);
        client.get().await;
        let streams = host.connections.list();
        assert_eq!(streams.len(), 1);
        assert!(streams[0].client.node.contains("web-0.shop"), "{}", streams[0].client.node);
    }
}

#[tokio::test]
async fn x4_an_empty_type_url_is_refused() {
    for variant in VARIANTS {
        let host = Host::start(view(&[])).await;
        let mut client = Client::open(&host, variant).await;
        client.ask("", &[]);
        assert_eq!(client.next().await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn x9_an_unknown_type_closes_nothing() {
    for variant in VARIANTS {
        let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1")])])).await;
        let mut client = Client::open(&host, variant).await;
        client.ask("type.googleapis.com/never.heard.Of", &["x"]);
        client.ask(CLUSTER, &[]);
        assert_eq!(client.get().await.bodies, ["A1"]);
        let types = &host.connections.list()[0].types;
        assert_eq!(types[1].state, "NOT SENT");
    }
}

#[tokio::test]
async fn x11_a_nack_is_kept_for_status_and_counted() {
    for variant in VARIANTS {
        let host = Host::start(view(&[(TypeUrl::LISTENER, &[("l", "L1")]), (TypeUrl::CLUSTER, &[])])).await;
        let mut client = Client::open(&host, variant).await;
        client.ask(LISTENER, &[]);
        let received = client.get().await;
        client.nack(&received, "Error adding/updating listener(s) l: no such filter");
        // Requests are taken in order: once this one is answered, so is the NACK.
        client.ask(CLUSTER, &[]);
        client.get().await;
        let connection = &host.connections.list()[0];
        assert!(connection.client.node.starts_with("sidecar~10.0.0.7~"));
        let listeners = connection.types.iter().find(|status| status.type_url == LISTENER).unwrap();
        assert_eq!((listeners.state, listeners.rejects), ("ERROR", 1));
        assert!(listeners.error.as_deref().unwrap().contains("no such filter"));
        let counters = host.connections.counters();
        let listeners = counters.iter().find(|counters| counters.type_url == LISTENER).unwrap();
        assert_eq!((listeners.pushes, listeners.rejects, listeners.resources), (1, 1, 1));
    }
}

#[tokio::test]
async fn x44_streams_of_one_node_are_independent() {
    let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1")])])).await;
    let mut clients = [Client::open(&host, VARIANTS[0]).await, Client::open(&host, VARIANTS[0]).await];
    for client in &mut clients {
        client.ask(CLUSTER, &[]);
        client.get().await;
    }
    assert_eq!(host.connections.len(), 2);
    let [first, mut second] = clients;
    drop(first);
    host.publish(view(&[(TypeUrl::CLUSTER, &[("a", "A2")])]));
    assert_eq!(second.get().await.bodies, ["A2"]);
}

#[tokio::test]
async fn x45_a_disconnect_frees_everything() {
    let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1")])])).await;
    for variant in VARIANTS {
        let mut client = Client::open(&host, variant).await;
        client.ask(CLUSTER, &[]);
        client.get().await;
        assert_eq!(host.connections.len(), 1);
        drop(client);
        soon(async {
            while !host.connections.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn x49_not_synced_is_unavailable_in_both_variants() {
    let host = Host::start(view(&[])).await;
    for variant in VARIANTS {
        let mut client = Client::open(&host, variant).await.with_node(node("sidecar~10.0.0.7~web-0.early~d"));
        client.ask(CLUSTER, &[]);
        assert_eq!(client.next().await.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn x51_half_close_ends_the_stream_with_ok() {
    let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1")])])).await;
    for variant in VARIANTS {
        let mut client = Client::open(&host, variant).await;
        client.ask(CLUSTER, &[]);
        client.get().await;
        client.half_close();
        assert_eq!(client.next().await.unwrap(), None);
        assert!(host.connections.is_empty());

        let mut silent = Client::open(&host, variant).await;
        silent.half_close();
        assert_eq!(silent.next().await.unwrap(), None);
    }
}

#[tokio::test]
async fn shutdown_ends_streams_with_unavailable() {
    let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1")])])).await;
    let mut client = Client::open(&host, VARIANTS[1]).await;
    client.ask(CLUSTER, &[]);
    client.get().await;
    let mut silent = Client::open(&host, VARIANTS[0]).await;
    host.shutdown.cancel();
    for client in [&mut client, &mut silent] {
        let status = client.next().await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "shutting down: connect again"));
    }
    assert!(host.connections.is_empty());
}

#[tokio::test]
async fn a_lapsed_admission_ends_the_stream_with_unavailable() {
    let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1")])])).await;
    let mut client = Client::open(&host, VARIANTS[1]).await;
    client.ask(CLUSTER, &[]);
    client.get().await;
    host.expel();
    let status = client.next().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("admission"), "{status}");
}

#[tokio::test]
async fn a_request_that_is_too_large_ends_its_own_stream_only() {
    let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A1")])])).await;
    let mut good = Client::open(&host, VARIANTS[0]).await;
    good.ask(CLUSTER, &[]);
    good.get().await;
    let mut bad = Client::open(&host, VARIANTS[0]).await;
    bad.ask(CLUSTER, &["x".repeat(5 << 20).as_str()]);
    assert_eq!(bad.next().await.unwrap_err().code(), Code::OutOfRange);
    host.publish(view(&[(TypeUrl::CLUSTER, &[("a", "A2")])]));
    assert_eq!(good.get().await.bodies, ["A2"]);
}
