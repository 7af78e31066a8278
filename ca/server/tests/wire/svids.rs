//! JWT-SVIDs: none leaves the CA that the ledger does not know, and no token is in it.

use std::{fs, num::NonZeroU32, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use eastwest_ca::{
    ledger::{Event, Record, Wanted},
    rate_limit::Rate,
};
use eastwest_ca_server::{Limits, ProofConfig};
use time::OffsetDateTime;
use tonic::Code;

use super::{
    common::{Ca, REVIEWS, request},
    ledger::records,
};

/// The claims of a token.
fn claims(token: &str) -> serde_json::Value {
    let body = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64.decode(body).unwrap()).unwrap()
}

#[tokio::test]
async fn every_jwt_svid_issued_or_refused_is_in_the_ledger() {
    let ca = Ca::start().await;
    let proof = ca.token("shop", "reviews");
    let mut client = ca.client().token(&proof).await;
    let token = client.svid(&["vault", "db"]).await.unwrap();
    let said = claims(&token);
    assert_eq!(client.svid(&[]).await.unwrap_err().code(), Code::InvalidArgument);
    let refused = ca.client().token("not.a.token").await.svid(&["vault"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    drop(client);
    let dir = ca.stop().await;
    let records = records(dir.path(), 3).await;
    let events: Vec<&Event> = records.iter().map(|Record { event, .. }| event).collect();
    let [Event::JwtSvid(svid), Event::Refused(audience), Event::Refused(stranger)] = events[..] else {
        panic!("{records:?}")
    };
    assert_eq!((svid.identity.as_str(), said["jti"].as_str()), (REVIEWS, Some(svid.jti.as_str())));
    assert_eq!(svid.audience, ["vault", "db"]);
    assert_eq!(said["exp"], svid.not_after.unix_timestamp());
    assert!((1..=300).contains(&svid.ttl), "{svid:?}");
    let requester = &svid.requester;
    assert_eq!((requester.proof.as_deref(), requester.peer), (Some("token"), Some([127, 0, 0, 1].into())));
    assert_eq!((audience.wanted, audience.code.as_str()), (Wanted::JwtSvid, "InvalidArgument"));
    assert_eq!(audience.requester.caller.as_ref().unwrap().as_str(), REVIEWS);
    assert_eq!((stranger.wanted, stranger.code.as_str()), (Wanted::JwtSvid, "Unauthenticated"));
    let text = fs::read_to_string(dir.path().join("state/ledger/00000001.jsonl")).unwrap();
    let tokens = [token.as_str(), proof.as_str()].map(|token| token.split('.').skip(1));
    assert!(tokens.into_iter().flatten().all(|part| !text.contains(part)), "part of a token: {text}");
}

/// A ledger that cannot be written: no token is issued.
#[tokio::test]
async fn no_ledger_no_jwt_svid() {
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    client.svid(&["vault"]).await.unwrap();
    let segment = ca.path().join("ledger/00000001.jsonl");
    let away = ca.path().join("away");
    fs::rename(&segment, &away).unwrap();
    for _ in 0..2 {
        assert_eq!(client.svid(&["vault"]).await.unwrap_err().code(), Code::Unavailable);
        assert!(!ca.certificate_authority.inabilities(OffsetDateTime::now_utc()).is_empty());
    }
    fs::rename(&away, &segment).unwrap();
    drop(client);
    let dir = ca.stop().await;
    let records = records(dir.path(), 3).await;
    let is_issued = |record: &&Record| matches!(record.event, Event::JwtSvid(_));
    assert_eq!(records.iter().filter(is_issued).count(), 1, "{records:?}");
}

/// A caller that requests tokens without end must wait, and can still renew its certificate.
#[tokio::test]
async fn jwt_svids_are_bounded_apart_from_certificates() {
    let few = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(3).unwrap() };
    let ca = Ca::start_within(Limits { requests: few, ..Limits::default() }, ProofConfig::default()).await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    let begin = std::time::Instant::now();
    let mut got = 0;
    let refused = loop {
        match client.svid(&["vault"]).await {
            Ok(_) => got += 1,
            Err(status) => break status,
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{got} tokens and no end");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(got >= 3, "{got}");
    client.create(request()).await.unwrap();
}
