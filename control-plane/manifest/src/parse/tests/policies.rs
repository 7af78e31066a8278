//! PeerAuthentication and DestinationRule: one test for each mistake of POLICY.md V1 to V3.

use eastwest_model::policy::{ClientTlsMode, MutualTlsMode};

use super::*;

/// A valid manifest that uses every field.
pub(super) const EVERYTHING: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: a, namespace: shop, creationTimestamp: '2025-03-01T08:00:00Z', labels: {a: b}}
spec:
  selector: {matchLabels: {app: reviews}}
  mtls: {mode: STRICT}
  portLevelMtls:
    8080: {mode: DISABLE}
    '9090': {}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: shop}
spec:
  host: reviews
  exportTo: ['.']
  workloadSelector: {matchLabels: {app: client}}
  trafficPolicy:
    loadBalancer: {simple: PASSTHROUGH}
    connectionPool: {tcp: {maxConnections: 5}}
    tls: {mode: MUTUAL, sni: s, subjectAltNames: [b, a], clientCertificate: /c, privateKey: /k, caCertificates: /ca}
    portLevelSettings:
    - port: {number: 9080}
      tls: {mode: SIMPLE, credentialName: configmap://shop/roots}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
";

#[test]
fn everything_arrives() {
    let parsed = parse(EVERYTHING);
    let [Object::PeerAuthentication(policy), Object::DestinationRule(rule)] = &parsed.objects[..] else {
        panic!("{parsed:?}")
    };
    assert_eq!(policy.mode, Some(MutualTlsMode::Strict));
    assert_eq!(policy.ports, [(8080, Some(MutualTlsMode::Disable)), (9090, None)].into());
    assert_eq!(policy.selector.0, [("app".into(), "reviews".into())].into());
    assert_eq!(policy.meta.created.0, 1_740_816_000);
    assert_eq!(policy.meta.labels["a"], "b".into());
    assert_eq!(policy.meta.origin.to_string(), "mesh.yaml:1");
    assert_eq!(rule.meta.origin.to_string(), "mesh.yaml:11");
    assert_eq!((rule.host.as_str(), &*rule.written_host), ("reviews.shop.svc.cluster.local", "reviews"));
    assert!(rule.workload_selector.is_some());
    let general = rule.traffic_policy.as_ref().unwrap();
    assert!(general.blocks.is_passthrough());
    let pool = general.blocks.connection_pool.as_ref().unwrap();
    assert_eq!(pool.tcp.as_ref().unwrap().max_connections, Some(5));
    let tls = general.blocks.tls.as_ref().unwrap();
    assert_eq!(tls.mode, ClientTlsMode::Mutual);
    assert_eq!(tls.subject_alt_names, ["b".into(), "a".into()]);
    assert_eq!(general.ports[0].port, 9080);
    assert_eq!(
        rule.subsets[0].traffic_policy.as_ref().unwrap().blocks.tls.as_ref().unwrap().mode,
        ClientTlsMode::IstioMutual
    );
}

#[test]
fn d1_hosts_are_expanded() {
    let host = |host: &str| {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: a, namespace: ns}}, spec: {{host: '{host}'}}}}"
        );
        let parsed = parse(&text);
        let [Object::DestinationRule(rule)] = &parsed.objects[..] else { panic!("{parsed:?}") };
        rule.host.as_str().to_owned()
    };
    assert_eq!(host("a"), "a.ns.svc.cluster.local");
    assert_eq!(host("*-east"), "*-east.ns.svc.cluster.local");
    for literal in ["*", "a.ns", "a.ns.svc", "10.0.0.1", "*.local"] {
        assert_eq!(host(literal), literal);
    }
    assert_eq!(host("A.Example.org"), "a.example.org");
}

