//! Secrets and ConfigMaps.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use eastwest_model::Credential;

use super::*;

/// A certificate and its key, PEM.
fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["client.example".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn manifest(kind: &str, rest: &str) -> String {
    format!("{{apiVersion: v1, kind: {kind}, metadata: {{name: x, namespace: lab}}, {rest}}}")
}

/// A text as YAML and JSON have it.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[track_caller]
fn read(text: &str) -> Arc<Credential> {
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, []);
    match &parsed.objects[..] {
        [Object::Credential(credential)] => Arc::clone(credential),
        other => panic!("{other:?}"),
    }
}

#[test]
fn certificate_key_and_roots_by_either_names_and_encodings() {
    let (certificate, key) = pair();
    let encode = |text: &str| STANDARD.encode(text);
    let (plain, plain_key) = (quoted(&certificate), quoted(&key));
    for rest in [
        format!("data: {{tls.crt: {}, tls.key: {}, ca.crt: {0}}}", encode(&certificate), encode(&key)),
        format!("data: {{cert: {}, key: {}, cacert: {0}}}", encode(&certificate), encode(&key)),
        format!("stringData: {{tls.crt: {plain}, tls.key: {plain_key}, ca.crt: {plain}}}"),
        format!(
            "data: {{tls.crt: AAAA, tls.key: {}}}, stringData: {{tls.crt: {plain}, cacert: {plain}}}",
            encode(&key)
        ),
        // Generic keys come first; what is empty does not count.
        format!(
            "stringData: {{cert: {plain}, key: {plain_key}, tls.crt: x, tls.key: y, cacert: '', ca.crt: {plain}}}"
        ),
    ] {
        let found = read(&manifest("Secret", &rest));
        let pair = found.pair.clone().unwrap().unwrap();
        assert_eq!((&*pair.certificate_chain, pair.private_key.pem()), (&*certificate, &*key), "{rest}");
        assert_eq!(pair.fingerprint.len(), 64);
        let trust = found.trust.clone().unwrap().unwrap();
        assert_eq!((&*trust.certificates, &trust.fingerprint), (&*certificate, &pair.fingerprint));
        assert!(!format!("{found:?}").contains("PRIVATE"), "a key is shown");
    }
    let found = read(&manifest(
        "ConfigMap",
        &format!("data: {{ca.crt: {plain}, tls.crt: {plain}, tls.key: {plain_key}}}"),
    ));
    assert!(found.pair.is_none() && found.trust.clone().unwrap().is_ok());
    assert_eq!(read(&manifest("Secret", "type: Opaque")).pair, None);
}

#[test]
fn what_is_unusable_is_kept_with_its_reason_and_never_quoted() {
    let ((certificate, key), (_, other)) = (pair(), pair());
    let reason = |data: &[(&str, &str)]| {
        let data: Vec<_> = data.iter().map(|(name, text)| format!("{name}: {}", quoted(text))).collect();
        let found = read(&manifest("Secret", &format!("stringData: {{{}}}", data.join(", "))));
        let trouble = found.pair.clone().and_then(Result::err).or(found.trust.clone().and_then(Result::err));
        trouble.unwrap().to_string()
    };
    for (data, golden) in [
        (vec![("tls.crt", &*certificate)], "has tls.crt, but no tls.key"),
        (vec![("key", &*key)], "has key, but no cert"),
        (
            vec![("tls.crt", &certificate), ("tls.key", &other)],
            "has a key in tls.key that does not belong to the certificate in tls.crt",
        ),
        (vec![("tls.crt", "text"), ("tls.key", &key)], "has no certificate as PEM in tls.crt"),
        (vec![("tls.crt", &certificate), ("tls.key", "hunter2")], "has no private key as PEM in tls.key"),
        (
            vec![
                ("tls.crt", "-----BEGIN CERTIFICATE-----\naGkK\n-----END CERTIFICATE-----\n"),
                ("tls.key", &key),
            ],
            "has something else than an X.509 certificate in tls.crt",
        ),
        (vec![("ca.crt", "text")], "has no certificate as PEM in ca.crt"),
    ] {
        assert_eq!(reason(&data), golden);
    }
    for (rest, golden) in [
        (
            "data: {tls.key: 'hunter2!'}",
            "! data[tls.key]: is no base64: encode it, or write it as it is under stringData",
        ),
        ("data: {tls.key: [hunter2]}", "! data[tls.key]: is not text"),
        ("stringData: {key: {hunter2: 1}}", "! stringData.key: is not text"),
    ] {
        let found = findings(&manifest("Secret", rest));
        assert_eq!(found, [golden], "{rest}");
    }
}
