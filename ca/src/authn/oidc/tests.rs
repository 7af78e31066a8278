//! Jobs of CI systems, and who they are (CA.md A26).

use serde_json::{Map, json};
use time::macros::datetime;

use super::*;
use crate::{
    authn::jwt::{Jwt, KeySet, TokenKey},
    x509::key::PrivateKey,
};

const NOW: time::OffsetDateTime = datetime!(2026-11-24 12:00:00 UTC);
const GITHUB: &str = "https://token.actions.githubusercontent.com";

fn document() -> Value {
    json!({"rules": [
        {"name": "deploy", "issuer": GITHUB, "audience": "eastwest", "namespace": "ci", "serviceAccount": "shop-{environment}",
         "match": {"repository": "acme/shop", "ref": "refs/heads/main", "environment": "prod-*"}, "maxTTL": "15m"},
        {"name": "test", "issuer": GITHUB, "audience": "eastwest", "namespace": "ci", "serviceAccount": "shop-test",
         "match": {"sub": "repo:acme/shop:**", "repository_id": 42, "ref": "refs/heads/feature-*"}, "maxTTL": "5m"},
        {"name": "lab", "issuer": "https://gitlab.example", "audience": "mesh", "jwks": "/keys.json",
         "match": {"project_path": "group/*", "ref_protected": true}, "namespace": "lab", "serviceAccount": "job",
         "maxTTL": "1h"},
    ]})
}

fn rules() -> JobRules {
    JobRules::from_value(&document()).unwrap()
}

/// What an issuer says, through a real signature.
fn verified(claims: Value) -> Verified {
    let key = TokenKey::new(&PrivateKey::generate().unwrap()).unwrap();
    let token = key.sign(&json!({"alg": "ES256"}), &claims).unwrap();
    Jwt::parse(&token).unwrap().verify(&KeySet::from_json(&key.jwks()).unwrap(), NOW).unwrap()
}

fn deploy(changes: Value) -> Value {
    let mut claims = json!({"iss": GITHUB, "aud": "eastwest", "exp": NOW.unix_timestamp() + 300, "jti": "id-1",
        "sub": "repo:acme/shop:environment:prod", "repository": "acme/shop", "ref": "refs/heads/main",
        "environment": "prod-eu"});
    let members: &mut Map<String, Value> = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        members.insert(name.clone(), value.clone());
        members.retain(|_, value| !value.is_null());
    }
    claims
}

fn judge(claims: Value) -> Result<Job, JobError> {
    rules().judge(&verified(claims), &TrustDomain::parse("td").unwrap())
}

#[test]
fn a_job_gets_the_identity_of_its_rule() {
    let job = judge(deploy(json!({}))).unwrap();
    assert_eq!(job.caller.identity.as_str(), "spiffe://td/ns/ci/sa/shop-prod-eu");
    assert_eq!((job.id.as_str(), job.caller.max_life), ("id-1", Some(Duration::from_secs(900))));
    let Proof::Oidc { rule, subject, .. } = &job.caller.proof else { panic!() };
    assert_eq!((rule.as_str(), subject.as_str()), ("deploy", "repo:acme/shop:environment:prod"));
    let test = deploy(json!({"sub": "repo:acme/shop:ref:refs/heads/feature-1", "repository_id": "42",
        "ref": "refs/heads/feature-1", "environment": null}));
    assert_eq!(judge(test).unwrap().caller.identity.as_str(), "spiffe://td/ns/ci/sa/shop-test");
    let lab = deploy(json!({"iss": "https://gitlab.example", "aud": ["mesh"], "project_path": "group/x",
        "ref_protected": "true"}));
    assert_eq!(judge(lab).unwrap().caller.identity.as_str(), "spiffe://td/ns/lab/sa/job");
}