#[test]
fn v1_modes() {
    let kind = "PeerAuthentication";
    for good in ["{}", "{mtls: {}}", "{mtls: {mode: UNSET}}", "{mtls: null}", "{mtls: {mode: PERMISSIVE}}"] {
        check(kind, good, &[]);
    }
    check(
        kind,
        "{mtls: {mode: strict}}",
        &[
            "! spec.mtls.mode: \"strict\" is not among the modes UNSET, DISABLE, PERMISSIVE, STRICT (did you mean \"STRICT\"?)",
        ],
    );
    check(
        kind,
        "{mtls: {mode: ISTIO_MUTUAL}}",
        &["! spec.mtls.mode: \"ISTIO_MUTUAL\" is not among the modes"],
    );
    check(kind, "{mtls: {mode: 3}}", &["! spec.mtls.mode: 3 is not text"]);
    check(kind, "{mtls: STRICT}", &["! spec.mtls: \"STRICT\" is not a mapping"]);
    check(kind, "STRICT", &["! spec: \"STRICT\" is not a mapping"]);
}

#[test]
fn v1_ports() {
    let kind = "PeerAuthentication";
    let ports = |ports: &str| format!("{{selector: {{matchLabels: {{a: b}}}}, portLevelMtls: {ports}}}");
    check(kind, &ports("{1: {}, 65535: {mode: STRICT}}"), &[]);
    for (bad, key) in [("{0: {}}", "0"), ("{65536: {}}", "65536"), ("{http: {}}", "http"), ("{-1: {}}", "-1")]
    {
        let golden = format!(
            "! spec.portLevelMtls.{key}: \"{key}\" is not a container port: use a number from 1 to 65535"
        );
        check(kind, &ports(bad), &[&golden]);
    }
    check(
        kind,
        &ports("{8080: {mode: OFF}}"),
        &["! spec.portLevelMtls.8080.mode: \"OFF\" is not among the modes"],
    );
    check(kind, &ports("{}"), &["! spec.portLevelMtls: is empty"]);
    check(kind, &ports("[8080]"), &["! spec.portLevelMtls: [8080] is not a mapping"]);
    check(kind, "{portLevelMtls: {8080: {}}}", &["! spec.portLevelMtls: needs a selector with labels"]);
    check(
        kind,
        "{selector: {matchLabels: {}}, portLevelMtls: {8080: {}}}",
        &["! spec.portLevelMtls: needs a selector with labels", "? spec.selector: names no label"],
    );
}

#[test]
fn v1_selectors() {
    let kind = "PeerAuthentication";
    let labels = |labels: &str| format!("{{selector: {{matchLabels: {labels}}}}}");
    check(kind, &labels("{}"), &["? spec.selector: names no label"]);
    check(kind, "{selector: {}}", &["? spec.selector: names no label"]);
    check(kind, &labels("{'': x}"), &["! spec.selector.matchLabels: the label key of value \"x\" is empty"]);
    check(kind, &labels("{'a*': x}"), &["! spec.selector.matchLabels: a*=x has a wildcard"]);
    check(kind, &labels("{a: '*'}"), &["! spec.selector.matchLabels: a=* has a wildcard"]);
    check(
        kind,
        &labels("{a: true}"),
        &["! spec.selector.matchLabels.a: true is not text: put it in quotes, \"true\""],
    );
    check(kind, &labels(&format!("{{a: {}}}", "x".repeat(63))), &[]);
    check(kind, &labels(&format!("{{a: {}}}", "x".repeat(64))), &["! spec.selector.matchLabels: \"xxx"]);
}

#[test]
fn v2_hosts() {
    let kind = "DestinationRule";
    check(kind, "{}", &["! spec.host: missing: name the service that the rule is for"]);
    check(kind, "{host: ''}", &["! spec.host: \"\" is refused: a host has 1 to 255 bytes"]);
    check(
        kind,
        "{host: 'api.*.lab'}",
        &["! spec.host: \"api.*.lab\" is refused: a wildcard may only stand at the front"],
    );
    check(kind, "{host: 'a_b'}", &["! spec.host: \"a_b\" is refused: the label \"a_b\""]);
    check(kind, "{host: '*.lab'}", &[]);
}

