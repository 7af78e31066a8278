//! Too much of one peer is not too much for others. Outcomes are judged, not times.

use std::{num::NonZeroU32, time::Duration};

use eastwest_ca::rate_limit::Rate;
use eastwest_ca_server::{Limits, ProofConfig};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::common::{Ca, identity, request};

fn rate(per_second: u32, burst: u32) -> Rate {
    Rate { per_second: NonZeroU32::new(per_second).unwrap(), burst: NonZeroU32::new(burst).unwrap() }
}

/// CA.md A25: one pod asks thousands of times, from many connections at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_is_throttled_and_others_are_served() {
    const FLOOD: usize = 3_000;
    let ca = Ca::start_within(Limits { requests: rate(1, 200), ..Limits::default() }, ProofConfig::default())
        .await;
    let mut flood = JoinSet::new();
    for _ in 0..50 {
        let mut client = ca.client().token(&ca.token("shop", "flood")).await;
        flood.spawn(async move {
            let mut granted = 0;
            for _ in 0..FLOOD / 50 {
                match client.create(request()).await {
                    Ok(_) => granted += 1,
                    Err(status) => {
                        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                        let retry = status.get_details_retry_info().and_then(|info| info.retry_delay);
                        assert!(retry.is_some_and(|delay| delay > Duration::ZERO), "{status:?}");
                    }
                }
            }
            granted
        });
    }
    let mut others = JoinSet::new();
    for n in 0..10 {
        let account = format!("other-{n}");
        let mut client = ca.client().token(&ca.token("shop", &account)).await;
        others.spawn(async move {
            for _ in 0..20 {
                let answer = client.create(request()).await.expect("others are not concerned");
                assert_eq!(identity(&answer), format!("spiffe://cluster.local/ns/shop/sa/{account}"));
            }
        });
    }
    others.join_all().await;
    let granted: usize = flood.join_all().await.into_iter().sum();
    assert!((200..FLOOD / 2).contains(&granted), "{granted} certificates for the flood");
}

/// Behind an address whose proofs keep failing there may be others: a good proof gets through at its first try, while
/// bad ones keep coming.
#[tokio::test]
async fn good_proofs_get_through_behind_an_address_that_keeps_failing() {
    let ca =
        Ca::start_within(Limits { failures: rate(5, 10), ..Limits::default() }, ProofConfig::default()).await;
    let mut stranger = ca.client().token("a.b.c").await;
    let mut codes = Vec::new();
    for _ in 0..30 {
        codes.push(stranger.create(request()).await.unwrap_err().code());
    }
    assert_eq!(codes[..10], [Code::Unauthenticated; 10]);
    assert!(codes[10..].contains(&Code::ResourceExhausted), "{codes:?}");
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        let mut stranger = ca.client().token("a.b.c").await;
        flood.spawn(async move {
            loop {
                let code = stranger.create(request()).await.unwrap_err().code();
                assert!([Code::ResourceExhausted, Code::Unauthenticated].contains(&code), "{code}");
            }
        });
    }
    let mut good = ca.client().token(&ca.token("shop", "reviews")).await;
    for _ in 0..20 {
        good.create(request()).await.expect("the failures of others are not its own");
    }
    assert!(flood.try_join_next().is_none(), "the strangers were still at it");
}
