//! Jobs of CI systems by OIDC rules (CA.md A26).

use std::{fs, path::PathBuf, time::Duration};

use eastwest_ca_server::{ProofConfig, RulesFile};
use eastwest_io::{HttpsClient, TrustedRoots};
use eastwest_proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    common::{Ca, identity, not_after, request},
    issuer::{Issuer, merge},
    web::Web,
};

const DEPLOY: &str = "spiffe://cluster.local/ns/ci/sa/shop-deploy";

struct Forge {
    dir: tempfile::TempDir,
    web: Web,
    issuer: Issuer,
    ca: Ca,
}

impl Forge {
    async fn start() -> Self {
        let (dir, web) = (tempfile::tempdir().unwrap(), Web::start(true).await);
        let issuer = Issuer::new(&web.url(""), "k");
        let document = json!({"issuer": issuer.name, "jwks_uri": web.url("/keys")}).to_string();
        web.serve([("/.well-known/openid-configuration", document), ("/keys", issuer.jwks())]);
        fs::write(dir.path().join("rules.yaml"), rules(&issuer, "15m")).unwrap();
        let client = HttpsClient::new(&TrustedRoots::File(web.roots())).unwrap();
        let taken = vec!["https://cluster".to_owned()];
        let jobs = RulesFile::open(dir.path().join("rules.yaml"), client, taken).unwrap();
        let ca = Ca::start_with(ProofConfig { jobs: Some(jobs), ..ProofConfig::default() }).await;
        Self { dir, web, issuer, ca }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("rules.yaml")
    }

    /// A new token of the deploying job, with changes.
    fn job(&self, changes: Value) -> String {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut claims = json!({"iss": self.issuer.name, "aud": "eastwest", "sub": "repo:acme/shop:environment:prod",
            "exp": now + 300, "nbf": now - 1, "jti": format!("job-{number}"), "repository": "acme/shop",
            "ref": "refs/heads/main", "environment": "prod", "event_name": "push"});
        merge(&mut claims, changes);
        self.issuer.sign(&self.issuer.header().to_string(), &claims.to_string())
    }

    async fn ask(&self, token: &str, seconds: i64) -> Result<IstioCertificateResponse, Status> {
        let message = IstioCertificateRequest { validity_duration: seconds, ..request() };
        self.ca.client().token(token).await.create(message).await
    }