/// The same block as general policy, of a port and of a subset.
#[track_caller]
fn check_tls(tls: &str, golden: &[(char, &str, &str)]) {
    let policy = format!("tls: {tls}");
    let places = [
        ("spec.trafficPolicy", format!("trafficPolicy: {{{policy}}}")),
        (
            "spec.trafficPolicy.portLevelSettings[0]",
            format!("trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, {policy}}}]}}"),
        ),
        ("spec.subsets[0].trafficPolicy", format!("subsets: [{{name: v1, trafficPolicy: {{{policy}}}}}]")),
    ];
    for (place, spec) in places {
        let golden = golden.iter().map(|(mark, field, text)| format!("{mark} {place}.tls.{field}: {text}"));
        let golden: Vec<String> = golden.collect();
        let golden: Vec<&str> = golden.iter().map(String::as_str).collect();
        check("DestinationRule", &format!("{{host: a, {spec}}}"), &golden);
    }
}

#[test]
fn v2_tls_modes() {
    for good in ["DISABLE", "SIMPLE", "ISTIO_MUTUAL"] {
        check_tls(&format!("{{mode: {good}}}"), &[]);
    }
    check_tls(
        "{mode: PERMISSIVE}",
        &[('!', "mode", "\"PERMISSIVE\" is not among the modes DISABLE, SIMPLE, MUTUAL")],
    );
    check_tls(
        "{mode: MUTUAL}",
        &[
            ('!', "clientCertificate", "missing: mode MUTUAL needs clientCertificate; give the path"),
            ('!', "privateKey", "missing: mode MUTUAL needs privateKey"),
        ],
    );
    check_tls(
        "{mode: MUTUAL, clientCertificate: /c}",
        &[('!', "privateKey", "missing: mode MUTUAL needs privateKey")],
    );
    check_tls("{mode: MUTUAL, clientCertificate: /c, privateKey: /k}", &[]);
}

#[test]
fn v2_credentials() {
    let plaintext = ('?', "credentialName", "is ignored by sidecars unless the rule has a workloadSelector");
    check_tls("{mode: SIMPLE, credentialName: c}", &[plaintext]);
    check_tls("{mode: MUTUAL, credentialName: c}", &[plaintext]);
    let files = "credentialName \"c\" excludes caCertificates, caCrl: give one source";
    check_tls(
        "{mode: SIMPLE, credentialName: c, caCertificates: /ca, caCrl: /crl}",
        &[('!', "credentialName", files), plaintext],
    );
    check_tls("{mode: SIMPLE, credentialName: configmap://lab/x}", &[]);
    for bad in
        ["configmap://x", "configmap:///x", "configmap://lab/", "configmap://vault/x", "configmap://lab/x/y"]
    {
        let golden = format!(
            "\"{bad}\" is refused: a ConfigMap must be of the rule's own namespace, configmap://lab/NAME"
        );
        check_tls(&format!("{{mode: SIMPLE, credentialName: '{bad}'}}"), &[('!', "credentialName", &golden)]);
    }
    let selecting = "{host: a, workloadSelector: {matchLabels: {a: b}}, trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}}";
    check("DestinationRule", selecting, &[]);
}

