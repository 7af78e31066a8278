//! What the log says, and what it must not.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eastwest_ca_server::operations;
use time::OffsetDateTime;
use tracing_subscriber::fmt::MakeWriter;

use super::common::{Ca, request};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Peers are told nothing, so the log must say why; and it holds no token and no key. The log is that of the whole
/// program: all other tests write into it as well.
#[tokio::test]
async fn the_log_says_why_and_holds_no_secret() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(log.clone())
        .init();
    let ca = Ca::start().await;
    let now = OffsetDateTime::now_utc();
    let mint = |audience, at| {
        operations::token(&ca.path(), "shop", "reviews", audience, Duration::from_secs(60), at).unwrap()
    };
    let (good, expired) = (mint("istio-ca", now), mint("istio-ca", now - time::Duration::minutes(5)));
    let hostile = mint("for\nme\u{1b}[31m", now);
    for (token, said) in [
        (&good, "certificate issued identity=spiffe://cluster.local/ns/shop/sa/reviews serial="),
        (&expired, "the token ran out at"),
        (&hostile, r#"the token is for ["for\nme\u{1b}[31m"], not for us"#),
        (&"no-token".to_owned(), "no client certificate; the token is not a JWT"),
    ] {
        let _ = ca.client().token(token).await.create(request()).await;
        assert!(log.text().contains(said), "{said:?} is missing in {}", log.text());
        assert!(!log.text().contains(token.as_str()), "the token is in the log");
    }
    for secret in ["PRIVATE KEY", "Bearer ey"] {
        assert!(!log.text().contains(secret), "{secret}");
    }
    // Without a place for its ledger, a CA writes the records here.
    let unkept = Ca::start_without_ledger().await;
    let token = operations::token(&unkept.path(), "shop", "unkept", "istio-ca", Duration::from_secs(60), now);
    let said = || log.text().lines().filter(|line| line.contains(r#"record={"event":"issued""#)).count();
    assert_eq!(said(), 0, "a ledger that is kept is not in the log");
    unkept.client().token(&token.unwrap()).await.create(request()).await.unwrap();
    let text = log.text();
    let record = text.lines().find(|line| line.contains(r#"record={"event":"issued""#)).unwrap();
    assert!(record.contains(" ledger: not kept") && record.contains("/ns/shop/sa/unkept"), "{record}");
    assert_eq!(
        text.lines().filter(|line| line.contains("/ns/shop/sa/unkept")).count(),
        1,
        "one line: {text}"
    );
    assert!(!unkept.path().join("ledger").exists());
    assert!(unkept.certificate_authority.inabilities(now).is_empty());
}