#[test]
fn a_job_gets_no_identity_if_a_claim_differs() {
    for changes in [
        json!({"repository": "fork/shop", "sub": "repo:fork/shop:environment:prod"}),
        json!({"repository": "acme/shop-evil"}),
        json!({"repository": "ACME/shop"}),
        json!({"repository": null}),
        json!({"repository": ["acme/shop"]}),
        json!({"repository": {"acme/shop": true}}),
        json!({"ref": "refs/heads/main2"}),
        json!({"ref": "refs/pull/7/merge"}),
        json!({"environment": ""}),
        json!({"environment": "staging"}),
        json!({"environment": "prod-a/x"}),
        json!({"environment": "prod-"}),
        json!({"environment": null, "sub": "repo:acme/shop:pull_request"}),
        json!({"iss": "https://gitlab.example"}),
    ] {
        let verdict = judge(deploy(changes.clone()));
        assert!(
            matches!(verdict, Err(JobError::NoRule { .. } | JobError::Token(_))),
            "{changes}: {verdict:?}"
        );
    }
    assert!(matches!(judge(deploy(json!({"aud": "sigstore"}))), Err(JobError::Token(_))));
    assert_eq!(judge(deploy(json!({"jti": null}))), Err(JobError::NoId));
    assert_eq!(judge(deploy(json!({"jti": ""}))), Err(JobError::NoId));
    assert_eq!(judge(deploy(json!({"jti": 7}))), Err(JobError::NoId));
    for environment in ["prod-X", "prod-a.istiod", "prod-a-", "prod-a_x"] {
        let verdict = judge(deploy(json!({"environment": environment})));
        assert!(matches!(verdict, Err(JobError::Template { .. })), "{environment}: {verdict:?}");
    }
}

#[test]
fn two_rules_for_one_job_are_none() {
    let mut document = document();
    let mut twin = document["rules"][0].clone();
    twin["name"] = "twin".into();
    twin["serviceAccount"] = "admin".into();
    document["rules"].as_array_mut().unwrap().push(twin);
    let verdict = JobRules::from_value(&document)
        .unwrap()
        .judge(&verified(deploy(json!({}))), &TrustDomain::parse("td").unwrap());
    assert_eq!(verdict, Err(JobError::Ambiguous("deploy".to_owned(), "twin".to_owned())));
}

#[test]
fn identities_of_jobs_are_known() {
    for (identity, can) in [
        ("spiffe://td/ns/ci/sa/shop-prod", true),
        ("spiffe://td/ns/ci/sa/shop-anything", true),
        ("spiffe://td/ns/lab/sa/job", true),
        ("spiffe://td/ns/ci/sa/job", false),
        ("spiffe://td/ns/shop/sa/reviews", false),
        ("spiffe://td/x", false),
    ] {
        assert_eq!(rules().may_grant(&SpiffeId::parse(identity).unwrap()), can, "{identity}");
    }
}

#[test]
fn all_mistakes_are_reported_with_their_fields() {
    let mistakes = |document: Value| JobRules::from_value(&document).unwrap_err();
    for bad in [json!(null), json!([]), json!({}), json!({"rules": {}}), json!("x")] {
        assert_eq!(mistakes(bad), ["rules: a list of rules is needed"]);
    }
    let told = mistakes(json!({"rule": 1, "rules": [
        {"name": "A b", "issuer": "", "audience": 5, "match": {"ref": "*", "x": []}, "namespace": "a.b",
         "serviceAccount": "{", "maxTTL": "soon", "ttl": "1h"},
        {"match": {}, "maxTTL": "0s"},
        7,
        {"name": "a", "issuer": "https://i", "audience": "x", "match": {"sub": "abc"}, "namespace": "a",
         "serviceAccount": "b", "maxTTL": "1m"},
        {"name": "a", "issuer": "https://i", "audience": "x", "match": {"sub": "r*"}, "namespace": "a",
         "serviceAccount": "b", "maxTTL": "1m", "jwks": "/elsewhere"},
    ]}));
    for field in [
        "rule: no such field",
        "rules[0].ttl: no such field",
        "rules[0].name: ",
        "rules[0].issuer: ",
        "rules[0].audience: ",
        "rules[0].match: say whose job it is",
        "rules[0].match.ref: a wildcard needs",
        "rules[0].match.x: ",
        "rules[0].namespace: ",
        "rules[0].serviceAccount: ",
        "rules[0].maxTTL: \"soon\"",
        "rules[1].name: ",
        "rules[1].match: missing",
        "rules[1].maxTTL: \"0s\"",
        "rules[2]: ",
        "rules[4].match.sub: a wildcard needs",
        "rules[4].name: \"a\" stands twice",
        "rules[4].jwks: rule a finds",
    ] {
        assert!(told.iter().any(|mistake| mistake.starts_with(field)), "{field:?} is not among {told:#?}");
    }
    assert_eq!(JobRules::from_value(&json!({"rules": []})), Ok(JobRules::default()));
}