#[test]
fn v2_insecure_skip_verify() {
    check_tls("{mode: SIMPLE, insecureSkipVerify: true}", &[]);
    check_tls("{mode: SIMPLE, insecureSkipVerify: false, caCertificates: /c}", &[]);
    check_tls(
        "{mode: SIMPLE, insecureSkipVerify: true, caCertificates: /c, subjectAltNames: [a]}",
        &[('!', "insecureSkipVerify", "excludes caCertificates, subjectAltNames")],
    );
    check_tls(
        "{mode: SIMPLE, insecureSkipVerify: true, credentialName: configmap://lab/x}",
        &[('!', "insecureSkipVerify", "excludes credentialName")],
    );
    let files = "clientCertificate: /c, privateKey: /k";
    check_tls(
        &format!("{{mode: MUTUAL, insecureSkipVerify: true, {files}, subjectAltNames: [a]}}"),
        &[('!', "insecureSkipVerify", "excludes subjectAltNames")],
    );
    check_tls(
        "{mode: SIMPLE, insecureSkipVerify: 'yes'}",
        &[('!', "insecureSkipVerify", "\"yes\" is not true or false")],
    );
}

#[test]
fn v2_empty_policies_and_ports() {
    let kind = "DestinationRule";
    check(kind, "{host: a}", &[]);
    check(kind, "{host: a, trafficPolicy: {}}", &["! spec.trafficPolicy: is empty"]);
    check(kind, "{host: a, trafficPolicy: {portLevelSettings: []}}", &["! spec.trafficPolicy: is empty"]);
    check(
        kind,
        "{host: a, trafficPolicy: {connectionPool: {}}}",
        &["! spec.trafficPolicy.connectionPool: is empty"],
    );
    check(
        kind,
        "{host: a, subsets: [{name: v1, trafficPolicy: {}}]}",
        &["! spec.subsets[0].trafficPolicy: is empty"],
    );
    let ports = |entry: &str| format!("{{host: a, trafficPolicy: {{portLevelSettings: [{entry}]}}}}");
    let place = "! spec.trafficPolicy.portLevelSettings[0]";
    check(kind, &ports("{tls: {mode: DISABLE}}"), &[&format!("{place}.port: missing")]);
    check(kind, &ports("{port: {number: 80}}"), &[&format!("{place}: an entry needs content")]);
    check(kind, &ports("{port: 80, tls: {mode: DISABLE}}"), &[&format!("{place}.port: 80 is not a mapping")]);
    check(kind, &ports("null"), &[&format!("{place}: null is not an item")]);
    check(
        kind,
        "{host: a, trafficPolicy: {tunnel: {targetHost: b.example, targetPort: 1}, proxyProtocol: {}}}",
        &["! spec.trafficPolicy.tunnel: excludes", "? spec.trafficPolicy.tunnel: is not in force"],
    );
}

#[test]
fn v2_subsets() {
    let kind = "DestinationRule";
    let subsets = |subsets: &str| format!("{{host: a, subsets: {subsets}}}");
    check(kind, &subsets("[{name: v1}, {name: v2, labels: {version: v2}}]"), &[]);
    check(kind, &subsets("[{}]"), &["! spec.subsets[0].name: missing"]);
    check(kind, &subsets("[{name: ''}]"), &["! spec.subsets[0].name: \"\" is no name of a subset"]);
    check(kind, &subsets("[{name: v1}, {name: v1}]"), &["! spec.subsets[1].name: \"v1\" stands twice"]);
    check(kind, &subsets("[{name: v.1}]"), &["! spec.subsets[0].name: \"v.1\" is no name of a subset"]);
    check(
        kind,
        &subsets("[{name: v1, labels: {'a b': c d}}]"),
        &[
            "! spec.subsets[0].labels: \"a b\" is no label key",
            "! spec.subsets[0].labels: \"c d\" is no label value",
        ],
    );
}

