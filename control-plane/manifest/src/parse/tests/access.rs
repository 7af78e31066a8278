//! AuthorizationPolicy and RequestAuthentication.

use eastwest_model::policy::KeySource;

use super::*;

/// The fields with an error, each once, and the objects that are taken.
fn read(kind: &str, metadata: &str, spec: &str) -> (Vec<String>, Vec<Object>) {
    let head = format!("apiVersion: security.istio.io/v1beta1\nkind: {kind}\n");
    let parsed = parse(&format!("{head}metadata: {{name: x, namespace: lab{metadata}}}\nspec: {spec}\n"));
    let errors = parsed.diagnostics.iter().filter(|one| one.severity == Severity::Error);
    for error in errors.clone() {
        assert_eq!(error.object, format!("{kind}/lab/x"));
        assert!(error.message.len() > 20, "{error:?}");
    }
    let mut fields: Vec<String> = errors.map(|error| error.field.clone()).collect();
    fields.dedup();
    (fields, parsed.objects)
}

/// Each spec is refused for these fields, all at once.
#[track_caller]
fn refused(kind: &str, cases: &[(&str, &[&str])]) {
    for (spec, fields) in cases {
        let (found, objects) = read(kind, "", spec);
        assert_eq!(found, *fields, "{spec}");
        assert!(objects.is_empty(), "{spec}");
    }
}

const POLICY: &str = "AuthorizationPolicy";

#[test]
fn z54_policies_are_refused_for() {
    refused(
        POLICY,
        &[
            ("{action: PERMIT}", &["spec.action"]),
            ("{action: DENY}", &["spec.rules"]),
            ("{action: DENY, rules: []}", &["spec.rules"]),
            ("{action: CUSTOM, provider: {name: x}}", &["spec.rules"]),
            ("{action: CUSTOM, rules: [{}]}", &["spec.provider"]),
            ("{provider: {name: x}, rules: [{}]}", &["spec.provider"]),
            ("{selector: {matchLabels: {app: 'a*'}}}", &["spec.selector.matchLabels"]),
            ("{selector: {matchLabels: {a: b}}, targetRef: {kind: Service, name: x}}", &["spec.targetRef"]),
            ("{targetRefs: [{kind: Service}]}", &["spec.targetRefs[0].name"]),
            ("{targetRefs: [{kind: Service, name: x, namespace: y}]}", &["spec.targetRefs[0].namespace"]),
            ("{targetRefs: [{kind: Pod, name: x}]}", &["spec.targetRefs[0].kind"]),
            (
                "{action: CUSTOM, provider: {name: x}, rules: [{from: [{source: {notPrincipals: [a], \
                 requestPrincipals: [b]}}], when: [{key: 'request.auth.claims[a]', values: [b]}]}]}",
                &[
                    "spec.rules[0].from[0].source.notPrincipals",
                    "spec.rules[0].from[0].source.requestPrincipals",
                    "spec.rules[0].when[0].key",
                ],
            ),
        ],
    );
    for (action, value, is_refused) in [
        ("ALLOW", "'T'", false),
        ("DENY", "'0'", false),
        ("ALLOW", "'yes'", true),
        ("AUDIT", "'true'", true),
        ("AUDIT", "'false'", true),
    ] {
        let annotation = format!(", annotations: {{istio.io/dry-run: {value}}}");
        let (errors, objects) = read(POLICY, &annotation, &format!("{{action: {action}, rules: [{{}}]}}"));
        assert_eq!(errors.len(), usize::from(is_refused), "{action} {value}: {errors:?}");
        let dry = |object: &Object| matches!(object, Object::AuthorizationPolicy(policy) if policy.dry_run);
        assert_eq!(objects.iter().any(dry), action == "ALLOW" && !is_refused, "{action} {value}");
    }
}

/// A rule with one source or operation.
fn in_rule(part: &str, inner: &str) -> String {
    let field = if part == "from" { "source" } else { "operation" };
    format!("{{rules: [{{{part}: [{{{field}: {inner}}}]}}]}}")
}

