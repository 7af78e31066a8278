//! CA.md S37 to S45 and S63, as far as a document decides them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;
use crate::{issuing::new_root::self_signed_root, x509::key::PrivateKey};

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-28 12:00 UTC);

fn root(domain: &str) -> CertificateDer<'static> {
    let domain = eastwest_identity::TrustDomain::parse(domain).unwrap();
    self_signed_root(&domain, &PrivateKey::generate().unwrap(), NOW).unwrap()
}

fn entry(root: &CertificateDer<'_>) -> Value {
    json!({"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(root)]})
}

fn read(keys: Value) -> Result<SpiffeBundle, SpiffeBundleError> {
    SpiffeBundle::from_json(&json!({ "keys": keys }).to_string())
}

#[test]
fn a_bundle_has_keys() {
    let published = SpiffeBundle::of_roots(&TrustBundle::new(vec![root("td")]).unwrap());
    let document: Value = serde_json::from_str(&published.to_json()).unwrap();
    assert!(document["keys"].is_array());
    for text in ["{}", "[]", "", r#"{"keys": {}}"#, r#"{"keys": null}"#, r#"{"keys": []} x"#] {
        assert!(matches!(SpiffeBundle::from_json(text), Err(SpiffeBundleError::Json(_))), "{text}");
    }
}

#[test]
fn a_root_has_its_key_its_use_one_certificate_and_no_kid() {
    let roots = TrustBundle::new(vec![root("td"), root("td")]).unwrap();
    let document: Value = serde_json::from_str(&SpiffeBundle::of_roots(&roots).to_json()).unwrap();
    assert_eq!(document["keys"].as_array().unwrap().len(), 2);
    for (entry, root) in document["keys"].as_array().unwrap().iter().zip(roots.certificates()) {
        let mut names: Vec<_> = entry.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["crv", "kty", "use", "x", "x5c", "y"]);
        assert_eq!(
            (&entry["kty"], &entry["use"], &entry["crv"]),
            (&json!("EC"), &json!("x509-svid"), &json!("P-256"))
        );
        assert_eq!(entry["x5c"], json!([STANDARD.encode(root)]), "one certificate, standard base64");
        assert!(["x", "y"].iter().all(|name| entry[name].as_str().unwrap().len() == 43));
    }
}

#[test]
fn what_is_written_is_read_again() {
    let bundle = SpiffeBundle::of_roots(&TrustBundle::new(vec![root("td")]).unwrap())
        .numbered(u64::MAX)
        .refreshed_every(Duration::from_millis(300_700));
    assert_eq!(bundle.refresh_hint(), Some(Duration::from_secs(300)), "whole seconds");
    assert_eq!(SpiffeBundle::from_json(&bundle.to_json()), Ok(bundle.clone()));
    assert_eq!(bundle.roots().unwrap().pem(), bundle.pem());
}

#[test]
fn unknown_kinds_and_uses_are_skipped() {
    let good = root("td");
    let with = |member: &str, value: Value| {
        let mut entry = entry(&root("td"));
        entry[member] = value;
        entry
    };
    let keys = json!([
        with("kty", json!("LATTICE")),
        with("kty", json!(7)),
        with("use", json!("X509-SVID")),
        with("use", json!("sig")),
        with("use", Value::Null),
        {"x5c": 5, "kty": "oct", "use": ["x509-svid"]},
        "not an object",
        entry(&good),
    ]);
    assert_eq!(read(keys).unwrap().certificates(), [good]);
}

#[test]
fn without_x5c_skipped_of_several_the_first() {
    let (first, second) = (root("td"), root("td"));
    let mut several = entry(&first);
    several["x5c"].as_array_mut().unwrap().push(STANDARD.encode(&second).into());
    several["x5c"].as_array_mut().unwrap().push(json!("not even base64"));
    let keys =
        json!([{"kty": "EC", "use": "x509-svid"}, {"kty": "EC", "use": "x509-svid", "x5c": []}, several]);
    assert_eq!(read(keys).unwrap().certificates(), [first]);
}

#[test]
fn a_damaged_root_spoils_the_document_and_is_named() {
    let leaf = {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().self_signed(&key).unwrap().der().clone()
    };
    for (x5c, problem) in [
        (json!(7), "is not base64"),
        (json!("MII!"), "is not base64"),
        (json!("MIIB"), "is no certificate"),
        (json!(STANDARD.encode([root("td").as_ref(), b"x"].concat())), "is no certificate"),
        (
            json!(STANDARD.encode(&leaf)),
            "it has no basic constraints; have it issued as a CA (basicConstraints=CA:TRUE)",
        ),
    ] {
        let keys = json!([entry(&root("td")), {"kty": "EC", "use": "x509-svid", "x5c": [x5c]}]);
        let error = read(keys).unwrap_err();
        assert_eq!(error, SpiffeBundleError::Key { index: 1, member: "x5c", problem });
        assert!(error.to_string().contains("keys[1].x5c"), "{error}");
    }
    let many: Vec<_> = (0..300).map(|_| json!({"kty": "oct"})).collect();
    assert_eq!(read(many.into()), Err(SpiffeBundleError::TooMany(300)));
}

#[test]
fn no_keys_distrusts_the_whole_domain() {
    let nothing = read(json!([])).unwrap();
    assert!(nothing.certificates().is_empty() && nothing.jwt_keys().is_empty());
    assert!(nothing.roots().is_none(), "nobody verifies with it");
}

#[test]
fn the_number_rises_with_the_content_and_only_then() {
    let one = SpiffeBundle::of_roots(&TrustBundle::new(vec![root("td")]).unwrap());
    let two = SpiffeBundle::of_roots(&TrustBundle::new(vec![root("td")]).unwrap());
    let first = Published::next(None, &one, NOW);
    assert_eq!(first.sequence, NOW.unix_timestamp().unsigned_abs() * 1000);
    let hour = time::Duration::hours(1);
    assert_eq!(Published::next(Some(&first), &one, NOW + hour), first, "as long as the content stays");
    assert_eq!(
        Published::next(Some(&first), &one.clone().numbered(3), NOW),
        first,
        "the number is no content"
    );
    let second = Published::next(Some(&first), &two, NOW);
    assert_eq!(second.sequence, first.sequence + 1, "in the same millisecond");
    let third = Published::next(Some(&second), &one, NOW - hour);
    assert_eq!(
        third.sequence,
        second.sequence + 1,
        "also when the clock went back, and back to an old content"
    );
    let hinted = one.clone().refreshed_every(Duration::from_secs(60));
    assert!(Published::next(Some(&third), &hinted, NOW).sequence > third.sequence, "the hint is content");
    let late = Published { sequence: u64::from(u32::MAX) * 4096, sha256: String::new() };
    assert_eq!(
        Published::next(Some(&late), &one, NOW).sequence,
        late.sequence + 1,
        "whatever the clock says"
    );
    assert!(
        Published::next(None, &two, NOW + hour).sequence > second.sequence,
        "also when the record is lost"
    );

    let large = json!({"spiffe_sequence": u64::MAX, "keys": []}).to_string();
    assert_eq!(SpiffeBundle::from_json(&large).unwrap().sequence(), Some(u64::MAX));
    for bad in ["-1", "1.5", "\"1\"", "18446744073709551616"] {
        let text = format!(r#"{{"spiffe_sequence": {bad}, "keys": []}}"#);
        assert!(matches!(SpiffeBundle::from_json(&text), Err(SpiffeBundleError::Json(_))), "{bad}");
    }
}

#[test]
fn the_refresh_hint_is_integer_seconds() {
    let text = r#"{"spiffe_refresh_hint": 300, "keys": []}"#;
    assert_eq!(SpiffeBundle::from_json(text).unwrap().refresh_hint(), Some(Duration::from_secs(300)));
    for bad in ["\"5m\"", "0.5", "-5"] {
        let text = format!(r#"{{"spiffe_refresh_hint": {bad}, "keys": []}}"#);
        assert!(matches!(SpiffeBundle::from_json(&text), Err(SpiffeBundleError::Json(_))), "{bad}");
    }
}

#[test]
fn a_map_with_a_domain_twice_is_rejected() {
    let one = json!({"keys": [entry(&root("a.example"))]});
    let text =
        format!(r#"{{"trust_domains": {{"a.example": {one}, "b.example": {one}, "a.example": {one}}}}}"#);
    let twice = eastwest_identity::TrustDomain::parse("a.example").unwrap();
    assert_eq!(map_from_json(&text), Err(SpiffeBundleError::Twice(twice)));
    let error = map_from_json(r#"{"trust_domains": {"A": {"keys": []}}}"#).unwrap_err();
    assert!(matches!(error, SpiffeBundleError::TrustDomain { .. }), "{error}");
    let error =
        map_from_json(r#"{"trust_domains": {"a": {"keys": [{"kty":"EC","use":"x509-svid","x5c":["?"]}]}}}"#);
    assert_eq!(error.unwrap_err().to_string(), "a: SPIFFE bundle: keys[0].x5c: is not base64");
    assert!(map_from_json("{}").is_err() && map_from_json("{\"trust_domains\": []}").is_err());
}

#[test]
fn bundles_of_two_domains_stay_apart() {
    let (a, b) = (root("a.example"), root("b.example"));
    let text =
        json!({"trust_domains": {"a.example": {"keys": [entry(&a)]}, "b.example": {"keys": [entry(&b)]}}});
    let bundles = map_from_json(&text.to_string()).unwrap();
    let of = |domain: &str| {
        bundles[&eastwest_identity::TrustDomain::parse(domain).unwrap()].certificates().to_vec()
    };
    assert_eq!((of("a.example"), of("b.example")), (vec![a], vec![b]));
    assert_eq!(map_from_json(&map_to_json(&bundles)).unwrap(), bundles);
}

#[test]
fn a_jwt_key_has_its_use_and_a_kid_and_nothing_private() {
    let key = json!({"kty": "EC", "use": "jwt-svid", "kid": "k1", "crv": "P-256", "x": "AA", "y": "AA", "d": "SECRET"});
    let mut anonymous = key.clone();
    anonymous.as_object_mut().unwrap().remove("kid");
    let bundle = read(json!([key, anonymous])).unwrap();
    let [only] = bundle.jwt_keys() else { panic!("{bundle:?}") };
    assert_eq!(only.kid(), "k1");
    for text in [bundle.to_json(), bundle.jwt_key_set()] {
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&document["keys"][0]["use"], &document["keys"][0]["kid"]),
            (&json!("jwt-svid"), &json!("k1"))
        );
        assert!(!text.contains("SECRET"), "{text}");
    }
}