#[test]
fn v2_export_to() {
    let kind = "DestinationRule";
    let exported = |list: &str| format!("{{host: a, exportTo: {list}}}");
    for good in ["[]", "['*']", "['.']", "[lab]", "[other, '.']", "[one, two]"] {
        check(kind, &exported(good), &[]);
    }
    check(kind, &exported("[one, one]"), &["! spec.exportTo[1]: \"one\" stands twice: name"]);
    check(
        kind,
        &exported("['.', lab]"),
        &["! spec.exportTo[1]: \"lab\" stands twice (\".\" is the own namespace)"],
    );
    check(
        kind,
        &exported("[lab, '.']"),
        &["! spec.exportTo[1]: \".\" stands twice (\".\" is the own namespace)"],
    );
    check(kind, &exported("['*', team-a]"), &["! spec.exportTo: \"*\" must stand alone"]);
    check(kind, &exported("['~']"), &["! spec.exportTo[0]: \"~\" (nobody) is for services"]);
    check(kind, &exported("[Team_A]"), &["! spec.exportTo[0]: \"Team_A\" is no namespace"]);
    check(kind, &exported("'*'"), &["! spec.exportTo: \"*\" is not a list"]);
    let selecting =
        |list: &str| format!("{{host: a, workloadSelector: {{matchLabels: {{a: b}}}}, exportTo: {list}}}");
    for good in ["[]", "['.']", "[lab]"] {
        check(kind, &selecting(good), &[]);
    }
    for bad in ["['*']", "[other]", "['.', other]"] {
        check(
            kind,
            &selecting(bad),
            &["! spec.exportTo: exported beyond lab, but a rule with workloadSelector"],
        );
    }
    let wildcard = "{host: a, workloadSelector: {matchLabels: {a: 'b*'}}}";
    check(kind, wildcard, &["! spec.workloadSelector.matchLabels: a=b* has a wildcard"]);
}

#[test]
fn v3_accepted_with_a_warning() {
    let kind = "DestinationRule";
    check_tls(
        "{mode: ISTIO_MUTUAL, caCertificates: /a, clientCertificate: /c, privateKey: /k}",
        &[
            ('?', "caCertificates", "has no effect with mode ISTIO_MUTUAL"),
            ('?', "clientCertificate", "has no effect with mode ISTIO_MUTUAL"),
            ('?', "privateKey", "has no effect with mode ISTIO_MUTUAL"),
        ],
    );
    check_tls(
        "{mode: SIMPLE, clientCertificate: /c, privateKey: /k}",
        &[
            ('?', "clientCertificate", "has no effect with mode SIMPLE"),
            ('?', "privateKey", "has no effect with mode SIMPLE"),
        ],
    );
    check_tls(
        "{mode: MUTUAL, credentialName: configmap://lab/x, insecureSkipVerify: true}",
        &[('?', "insecureSkipVerify", "the trust bundle of credentialName is not used")],
    );
    check_tls("{mode: SIMPLE, subjectAltNames: ['']}", &[('?', "subjectAltNames", "has an empty name")]);
    check_tls("{sni: x}", &[('?', "mode", "missing, and that means DISABLE")]);
    let ports = |entries: &str| format!("{{host: a, trafficPolicy: {{portLevelSettings: [{entries}]}}}}");
    let tls = "tls: {mode: SIMPLE}";
    for port in [0, 70000] {
        let golden = format!(
            "? spec.trafficPolicy.portLevelSettings[0].port.number: {port} is no port of any Service"
        );
        check(kind, &ports(&format!("{{port: {{number: {port}}}, {tls}}}")), &[&golden]);
    }
    let twice = format!("{{port: {{number: 80}}, {tls}}}, {{port: {{number: 80}}, {tls}}}");
    check(kind, &ports(&twice), &["? spec.trafficPolicy.portLevelSettings[1].port.number: 80 stands twice"]);
    let replaced = "{host: a, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {}}}]}}";
    check(
        kind,
        replaced,
        &["? spec.trafficPolicy.portLevelSettings[0]: an entry replaces the whole general policy"],
    );
}

