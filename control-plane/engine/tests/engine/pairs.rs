//! Explanations of client-to-server pairs, and warnings about those that cannot talk.

use super::mesh::{DEPOT, Mesh, mesh_config, networking, outsider, policy, rule, service, yard_and_rail};
use eastwest_engine::{
    ConnectionOutcome, Sends,
    explain::{ExplainError, Verdict},
};

fn with(extra: &[String]) -> Mesh {
    Mesh::of(&[&[yard_and_rail()], extra].concat())
}

fn verdict(extra: &[String]) -> Verdict {
    with(extra).explain("yard/client", DEPOT, 80).unwrap().verdict
}

fn block(mode: &str) -> String {
    rule("yard", "depot", 1, &format!("host: {DEPOT}, trafficPolicy: {{tls: {{mode: {mode}}}}}"))
}

fn strict() -> String {
    policy("rail", "default", 1, "mtls: {mode: STRICT}")
}

#[test]
fn both_sides_are_compared() {
    let off = policy("rail", "depot", 1, "selector: {matchLabels: {app: depot}}, mtls: {mode: DISABLE}");
    assert_eq!(verdict(&[]), Verdict::MutualTls);
    assert_eq!(verdict(&[strict()]), Verdict::MutualTls);
    assert_eq!(verdict(std::slice::from_ref(&off)), Verdict::Plaintext, "the endpoint lost its mark");
    assert_eq!(verdict(&[block("ISTIO_MUTUAL"), off.clone()]), Verdict::Refused);
    assert_eq!(verdict(&[block("DISABLE")]), Verdict::Plaintext);
    assert_eq!(verdict(&[block("DISABLE"), strict()]), Verdict::Refused);
    assert_eq!(verdict(&[block("SIMPLE"), strict()]), Verdict::Refused);
    assert_eq!(verdict(&[block("SIMPLE")]), Verdict::Refused, "TLS to a PERMISSIVE port declared HTTP");
    assert_eq!(verdict(&[mesh_config("enableAutoMtls: false"), strict()]), Verdict::Refused);
}

#[test]
fn a_client_without_a_proxy_sends_plaintext_whatever_is_configured() {
    let stranger = outsider("yard", "stranger", "10.9.9.9", "app: stranger");
    let explain = |extra: &[String]| {
        let mesh = with(&[std::slice::from_ref(&stranger), extra].concat());
        mesh.explain("yard/stranger", DEPOT, 80).unwrap()
    };
    assert_eq!(explain(&[]).verdict, Verdict::Plaintext);
    let refused = explain(&[strict(), block("ISTIO_MUTUAL")]);
    assert_eq!((refused.verdict, refused.setting), (Verdict::Refused, None));
    assert!(refused.reason.contains("no proxy"), "{}", refused.reason);
}

#[test]
fn i1_of_two_services_on_one_container_port_the_oldest_says_what_it_carries() {
    let raw = |age: u8| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: raw, namespace: rail, creationTimestamp: '2025-01-{age:02}T00:00:00Z'}},
               spec: {{selector: {{app: depot}}, clusterIP: 10.96.0.9, ports: [{{name: tcp, port: 99, targetPort: 8080}}]}}}}"
        )
    };
    assert_eq!(verdict(&[block("SIMPLE"), raw(1)]), Verdict::Tls, "TLS to a PERMISSIVE port declared TCP");
    assert_eq!(verdict(&[block("SIMPLE"), raw(9)]), Verdict::Refused, "the older Service says HTTP");
}

#[test]
fn a2_a_namespace_that_disables_hides_a_strict_workload_from_its_clients() {
    let mesh = with(&[
        policy("rail", "default", 1, "mtls: {mode: DISABLE}"),
        policy("rail", "depot", 2, "selector: {matchLabels: {app: depot}}, mtls: {mode: STRICT}"),
    ]);
    let explained = mesh.explain("yard/client", DEPOT, 80).unwrap();
    assert_eq!(explained.verdict, Verdict::Refused);
    let [endpoint] = &explained.endpoints[..] else { panic!("one endpoint") };
    assert_eq!((endpoint.pair.sends, endpoint.pair.outcome), (Sends::Plaintext, ConnectionOutcome::Refused));
    assert_eq!(endpoint.pair.server.policy.as_ref().unwrap().to_string(), "PeerAuthentication/rail/depot");
    let setting = explained.setting.unwrap();
    assert_eq!(setting.policy.unwrap().to_string(), "PeerAuthentication/rail/default");
    assert_eq!(setting.origin.unwrap().file.as_deref(), Some("mesh.yaml"));
    let found = mesh.findings("PeerAuthentication/rail/default");
    assert!(found.iter().any(|one| one.contains("cannot connect")), "{found:?}");
}

