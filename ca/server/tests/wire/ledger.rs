//! Nothing is issued without a record in the ledger, and unauthenticated callers cannot fill it.

use std::{fs, path::Path, time::Duration};

use eastwest_ca::ledger::{Event, Record};
use eastwest_ca_server::{
    StateDir,
    ledger::{Query, query},
};
use time::OffsetDateTime;
use tonic::Code;

use super::common::{CSR, Ca, REVIEWS, csr, request, summary};

/// Issued and refused, as the ledger of a CA that stops tells it once it has told so many of them.
pub(crate) async fn records(dir: &Path, events: u64) -> Vec<Record> {
    let state = dir.join("state");
    let roots = StateDir::open(&state).unwrap().load(OffsetDateTime::now_utc()).unwrap().roots;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let (records, report) = query(&state, &roots, &Query::default());
        report.unwrap();
        let told: u64 = records.iter().map(|record| count(&record.event)).sum();
        if told >= events {
            assert_eq!(told, events, "{records:?}");
            return records;
        }
        assert!(tokio::time::Instant::now() < deadline, "{events} events should be told: {records:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many certificates and JWT-SVIDs, issued or refused, it tells of.
fn count(event: &Event) -> u64 {
    match event {
        Event::Refused(refused) => refused.count,
        _ => 1,
    }
}

#[tokio::test]
async fn what_was_answered_is_in_the_ledger() {
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    let answer = summary(&client.create(request()).await.unwrap());
    let mut bad = request();
    bad.csr = csr("bad-p521");
    assert_eq!(client.create(bad).await.unwrap_err().code(), Code::InvalidArgument);
    drop(client);
    let dir = ca.stop().await;
    let records = records(dir.path(), 2).await;
    let [Record { event: Event::Issued(issued), .. }, Record { event: Event::Refused(refused), .. }] =
        &records[..]
    else {
        panic!("{records:?}")
    };
    assert_eq!((issued.identity.as_str(), &issued.serial), (REVIEWS, &answer.serial));
    assert_eq!((issued.key.as_str(), issued.key_sha256.len(), issued.ttl), ("ECDSA P-256", 64, 86_400));
    assert_eq!(issued.requester.proof_issuer.as_deref(), Some("eastwest"));
    assert_eq!(issued.requester.peer, Some([127, 0, 0, 1].into()));
    assert_eq!(
        (refused.code.as_str(), &refused.requester.caller),
        ("InvalidArgument", &Some(REVIEWS.parse().unwrap()))
    );
    assert!(refused.reason.contains("allowed are"), "{}", refused.reason);
}

/// A ledger that cannot be written: no certificate is issued, and the CA says that it cannot sign. When the cause is
/// gone, it goes on by itself.
#[tokio::test]
async fn no_ledger_no_certificate() {
    let ca = Ca::start().await;
    let mut client = ca.client().token(&ca.token("shop", "reviews")).await;
    client.create(request()).await.unwrap();
    let able = || ca.certificate_authority.inabilities(OffsetDateTime::now_utc()).is_empty();
    assert!(able());
    let segment = ca.path().join("ledger/00000001.jsonl");
    let away = ca.path().join("away");
    fs::rename(&segment, &away).unwrap();
    for _ in 0..3 {
        let status = client.create(request()).await.unwrap_err();
        assert_eq!((status.code(), able()), (Code::Unavailable, false), "{status:?}");
    }
    fs::rename(&away, &segment).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !able() {
        assert!(tokio::time::Instant::now() < deadline, "it should have recovered without a request");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.create(request()).await.unwrap();
    drop(client);
    let dir = ca.stop().await;
    let records = records(dir.path(), 5).await;
    let is_issued = |record: &&Record| matches!(record.event, Event::Issued(_));
    assert_eq!(
        records.iter().filter(is_issued).count(),
        2,
        "the refusals were written afterwards: {records:?}"
    );
}

/// Thousands of refusals are a handful of records, and yet every one is counted.
#[tokio::test]
async fn refusals_of_unauthenticated_callers_are_counted_not_listed() {
    const REQUESTS: u64 = 1500;
    let ca = Ca::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = ca.client().token("not.a.token").await;
        tasks.spawn(async move {
            for _ in 0..REQUESTS / 4 {
                let code = client.create(request()).await.unwrap_err().code();
                assert!([Code::Unauthenticated, Code::ResourceExhausted].contains(&code), "{code}");
            }
        });
    }
    tasks.join_all().await;
    let dir = ca.stop().await;
    let records = records(dir.path(), REQUESTS).await;
    assert!(records.len() <= 8, "{} records", records.len());
}

/// Neither a key nor a token nor a request, whole or in part.
#[tokio::test]
async fn the_ledger_holds_no_secret() {
    let ca = Ca::start().await;
    let token = ca.token("shop", "reviews");
    ca.client().token(&token).await.create(request()).await.unwrap();
    ca.client().token(&format!("{token}x")).await.create(request()).await.unwrap_err();
    let dir = ca.stop().await;
    records(dir.path(), 2).await;
    let state = dir.path().join("state");
    let text = fs::read_to_string(state.join("ledger/00000001.jsonl")).unwrap();
    for file in ["ca-key.pem", "token-key.pem", "ledger/key.pem"] {
        let key = fs::read_to_string(state.join(file)).unwrap();
        let body: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
        // Long enough to be no accident, wherever in base64 it begins; the public half stands at the end.
        for at in 0..body.len() / 2 - 16 {
            assert!(!text.contains(&body[at..at + 16]) || at < 40, "{file}");
        }
    }
    assert!(token.split('.').skip(1).all(|part| !text.contains(part)));
    let csr: String = csr(CSR).lines().skip(1).take(1).collect();
    assert!(!text.contains(&csr));
}