#[test]
fn v3_misspelt_fields() {
    check(
        "PeerAuthentication",
        "{mtsl: {mode: STRICT}}",
        &["? spec.mtsl: there is no field \"mtsl\" here, it is ignored (did you mean \"mtls\"?)"],
    );
    check(
        "PeerAuthentication",
        "{action: ALLOW}",
        &[
            "? spec.action: there is no field \"action\" here, it is ignored; known are selector, mtls, portLevelMtls",
        ],
    );
    check(
        "DestinationRule",
        "{host: a, trafficPolicy: {tls: {mode: DISABLE, SNI: x}}}",
        &[
            "? spec.trafficPolicy.tls.SNI: there is no field \"SNI\" here, it is ignored (did you mean \"sni\"?)",
        ],
    );
    // Then nothing is left of the policy.
    check(
        "DestinationRule",
        "{host: a, trafficPolicy: {TLS: {mode: DISABLE}}}",
        &["! spec.trafficPolicy: is empty", "? spec.trafficPolicy.TLS: there is no field \"TLS\""],
    );
}

/// Of fields that have no meaning here, only likely slips are reported.
#[test]
fn v3_slips_at_every_level() {
    let whole = |text: &str, golden: &[&str]| {
        let found = findings(text);
        assert_eq!(found.len(), golden.len(), "{text}\n{found:#?}");
        for (found, golden) in found.iter().zip(golden) {
            assert!(found.starts_with(golden), "{text}\n  found {found}\n golden {golden}");
        }
    };
    let policy = "apiVersion: security.istio.io/v1, kind: PeerAuthentication";
    whole(
        &format!("{{{policy}, metadata: {{name: x, lables: {{}}}}, sepc: {{}}}}"),
        &[
            "? metadata.lables: there is no field \"lables\" here, it is ignored (did you mean \"labels\"?)",
            "? sepc: there is no field \"sepc\" here, it is ignored (did you mean \"spec\"?)",
        ],
    );
    whole(
        &format!("{{{policy}, metadata: {{name: x, uid: 1a, generation: 3}}, status: {{}}, spec: {{}}}}"),
        &[],
    );
    let service = "apiVersion: v1, kind: Service, metadata: {name: x}";
    whole(
        &format!(
            "{{{service}, spec: {{selctor: {{a: b}}, ports: [{{port: 80, targetport: 81, nodePort: 3}}], externalIPs: []}}}}"
        ),
        &[
            "? spec.ports[0].targetport: there is no field \"targetport\" here, it is ignored (did you mean \"targetPort\"?)",
            "? spec.selctor: there is no field \"selctor\" here, it is ignored (did you mean \"selector\"?)",
        ],
    );
    let rule = |policy: &str, golden: &[&str]| {
        check("DestinationRule", &format!("{{host: a, trafficPolicy: {policy}}}"), golden)
    };
    rule(
        "{loadBalancer: {simpel: RANDOM}}",
        &["? spec.trafficPolicy.loadBalancer.simpel: there is no field"],
    );
    rule(
        "{connectionPool: {tcpp: {}, http: {maxRetrys: 1}}}",
        &[
            "? spec.trafficPolicy.connectionPool.http.maxRetrys: there is no field",
            "? spec.trafficPolicy.connectionPool.tcpp: there is no field",
        ],
    );
    rule(
        "{outlierDetection: {intervall: 1s, somethingOfTomorrow: 1}}",
        &["? spec.trafficPolicy.outlierDetection.intervall: there"],
    );
    let mesh = "apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}";
    whole(
        &format!("{{{mesh}, data: {{mesh: 'meshMTLS: {{minProtocolVersions: TLSV1_3}}'}}}}"),
        &["? data.mesh.meshMTLS.minProtocolVersions: there is no field"],
    );
    whole(
        &format!("{{{mesh}, data: {{mesh: 'outboundTrafficPolicy: {{mode: ALLOW_ANY_DYNAMIC_DNS}}'}}}}"),
        &["? data.mesh.outboundTrafficPolicy.mode: acts as ALLOW_ANY"],
    );
}