#[test]
fn z55_sources_and_operations_are_refused_for() {
    let long = format!("[{}]", vec!["a"; 17].join(", "));
    for (part, inner, field) in [
        ("from", "{}", ""),
        ("from", "{principals: []}", ""),
        ("from", "{principals: [a, '']}", ".principals[1]"),
        ("from", "{ipBlocks: [10.0.0.0/33]}", ".ipBlocks[0]"),
        ("from", "{notRemoteIpBlocks: [host]}", ".notRemoteIpBlocks[0]"),
        ("from", "{serviceAccounts: ['a*']}", ".serviceAccounts[0]"),
        ("from", "{serviceAccounts: [a/b/c]}", ".serviceAccounts[0]"),
        ("from", "{serviceAccounts: [/a]}", ".serviceAccounts[0]"),
        ("from", &format!("{{serviceAccounts: {long}}}"), ".serviceAccounts"),
        ("from", "{serviceAccounts: [a], notNamespaces: [b]}", ".serviceAccounts"),
        ("from", "{trustDomains: [a/b]}", ".trustDomains[0]"),
        ("from", "{trustDomains: ['a*b']}", ".trustDomains[0]"),
        ("from", "{trustDomains: ['*a*']}", ".trustDomains[0]"),
        ("to", "{ports: ['http']}", ".ports[0]"),
        ("to", "{notPorts: ['65536']}", ".notPorts[0]"),
        ("to", "{ports: ['+80']}", ".ports[0]"),
        ("to", "{hosts: ['']}", ".hosts[0]"),
    ] {
        let place = if part == "from" { "from[0].source" } else { "to[0].operation" };
        refused(POLICY, &[(&in_rule(part, inner), &[&format!("spec.rules[0].{place}{field}")])]);
    }
}

#[test]
fn z56_templates_are_refused_for() {
    for path in [
        "/a{*}",
        "/{*}b",
        "/{**}/{*}",
        "/{**}/{**}",
        "/{a}",
        "/{",
        "/a/{*}/*",
        "/a//{*}",
        "/a/{*}/",
        "{*}",
        "/ /{*}",
    ] {
        let (errors, _) = read(POLICY, "", &in_rule("to", &format!("{{paths: ['{path}']}}")));
        assert_eq!(errors, ["spec.rules[0].to[0].operation.paths[0]"], "{path}");
    }
    for path in ["/{*}", "/a/{*}/b/{**}", "/{**}/b", "*/a/*", "/a//b", "a", "/{*}/{*}"] {
        let (errors, _) = read(POLICY, "", &in_rule("to", &format!("{{paths: ['{path}']}}")));
        assert!(errors.is_empty(), "{path}: {errors:?}");
    }
}

#[test]
fn z57_conditions_are_refused_for() {
    for (condition, field) in [
        ("{values: [a]}", "key"),
        ("{key: source.ip}", ""),
        ("{key: source.IP, values: [10.0.0.1]}", "key"),
        ("{key: 'destination.labels[app]', values: [a]}", "key"),
        ("{key: 'request.headers', values: [a]}", "key"),
        ("{key: 'request.headers[]', values: [a]}", "key"),
        ("{key: 'request.auth.claims[a][]', values: [a]}", "key"),
        ("{key: experimental.envoy.filters.http.lua, values: [a]}", "key"),
        ("{key: source.ip, values: [x]}", "values[0]"),
        ("{key: destination.port, notValues: ['x']}", "notValues[0]"),
        ("{key: source.serviceAccount, values: ['*']}", "values[0]"),
        ("{key: 'request.headers[a]', values: ['']}", "values[0]"),
    ] {
        let (errors, objects) = read(POLICY, "", &format!("{{rules: [{{when: [{condition}]}}]}}"));
        let field = if field.is_empty() { String::new() } else { format!(".{field}") };
        assert_eq!(errors, [format!("spec.rules[0].when[0]{field}")], "{condition}");
        assert!(objects.is_empty());
    }
}

const KEYS: &str = r#"'{"keys": [{"kty": "RSA", "n": "AA", "e": "AQAB", "d": "c2VjcmV0"}]}'"#;

