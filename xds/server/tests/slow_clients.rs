//! XDS.md X46: a client that does not read costs bounded memory and delays no other client.
#![allow(missing_docs, clippy::unwrap_used)]

mod peers;

use std::sync::Arc;

use eastwest_proto::type_url::CLUSTER;
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl, View};
use peers::{Client, Host, VARIANTS};

/// A view far larger than any window; the first cluster is `edition`.
fn big(edition: u32) -> View {
    let filler = "x".repeat(64 * 1024);
    let resources = (0..64).map(|n| {
        let body = if n == 0 { format!("edition {edition}") } else { format!("{edition} {filler}") };
        Arc::new(EncodedResource::new(TypeUrl::CLUSTER, &format!("c{n:02}"), body.as_bytes()))
    });
    View::new([Arc::new(ResourceSet::new(TypeUrl::CLUSTER, resources))])
}

#[tokio::test]
async fn a_slow_client_delays_no_other_and_gets_the_latest_state() {
    for variant in VARIANTS {
        let host = Host::start(big(0)).await;
        let mut slow = Vec::new();
        for _ in 0..30 {
            let mut client = Client::open(&host, variant).await;
            client.ask(CLUSTER, &[]);
            slow.push(client);
        }
        let mut quick = Client::open(&host, variant).await;
        quick.ask(CLUSTER, &[]);
        for edition in 1..=20 {
            let received = quick.get().await;
            assert_eq!(received.bodies[0], format!("edition {}", edition - 1));
            quick.ack(&received);
            host.publish(big(edition));
        }
        // One response was on its way; the next one a client reads is of the newest view.
        let late = &mut slow[0];
        let mut editions = vec![late.get().await.bodies[0].clone()];
        while editions.last().unwrap() != "edition 20" {
            editions.push(late.get().await.bodies[0].clone());
        }
        assert!(editions.len() <= 3, "a slow reader must not be sent history: {editions:?}");
    }
}