#[test]
fn a_mix_is_reported_for_each_endpoint() {
    let outside = outsider("rail", "depot-1", "10.0.2.2", "app: depot");
    assert_eq!(verdict(std::slice::from_ref(&outside)), Verdict::Mixed);
    let explained = with(&[outside, block("ISTIO_MUTUAL")]).explain("yard/client", DEPOT, 80).unwrap();
    assert_eq!(explained.verdict, Verdict::PartlyRefused);
    assert!(explained.reason.starts_with("10.0.2.2:8080: "), "{}", explained.reason);
}

#[test]
fn a_server_that_is_not_among_the_accepted_names_is_refused() {
    let spec = format!(
        "host: {DEPOT}, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://cluster.local/ns/rail/sa/other']}}}}"
    );
    assert_eq!(verdict(&[rule("yard", "depot", 1, &spec)]), Verdict::Refused);
}

#[test]
fn hosts_are_found_by_any_name_that_resolves() {
    let alias = "{apiVersion: v1, kind: Service, metadata: {name: nick, namespace: yard}, spec: {type: ExternalName, externalName: depot.rail.svc.cluster.local, ports: [{name: http, port: 80}]}}";
    let mesh = with(&[alias.to_owned()]);
    for name in ["depot.rail", "depot.rail.svc", DEPOT, "10.96.0.1", "nick", "nick.yard", "DEPOT.rail."] {
        let explained = mesh.explain("yard/client", name, 80).unwrap();
        assert_eq!(explained.cluster, format!("outbound|80||{DEPOT}"), "{name}");
    }
    assert_eq!(mesh.explain("rail/depot-0", "depot", 80).unwrap().cluster, format!("outbound|80||{DEPOT}"));
}

#[test]
fn a_wildcard_answers_for_its_instances() {
    let spec = "hosts: ['*.example.org'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE";
    let mesh = with(&[networking("ServiceEntry", "yard", "wild", 1, spec)]);
    let explained = mesh.explain("yard/client", "www.example.org", 443).unwrap();
    assert_eq!(explained.host.unwrap().as_str(), "*.example.org");
}