#[test]
fn z58_tokens_are_refused_for() {
    let with = |rest: &str| format!("{{jwtRules: [{{issuer: a, {rest}}}]}}");
    for (spec, field) in [
        ("{jwtRules: [{jwks: '{}'}]}".to_owned(), "issuer"),
        (with("audiences: ['']"), "audiences[0]"),
        (with("fromParams: ['']"), "fromParams[0]"),
        (with("fromCookies: ['']"), "fromCookies[0]"),
        (with("fromHeaders: [{prefix: x}]"), "fromHeaders[0].name"),
        (with("jwksUri: ftp://a/b"), "jwksUri"),
        (with("jwks: nonsense"), "jwks"),
        (with("outputClaimToHeaders: [{claim: a}]"), "outputClaimToHeaders[0].header"),
        (with("outputClaimToHeaders: [{header: a}]"), "outputClaimToHeaders[0].claim"),
        (with("outputClaimToHeaders: [{header: 'a b', claim: c}]"), "outputClaimToHeaders[0].header"),
        (with("timeout: 1us"), "timeout"),
    ] {
        let (errors, _) = read("RequestAuthentication", "", &spec);
        assert!(errors.contains(&format!("spec.jwtRules[0].{field}")), "{spec}: {errors:?}");
    }
    // A set without keys refuses its tokens, and the rest is in force.
    let (errors, objects) =
        read("RequestAuthentication", "", &with("jwks: '{\"keys\": []}', presence: REQUIRED"));
    assert_eq!((errors.len(), objects.len()), (1, 1));
}

/// The private half of a key is left out, and nowhere quoted.
#[test]
fn private_keys_stay_away() {
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: x}}\nspec: {{jwtRules: \
         [{{issuer: a, jwks: {KEYS}}}]}}\n"
    );
    let parsed = parse(&text);
    assert!(!format!("{parsed:?}").contains("c2VjcmV0"));
    assert!(parsed.diagnostics.iter().any(|one| one.message.starts_with("has a private key")), "{parsed:?}");
    let [Object::RequestAuthentication(read)] = &parsed.objects[..] else { panic!("{parsed:?}") };
    assert!(matches!(&read.rules[0].keys, KeySource::Inline(keys) if keys.contains("AQAB")));
}

/// The rules that can be read stand in for a refused policy, so an ALLOW policy with a mistake opens nothing.
#[test]
fn v4_what_stands_in_for_a_refused_policy_of_access() {
    let stand_in = |spec: &str| {
        let text = format!(
            "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: a, namespace: shop}}, \
             spec: {spec}}}"
        );
        let parsed = parse(&text);
        assert!(parsed.objects.is_empty() && parsed.refused.len() == 1, "{spec}: {parsed:?}");
        parsed.stand_ins.first().map(|object| match object {
            Object::AuthorizationPolicy(policy) => (policy.rules.len(), policy.selector.0.len()),
            other => panic!("{other:?}"),
        })
    };
    let good = "{to: [{operation: {methods: [GET]}}]}";
    let bad = "{to: [{operation: {ports: ['http']}}]}";
    let rules = |action: &str, rules: &str| {
        stand_in(&format!("{{selector: {{matchLabels: {{app: a}}}}, action: {action}, rules: [{rules}]}}"))
    };
    assert_eq!(rules("ALLOW", &format!("{bad}, {good}")), Some((1, 1)));
    assert_eq!(rules("ALLOW", bad), Some((0, 1)), "nothing is allowed");
    assert_eq!(rules("DENY", &format!("{good}, {bad}, {good}")), Some((2, 1)));
    for none in [rules("DENY", bad), rules("AUDIT", &format!("{bad}, {good}"))] {
        assert_eq!(none, None);
    }
    assert_eq!(stand_in("{action: ALLOW, rules: 5}"), Some((0, 0)), "nothing is allowed");
    assert_eq!(stand_in(&format!("{{selector: {{matchLabels: {{app: 5}}}}, rules: [{bad}]}}")), None);
    assert_eq!(stand_in(&format!("{{action: ALOW, rules: [{good}]}}")), None);
}