/// Modes that are known stand in for a refused policy that asks for STRICT; never where its workloads are in doubt.
#[test]
fn v4_what_stands_in_for_a_refused_policy() {
    let stand_in = |spec: &str| {
        let text = format!(
            "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: a, namespace: shop}}, \
             spec: {spec}}}"
        );
        let parsed = parse(&text);
        assert!(parsed.objects.is_empty() && parsed.refused.len() == 1, "{spec}: {parsed:?}");
        parsed.stand_ins.first().map(|object| match object {
            Object::PeerAuthentication(policy) => {
                (policy.mode, policy.ports.clone().into_iter().collect::<Vec<_>>(), policy.selector.0.len())
            }
            other => panic!("{other:?}"),
        })
    };
    let (strict, disable) = (Some(MutualTlsMode::Strict), Some(MutualTlsMode::Disable));
    let selected = |rest: &str| stand_in(&format!("{{selector: {{matchLabels: {{app: a}}}}, {rest}}}"));
    assert_eq!(
        stand_in("{mtls: {mode: STRICT}, portLevelMtls: {'1': {mode: DISABLE}}}"),
        Some((strict, vec![], 0))
    );
    let ports = "portLevelMtls: {'1': {mode: DISABLE}, '2': {mode: SRTICT}, x: {mode: STRICT}}";
    let expected = Some((strict, vec![(1, disable), (2, None)], 1));
    assert_eq!(selected(&format!("mtls: {{mode: STRICT}}, {ports}")), expected);
    let expected = Some((None, vec![(1, strict)], 1));
    assert_eq!(selected("mtls: {mode: SRTICT}, portLevelMtls: {'1': {mode: STRICT}}"), expected);
    for open in ["mtls: {mode: SRTICT}", "mtls: {mode: DISABLE}, portLevelMtls: {}", "mtls: 5"] {
        assert_eq!(selected(open), None, "{open}");
    }
    assert_eq!(stand_in("{selector: {matchLabels: {app: 5}}, mtls: {mode: STRICT}}"), None);
}

/// TLS that a rule asks for must not become plaintext because of a mistake elsewhere in the rule.
#[test]
fn v4_what_stands_in_for_a_refused_rule() {
    let stand_in = |spec: &str| {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: a, namespace: shop}}, \
             spec: {{host: a.example.com, {spec}}}}}"
        );
        let parsed = parse(&text);
        assert!(parsed.objects.is_empty() && parsed.refused.len() == 1, "{spec}: {parsed:?}");
        parsed.stand_ins.first().map(|object| match object {
            Object::DestinationRule(rule) => rule.tls_blocks().map(|tls| tls.mode).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
    };
    let bad = "loadBalancer: {simple: NONSENSE}";
    assert_eq!(
        stand_in(&format!("trafficPolicy: {{tls: {{mode: SIMPLE}}, {bad}}}")),
        Some(vec![ClientTlsMode::Simple])
    );
    let ports = format!("portLevelSettings: [{{port: {{number: 443}}, tls: {{mode: SIMPLE}}, {bad}}}]");
    assert_eq!(stand_in(&format!("trafficPolicy: {{{ports}}}")), Some(vec![ClientTlsMode::Simple]));
    let subset = format!("subsets: [{{name: v1, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}, {bad}}}}}]");
    assert_eq!(stand_in(&subset), Some(vec![ClientTlsMode::IstioMutual]));
    for open in [
        format!("trafficPolicy: {{tls: {{mode: DISABLE}}, {bad}}}"),
        format!("trafficPolicy: {{{bad}}}"),
        "trafficPolicy: {tls: {mode: SIMPEL}}".to_owned(),
        "trafficPolicy: {tls: {mode: SIMPLE, subjectAltNames: 5}}".to_owned(),
        format!("subsets: [{{name: a_b, trafficPolicy: {{tls: {{mode: SIMPLE}}, {bad}}}}}]"),
    ] {
        assert_eq!(stand_in(&open), None, "{open}");
    }
}