#[test]
fn what_no_service_knows_is_passed_through_or_refused() {
    let explained = with(&[]).explain("yard/client", "www.example.org", 443).unwrap();
    assert_eq!((explained.verdict, explained.cluster.as_str()), (Verdict::Passthrough, "PassthroughCluster"));
    let closed = with(&[mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")]);
    let explained = closed.explain("yard/client", "192.0.2.7", 443).unwrap();
    assert_eq!((explained.verdict, explained.cluster.as_str()), (Verdict::BlackHole, "BlackHoleCluster"));
}

#[test]
fn the_policy_of_a_pod_counts_for_calls_by_its_own_address() {
    assert_eq!(with(&[]).explain("yard/client", "10.0.2.1", 8080).unwrap().verdict, Verdict::Passthrough);
    let explained = with(&[strict()]).explain("yard/client", "10.0.2.1", 8080).unwrap();
    assert_eq!((explained.verdict, explained.cluster.as_str()), (Verdict::Refused, "PassthroughCluster"));
}

#[test]
fn mistakes_are_answered_with_what_was_probably_meant() {
    let mesh = with(&[service("rail", "tower", "clusterIP: 10.96.0.2")]);
    let error = mesh.explain("yard/client", "depo.rail", 80).unwrap_err();
    let ExplainError::UnknownHost { similar, .. } = &error else { panic!("{error}") };
    assert_eq!(similar[0].as_str(), DEPOT);
    let error = mesh.explain("yard/client", "depot.rail", 8080).unwrap_err().to_string();
    assert!(error.contains("80, 9000") && error.contains("behind service port 80"), "{error}");
    let error = mesh.explain("yard/nobody", "depot.rail", 80).unwrap_err();
    assert!(matches!(error, ExplainError::UnknownClient(_)));
}

#[test]
fn a_service_without_ports_says_so() {
    let bare = "{apiVersion: v1, kind: Service, metadata: {name: bare, namespace: rail}, spec: {clusterIP: 10.96.0.3, selector: {app: depot}}}";
    let error = with(&[bare.to_owned()]).explain("yard/client", "bare.rail", 80).unwrap_err().to_string();
    assert!(error.contains("it has no ports"), "{error}");
}

#[test]
fn names_of_what_is_not_there_are_reported() {
    let tower =
        service("rail", "tower", "clusterIP: 10.96.0.2").replace("targetPort: 8080", "targetPort: web");
    let pod = outsider("rail", "tower-0", "10.0.2.9", "app: tower");
    let sidecar = networking(
        "Sidecar",
        "yard",
        "own",
        1,
        "egress: [{hosts: [./depot, rail/depot, rail/*, nowhere/*, '*/nobody.example', ~rail/depot]}]",
    );
    let mesh = with(&[tower, pod, sidecar]);
    let found = mesh.findings("Service/rail/tower");
    let missing = "no workload that it selects has a container port named \"web\", so nothing is behind port 80: \
                   they have \"http\"";
    assert_eq!(found, [missing]);
    let found = mesh.findings("Sidecar/yard/own");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().any(|one| one.starts_with("./depot imports nothing: no object")), "{found:?}");
    assert!(found.iter().any(|one| one.contains("write rail/depot.rail.svc.cluster.local")), "{found:?}");
    assert!(found.iter().any(|one| one.starts_with("*/nobody.example imports nothing")), "{found:?}");
}

#[test]
fn a_service_without_endpoints_says_so() {
    let mesh = with(&[service("rail", "tower", "clusterIP: 10.96.0.2")]);
    assert_eq!(mesh.explain("yard/client", "tower.rail", 80).unwrap().verdict, Verdict::NoEndpoints);
}

#[test]
fn every_loser_is_named_with_the_rule_that_beat_it() {
    let mesh = with(&[
        rule("yard", "mine", 1, &format!("host: {DEPOT}, trafficPolicy: {{tls: {{mode: DISABLE}}}}")),
        rule("rail", "owner", 2, &format!("host: {DEPOT}, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}")),
        rule("yard", "wide", 3, "host: '*', trafficPolicy: {tls: {mode: SIMPLE}}"),
        rule("rail", "partial", 4, "host: depot.rail, trafficPolicy: {tls: {mode: SIMPLE}}"),
    ]);
    let trace = mesh.explain("yard/client", DEPOT, 80).unwrap().trace;
    let number = |name: &str| {
        let step =
            trace.iter().rev().find(|one| one.object.as_ref().is_some_and(|it| &*it.name == name)).unwrap();
        (step.rule(), step.beaten_by().map(ToString::to_string))
    };
    let winner = Some("DestinationRule/yard/mine".to_owned());
    assert_eq!(number("mine"), ("T4", None));
    assert_eq!(number("owner"), ("D3", winner.clone()));
    assert_eq!(number("wide"), ("D2", winner));
    assert_eq!(number("partial"), ("D1", None));
}

#[test]
fn unused_rules_are_reported() {
    let mesh = with(&[
        rule("port", "third", 1, &format!("host: {DEPOT}, trafficPolicy: {{tls: {{mode: DISABLE}}}}")),
        rule("rail", "partial", 2, "host: depot.rail, trafficPolicy: {tls: {mode: DISABLE}}"),
        policy("rail", "nobody", 3, "selector: {matchLabels: {app: nobody}}, mtls: {mode: STRICT}"),
    ]);
    let says = |object: &str, words: &str| {
        let found = mesh.findings(object);
        assert!(found.iter().any(|one| one.contains(words)), "{object}: {found:?}");
    };
    says("DestinationRule/port/third", "only clients in port");
    says("DestinationRule/rail/partial", "write depot.rail.svc.cluster.local");
    says("PeerAuthentication/rail/nobody", "selects no workload");
}