    async fn code(&self, changes: Value) -> Code {
        self.ask(&self.job(changes), 0).await.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    async fn until(&self, changes: Value, wanted: Code) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.code(changes.clone()).await != wanted {
            assert!(Instant::now() < deadline, "{wanted:?} never came");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn rules(issuer: &Issuer, life: &str) -> String {
    format!(
        "rules:
- name: deploy
  issuer: {0}
  audience: eastwest
  match: {{repository: acme/shop, ref: refs/heads/main, environment: prod}}
  namespace: ci
  serviceAccount: shop-deploy
  maxTTL: {life}
- name: branches
  issuer: {0}
  audience: eastwest
  match: {{sub: 'repo:acme/shop:ref:refs/heads/*', event_name: push}}
  namespace: ci
  serviceAccount: shop-{{team}}
  maxTTL: {life}
",
        issuer.name
    )
}

#[tokio::test]
async fn a_job_gets_the_identity_of_its_rule_for_as_long_as_the_rule_allows() {
    let forge = Forge::start().await;
    let answer = forge.ask(&forge.job(json!({})), 0).await.unwrap();
    assert_eq!(identity(&answer), DEPLOY);
    let left = not_after(&answer) - OffsetDateTime::now_utc();
    assert!(left <= time::Duration::minutes(15), "the usual 24 h are cut: {left}");
    assert!(left > time::Duration::minutes(14), "{left}");
    for (seconds, expected) in
        [(900, Code::Ok), (901, Code::InvalidArgument), (60, Code::Ok), (9, Code::InvalidArgument)]
    {
        let answer = forge.ask(&forge.job(json!({})), seconds).await;
        assert_eq!(answer.map_or_else(|status| status.code(), |_| Code::Ok), expected, "{seconds}");
    }
    let branch = json!({"sub": "repo:acme/shop:ref:refs/heads/x", "ref": "refs/heads/x", "environment": null, "team": "blue"});
    let answer = forge.ask(&forge.job(branch), 0).await.unwrap();
    assert_eq!(identity(&answer), "spiffe://cluster.local/ns/ci/sa/shop-blue");
    assert_eq!(forge.web.count(), 2, "document and keys were fetched once");
}

/// CA.md A26.
#[tokio::test]
async fn a_forks_job_and_a_token_used_before_are_unauthenticated() {
    let forge = Forge::start().await;
    let token = forge.job(json!({}));
    assert!(forge.ask(&token, 0).await.is_ok());
    for _ in 0..2 {
        let status = forge.ask(&token, 0).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unauthenticated, "request authenticate failure")
        );
    }
    let same = forge.job(json!({"jti": "job-twin"}));
    let (one, two) = tokio::join!(forge.ask(&same, 0), forge.ask(&same, 0));
    assert_eq!(one.is_ok() as u8 + two.is_ok() as u8, 1, "of two at once, one");
    let again = forge.job(json!({"jti": "job-twin", "environment": "prod"}));
    assert!(forge.ask(&again, 0).await.is_err(), "another token of the same jti");

    for (what, changes) in [
        ("a fork", json!({"repository": "evil/shop", "sub": "repo:evil/shop:environment:prod"})),
        (
            "a pull request",
            json!({"sub": "repo:acme/shop:pull_request", "ref": "refs/pull/7/merge", "event_name": "pull_request", "environment": null}),
        ),
        ("another branch", json!({"ref": "refs/heads/evil"})),
        ("a longer name", json!({"repository": "acme/shop-evil"})),
        ("a shorter name", json!({"repository": "acme/sho"})),
        ("another case", json!({"repository": "Acme/shop"})),
        ("a list", json!({"repository": ["acme/shop"]})),
        ("no claim", json!({"environment": null})),
        ("no jti", json!({"jti": null})),
        ("an empty jti", json!({"jti": ""})),
        ("another audience", json!({"aud": "sigstore"})),
        ("no audience", json!({"aud": null})),
        ("another issuer", json!({"iss": "https://cluster"})),
        ("run out", json!({"exp": OffsetDateTime::now_utc().unix_timestamp() - 1})),
        ("to come", json!({"nbf": OffsetDateTime::now_utc().unix_timestamp() + 60})),
        (
            "a team that is no name",
            json!({"sub": "repo:acme/shop:ref:refs/heads/x", "ref": "refs/heads/x", "team": "../istiod"}),
        ),
        (
            "a team with dots",
            json!({"sub": "repo:acme/shop:ref:refs/heads/x", "ref": "refs/heads/x", "team": "a.b"}),
        ),
        ("both rules", json!({"sub": "repo:acme/shop:ref:refs/heads/main", "team": "blue"})),
        (
            "a service account's subject",
            json!({"sub": "system:serviceaccount:istio-system:istiod", "repository": null}),
        ),
    ] {
        assert_eq!(forge.code(changes).await, Code::Unauthenticated, "{what}");
    }
    let stranger = Issuer::new(&forge.issuer.name, "k");
    let claims = json!({"iss": forge.issuer.name, "aud": "eastwest", "jti": "x", "exp": 4_000_000_000_u32,
        "repository": "acme/shop", "ref": "refs/heads/main", "environment": "prod"});
    let forged = stranger.sign(&stranger.header().to_string(), &claims.to_string());
    assert!(forge.ask(&forged, 0).await.is_err());
    assert_eq!(forge.code(json!({})).await, Code::Ok);
}

/// With its certificate a job could outlive every bound.
#[tokio::test]
async fn a_jobs_certificate_does_not_renew_itself() {
    let forge = Forge::start().await;
    let held = forge.ca.issue(DEPLOY, Duration::from_secs(60), OffsetDateTime::now_utc());
    let renewal = forge.ca.client().certificate(&held).await.create(request()).await;
    assert_eq!(renewal.unwrap_err().code(), Code::Unauthenticated);
    let beside = forge.ca.client().with(&held).token(&forge.job(json!({}))).await.create(request()).await;
    assert_eq!(identity(&beside.unwrap()), DEPLOY, "a new token beside it is heard");
    let other = forge.ca.issue(
        "spiffe://cluster.local/ns/shop/sa/reviews",
        Duration::from_secs(60),
        OffsetDateTime::now_utc(),
    );
    assert!(forge.ca.client().certificate(&other).await.create(request()).await.is_ok());
}

#[tokio::test]
async fn rules_follow_their_file_and_a_bad_file_keeps_the_old_ones() {
    let forge = Forge::start().await;
    let minutes = async |minutes: i64| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = forge.ask(&forge.job(json!({})), 0).await.unwrap();
            let left = not_after(&answer) - OffsetDateTime::now_utc();
            if (time::Duration::minutes(minutes - 1)..=time::Duration::minutes(minutes)).contains(&left) {
                return;
            }
            assert!(Instant::now() < deadline, "{left}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    minutes(15).await;
    fs::write(forge.path(), rules(&forge.issuer, "5m")).unwrap();
    minutes(5).await;
    for bad in ["rules: 7", "rules: [{name: x}]", "{", "rules: []\nrules: []"] {
        fs::write(forge.path(), bad).unwrap();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(forge.code(json!({})).await, Code::Ok, "{bad:?}");
    }
    fs::remove_file(forge.path()).unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(forge.code(json!({})).await, Code::Ok, "without the file, too");
    fs::write(forge.path(), "rules: []").unwrap();
    forge.until(json!({}), Code::Unauthenticated).await;
    fs::write(forge.path(), rules(&forge.issuer, "7m")).unwrap();
    forge.until(json!({}), Code::Ok).await;
}

#[tokio::test]
async fn unusable_rules_are_reported_with_all_mistakes() {
    let (dir, web) = (tempfile::tempdir().unwrap(), Web::start(true).await);
    let client = HttpsClient::new(&TrustedRoots::File(web.roots())).unwrap();
    let path = dir.path().join("rules.yaml");
    let open = |text: &str| {
        fs::write(&path, text).unwrap();
        RulesFile::open(path.clone(), client.clone(), vec!["https://cluster".to_owned()]).map(drop)
    };
    let rule = |issuer: &str, more: &str| {
        format!(
            "- {{name: n{}, issuer: {issuer:?}, audience: a, match: {{sub: x}}, namespace: ci, serviceAccount: job, maxTTL: 1m{more}}}\n",
            issuer.len()
        )
    };
    let text = format!(
        "rules:\n{}{}{}{}",
        rule("https://cluster", ""),
        rule("http://forge.example", ""),
        rule("gitea", ""),
        rule("https://b", ", jwks: nowhere.json")
    );
    let told = open(&text).unwrap_err();
    for (at, field) in
        ["rules[0].issuer", "rules[1].issuer", "rules[2].issuer", "rules[3].jwks"].iter().enumerate()
    {
        assert!(told.mistakes[at].starts_with(field), "{told}");
    }
    assert!(open("rules: [").is_err());
    assert!(open("a: 1\na: 2").is_err());
    assert!(open(r#"{"rules": []}"#).is_ok(), "JSON is YAML");
    fs::remove_file(&path).unwrap();
    let gone = RulesFile::open(path.clone(), client.clone(), Vec::new());
    assert!(gone.is_err_and(|error| error.to_string().contains("rules.yaml")));
}

/// CA.md C39.
#[tokio::test]
async fn a_jobs_rule_says_which_names_it_may_have() {
    let forge = Forge::start().await;
    let ask = async |names: &[&str]| {
        let token = forge.job(json!({}));
        super::names::names(
            forge.ca.client().token(&token).await.create(super::names::asking_for(names)).await,
        )
    };
    assert_eq!(ask(&["web.test"]).await.unwrap(), [DEPLOY], "a rule without names gives none");
    let with =
        |line: &str| rules(&forge.issuer, "15m").replacen("  maxTTL", &format!("  {line}\n  maxTTL"), 1);
    fs::write(forge.path(), with("dnsNames: [web.test, '*.ci.test']\n  ipAddresses: [10.1.0.0/16]")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask(&["web.test"]).await.unwrap().len() < 2 {
        assert!(Instant::now() < deadline, "the rules were not read again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let given = ask(&["10.1.2.3", "a.b.ci.test"]).await.unwrap();
    assert_eq!(given, [DEPLOY, "a.b.ci.test", "10.1.2.3"]);
    for bad in ["db.test", "10.2.0.1"] {
        let refused = ask(&[bad]).await.unwrap_err();
        assert!(refused.starts_with("InvalidArgument") && refused.contains("dnsNames"), "{refused}");
    }
    for (bad, said) in [
        ("dnsNames: '*'", "rules[0].dnsNames: is no list of texts"),
        ("dnsNames: ['*']", "rules[0].dnsNames: \"*\" is neither a DNS name nor a pattern"),
        ("ipAddresses: [10.0.0.0/64]", "rules[0].ipAddresses: \"10.0.0.0/64\" is neither an IP address"),
    ] {
        let document: Value = serde_saphyr::from_str(&with(bad)).unwrap();
        let mistakes = eastwest_ca::JobRules::from_value(&document).unwrap_err();
        assert!(mistakes.iter().any(|mistake| mistake.starts_with(said)), "{bad}: {mistakes:?}");
    }
}
