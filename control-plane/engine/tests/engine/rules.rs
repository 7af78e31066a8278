//! The rules of the policy reference that the worked cases do not reach, one question each.

use super::mesh::{
    DEPOT, Mesh, mesh_config, networking, outsider, pod, policy, rule, service, text, yard_and_rail,
};
use serde_json::{Value, json};

const OFF: &str = "trafficPolicy: {tls: {mode: DISABLE}}";
const ON: &str = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}";

fn depot(extra: &[String]) -> (String, String) {
    with(extra).depot()
}

fn with(extra: &[String]) -> Mesh {
    Mesh::of(&[&[yard_and_rail()], extra].concat())
}

fn host_and(rest: &str) -> String {
    format!("host: {DEPOT}, {rest}")
}

fn decided(mode: &str, policy: &str) -> (String, String) {
    (mode.to_owned(), policy.to_owned())
}

#[test]
fn p3_selectors_in_the_root_namespace_are_ignored_even_at_home() {
    let mesh = Mesh::of(&[
        pod("istio-system", "relay", "10.0.3.1", "app: relay"),
        policy("istio-system", "relay", 1, "selector: {matchLabels: {app: relay}}, mtls: {mode: STRICT}"),
        policy("istio-system", "mesh", 2, "mtls: {mode: DISABLE}"),
    ]);
    let inbound = mesh.report("istio-system/relay")["inbound"].clone();
    assert_eq!(inbound["default"], "DISABLE");
    assert_eq!(inbound["policy"], "PeerAuthentication/istio-system/mesh");
}

#[test]
fn p7_a_port_without_a_mode_names_who_decided_for_the_workload() {
    let mesh = with(&[
        policy("rail", "all", 1, "mtls: {mode: STRICT}"),
        policy(
            "rail",
            "depot",
            2,
            "selector: {matchLabels: {app: depot}}, portLevelMtls: {'8080': {mode: UNSET}, '9001': {mode: DISABLE}}",
        ),
    ]);
    let inbound = mesh.report("rail/depot-0")["inbound"].clone();
    assert_eq!(inbound["ports"], json!({"8080": "STRICT", "9001": "DISABLE"}));
    let policies = json!({"8080": "PeerAuthentication/rail/all", "9001": "PeerAuthentication/rail/depot"});
    assert_eq!(inbound["port_policies"], policies);
}

#[test]
fn p10_objects_of_another_revision_are_invisible() {
    let other = policy("rail", "canary", 1, "mtls: {mode: STRICT}")
        .replace("namespace: rail,", "namespace: rail, labels: {istio.io/rev: canary},");
    let mesh = with(&[other, policy("rail", "ours", 2, "mtls: {mode: DISABLE}")]);
    assert_eq!(mesh.report("rail/depot-0")["inbound"]["policy"], "PeerAuthentication/rail/ours");
}

#[test]
fn d4_exported_rules_of_the_root_namespace_come_last_for_its_own_clients() {
    let parts = [
        yard_and_rail(),
        pod("istio-system", "relay", "10.0.3.1", "app: relay"),
        rule("istio-system", "shared", 1, &format!("host: '*.local', {OFF}")),
        rule("rail", "depot", 2, &host_and(ON)),
    ];
    let entry = Mesh::of(&parts).call("istio-system/relay", DEPOT, 80, None);
    assert_eq!(entry["policy"], "DestinationRule/rail/depot");
}

#[test]
fn d5_a_hidden_exact_rule_shadows_a_visible_wildcard() {
    let hidden = rule("rail", "hidden", 1, &host_and(&format!("exportTo: [harbor], {OFF}")));
    let wide = rule("rail", "wide", 2, &format!("host: '*.rail.svc.cluster.local', {OFF}"));
    let root = rule("istio-system", "root", 3, &format!("host: '*.local', {ON}"));
    let mesh = with(&[hidden.clone(), wide.clone()]);
    assert_eq!(mesh.depot(), decided("AUTO", "null"));
    assert!(mesh.findings("DestinationRule/rail/wide").iter().any(|one| one.contains("D5")));
    assert_eq!(depot(&[hidden, wide, root]), decided("ISTIO_MUTUAL", "DestinationRule/istio-system/root"));
}

#[test]
fn d6_an_empty_selector_selects_every_client_and_selector_rules_come_first() {
    let all = rule("yard", "all", 9, &host_and(&format!("workloadSelector: {{}}, {OFF}")));
    let plain = rule("yard", "plain", 1, &host_and(ON));
    assert_eq!(depot(&[all, plain]), decided("DISABLE", "DestinationRule/yard/all"));
}

#[test]
fn d6_a_selector_rule_of_another_namespace_does_not_end_the_search() {
    let selecting = rule(
        "rail",
        "own",
        1,
        &host_and(&format!("workloadSelector: {{matchLabels: {{app: client}}}}, {OFF}")),
    );
    let root = rule("istio-system", "root", 2, &format!("host: '*.local', {ON}"));
    assert_eq!(depot(&[selecting, root]), decided("ISTIO_MUTUAL", "DestinationRule/istio-system/root"));
}

#[test]
fn d7_a_rule_for_other_workloads_leaves_the_client_without_the_owners_rule() {
    let other =
        rule("yard", "other", 1, &host_and(&format!("workloadSelector: {{matchLabels: {{app: x}}}}, {ON}")));
    let owner = rule("rail", "owner", 2, &host_and(OFF));
    let mesh = with(&[other, owner]);
    assert_eq!(mesh.depot(), decided("AUTO", "null"));
    let findings = mesh.diagnostics();
    let lost = findings.iter().filter(|one| one.object == "DestinationRule/rail/owner");
    let winners: Vec<String> = lost.filter_map(|one| Some(one.beaten_by.as_ref()?.to_string())).collect();
    assert_eq!(winners, ["DestinationRule/yard/other"]);
}

#[test]
fn d8_a_base_with_a_load_balancer_alone_blocks_a_younger_tls_block() {
    let base = rule("rail", "base", 1, &host_and("trafficPolicy: {loadBalancer: {simple: RANDOM}}"));
    let younger = rule("rail", "younger", 2, &host_and(OFF));
    let mesh = with(&[younger, base]);
    assert_eq!(mesh.depot(), decided("AUTO", "null"));
    assert!(mesh.findings("DestinationRule/rail/younger").iter().any(|one| one.contains("D8")));
}

#[test]
fn d8_of_two_subsets_of_one_name_the_older_stays() {
    let subset = |mode: &str| {
        format!("subsets: [{{name: v1, labels: {{version: v1}}, trafficPolicy: {{tls: {{mode: {mode}}}}}}}]")
    };
    let older = rule("rail", "older", 1, &host_and(&subset("DISABLE")));
    let younger = rule("rail", "younger", 2, &host_and(&subset("ISTIO_MUTUAL")));
    let mesh = with(&[older, younger]);
    assert_eq!(mesh.call("yard/client", DEPOT, 80, Some("v1"))["policy"], "DestinationRule/rail/older");
    assert!(mesh.findings("DestinationRule/rail/younger").iter().any(|one| one.contains("subset v1")));
}

#[test]
fn d9_a_younger_wider_rule_is_swallowed_for_those_it_alone_names() {
    let older = rule("rail", "older", 1, &host_and(&format!("exportTo: [yard], {OFF}")));
    let younger = rule("rail", "younger", 2, &host_and(&format!("exportTo: [yard, port], {ON}")));
    let parts = [yard_and_rail(), pod("port", "client", "10.0.4.1", "app: client"), older, younger];
    let mesh = Mesh::of(&parts);
    assert_eq!(mesh.depot(), decided("DISABLE", "DestinationRule/rail/older"));
    assert_eq!(mesh.call("port/client", DEPOT, 80, None)["policy"], Value::Null);
}

#[test]
fn d10_a_rule_without_selector_is_not_swallowed_by_one_with() {
    let special = rule(
        "yard",
        "special",
        1,
        &host_and(&format!("exportTo: ['.'], workloadSelector: {{matchLabels: {{app: x}}}}, {ON}")),
    );
    let plain = rule("yard", "plain", 2, &host_and(&format!("exportTo: ['.'], {OFF}")));
    assert_eq!(depot(&[special, plain]), decided("DISABLE", "DestinationRule/yard/plain"));
}

fn entry(namespace: &str, name: &str, age: u8, spec: &str) -> String {
    networking("ServiceEntry", namespace, name, age, spec)
}

const API: &str = "ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC";

fn api(host: &str, location: &str, endpoint: &str) -> String {
    format!("hosts: [{host}], location: {location}, {API}, endpoints: [{{{endpoint}}}]")
}

#[test]
fn d11_a_service_beats_entries_of_any_age_except_in_the_clients_namespace() {
    let foreign = entry("port", "squatter", 1, &api(DEPOT, "MESH_EXTERNAL", "address: 10.9.9.9"));
    assert_eq!(depot(&[foreign]), decided("AUTO", "null"));
    let own = entry("yard", "own", 1, &api(DEPOT, "MESH_EXTERNAL", "address: 10.9.9.9"));
    assert_eq!(depot(&[own]), decided("DISABLE", "null"));
}

#[test]
fn d11_of_entries_the_oldest_visible_one_wins_and_nothing_is_merged() {
    let old =
        entry("a", "old", 1, &api("api.example", "MESH_INTERNAL", "address: 10.9.0.1, serviceAccount: old"));
    let new =
        entry("b", "new", 2, &api("api.example", "MESH_INTERNAL", "address: 10.9.0.2, serviceAccount: new"));
    let mesh = with(&[new, old]);
    let found = mesh.call("yard/client", "api.example", 80, None);
    assert_eq!(found["subject_alt_names"], json!(["spiffe://cluster.local/ns/a/sa/old"]));
    assert_eq!(found["endpoints"], json!({"10.9.0.1:80": "ISTIO_MUTUAL"}));
    assert!(!mesh.findings("ServiceEntry/b/new").is_empty());
}

#[test]
fn a8_a_sidecar_picks_the_owner_and_takes_hosts_out() {
    let old = entry("a", "old", 1, &api("api.example", "MESH_INTERNAL", "address: 10.9.0.1"));
    let new = entry("b", "new", 2, &api("api.example", "MESH_INTERNAL", "address: 10.9.0.2"));
    let egress =
        |hosts: &str| networking("Sidecar", "yard", "default", 1, &format!("egress: [{{hosts: [{hosts}]}}]"));
    let picked = with(&[old.clone(), new.clone(), egress("'b/*'")]);
    let endpoints = picked.call("yard/client", "api.example", 80, None)["endpoints"].clone();
    assert_eq!(endpoints, json!({"10.9.0.2:80": "DISABLE"}));
    assert_eq!(picked.call("yard/client", DEPOT, 80, None), Value::Null);
    let without = with(&[old, new, egress(&format!("'*/*', '~rail/{DEPOT}'"))]);
    assert_eq!(without.call("yard/client", DEPOT, 80, None), Value::Null);
    assert_ne!(without.call("yard/client", "api.example", 80, None), Value::Null);
}

/// O9: by the variables of the injected proxy, as an injector writes them.
#[test]
fn o9_a_proxy_with_a_certificate_of_its_own_uses_that_in_the_mesh() {
    let variables = "env: [{name: ISTIO_META_TLS_CLIENT_CERT_CHAIN, value: /c}, {name: ISTIO_META_TLS_CLIENT_KEY, value: /k}, {name: ISTIO_META_TLS_CLIENT_ROOT_CERT, value: /r}]";
    let client = pod("yard", "own", "10.0.1.7", "app: own")
        .replace("containers: [", &format!("containers: [{{name: istio-proxy, image: x, {variables}}}, "));
    let external = entry("yard", "api", 1, &api("api.example", "MESH_EXTERNAL", "address: 192.0.2.1"));
    let call = |parts: &[String], host: &str| {
        let mesh = with(&[&[client.clone(), external.clone()], parts].concat());
        let found = mesh.call("yard/own", host, 80, None);
        let neighbour = mesh.call("yard/client", host, 80, None);
        let names = found["subject_alt_names"].as_array().map_or(0, Vec::len);
        (text(&found["mode"]), text(&found["sni"]), names, text(&neighbour["mode"]))
    };
    let sni = format!("outbound_.80_._.{DEPOT}");
    let is = |mode: &str, sni: &str, names, neighbour: &str| {
        (mode.to_owned(), sni.to_owned(), names, neighbour.to_owned())
    };
    assert_eq!(call(&[], DEPOT), is("MUTUAL", &sni, 1, "AUTO"), "no fallback for single endpoints");
    let on = |host: &str, tls: &str| {
        rule("yard", "r", 1, &format!("host: {host}, trafficPolicy: {{tls: {{{tls}}}}}"))
    };
    let depot = |tls: &str| call(&[on(DEPOT, tls)], DEPOT);
    assert_eq!(depot("mode: ISTIO_MUTUAL"), is("MUTUAL", "null", 0, "ISTIO_MUTUAL"), "no generated names");
    assert_eq!(
        depot("mode: ISTIO_MUTUAL, sni: a.b, subjectAltNames: [c.d]"),
        is("MUTUAL", "a.b", 1, "ISTIO_MUTUAL")
    );
    assert_eq!(depot("mode: MUTUAL, credentialName: x"), is("MUTUAL", "null", 0, "DISABLE"));
    assert_eq!(depot("mode: SIMPLE"), is("SIMPLE", "null", 0, "SIMPLE"));
    assert_eq!(depot("mode: DISABLE"), is("DISABLE", "null", 0, "DISABLE"));
    let outside = |tls: &str| call(&[on("api.example", tls)], "api.example");
    assert_eq!(call(&[], "api.example"), is("DISABLE", "null", 0, "DISABLE"));
    assert_eq!(
        outside("mode: MUTUAL, clientCertificate: /x, privateKey: /y"),
        is("MUTUAL", "null", 0, "MUTUAL")
    );
    let cluster = "outbound|80||api.example";
    assert_eq!(outside("mode: ISTIO_MUTUAL"), is("ISTIO_MUTUAL", cluster, 0, "ISTIO_MUTUAL"));
    let explained = with(std::slice::from_ref(&client)).explain("yard/own", DEPOT, 80).unwrap();
    let last = explained.trace.last().unwrap();
    assert_eq!((last.rule(), last.reason.to_string().contains("/c (rule O9)")), ("O9", true), "{last:?}");
}

#[test]
fn a8_a_listener_with_a_port_imports_its_hosts_on_that_port_alone() {
    let sidecar = |egress: &str| networking("Sidecar", "yard", "default", 1, &format!("egress: [{egress}]"));
    let calls = |parts: &[String]| {
        let mesh = with(parts);
        let found = [80, 9000].map(|port| mesh.call("yard/client", DEPOT, port, None));
        found.map(|call| call["mode"].as_str().map(str::to_owned))
    };
    let auto = || Some("AUTO".to_owned());
    let on =
        |port: &str, host: &str| format!("{{port: {{number: {port}, protocol: TCP}}, hosts: ['{host}']}}");
    assert_eq!(calls(&[sidecar(&on("9000", "rail/*"))]), [None, auto()]);
    assert_eq!(calls(&[sidecar(&on("1234", "rail/*"))]), [None, None], "a port that the host does not have");
    assert_eq!(calls(&[sidecar(&[on("80", "rail/*"), on("9000", "*/*")].join(","))]), [auto(), auto()]);
    let rest = format!("{}, {{hosts: ['./*']}}", on("80", "*/*"));
    assert_eq!(calls(&[sidecar(&rest)]), [auto(), None], "the others on all ports");
    let without =
        format!("{{port: {{number: 80, protocol: HTTP}}, hosts: ['*/*', '~rail/*']}}, {}", on("9000", "*/*"));
    assert_eq!(calls(&[sidecar(&without)]), [None, auto()], "taken out of that listener alone");
    let proxy = "{port: {number: 3128, protocol: HTTP_PROXY}, hosts: ['rail/*']}";
    assert_eq!(calls(&[sidecar(proxy)]), [auto(), auto()]);
    let off = rule("rail", "depot", 1, &host_and(OFF));
    assert_eq!(calls(&[sidecar(&on("80", "rail/*")), off]), [Some("DISABLE".to_owned()), None]);
}

#[test]
fn a8_a_sidecar_decides_about_unknown_hosts() {
    let sidecar = |policy: &str| {
        networking(
            "Sidecar",
            "yard",
            "default",
            1,
            &format!("outboundTrafficPolicy: {policy}, egress: [{{hosts: ['./*']}}]"),
        )
    };
    let verdict =
        |parts: &[String]| with(parts).explain("yard/client", "nobody.example", 80).unwrap().verdict;
    use eastwest_engine::explain::Verdict::{BlackHole, Passthrough};
    let strict = mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    assert_eq!(verdict(&[sidecar("{mode: REGISTRY_ONLY}")]), BlackHole);
    assert_eq!(verdict(&[sidecar("{}")]), BlackHole, "the first of its words");
    assert_eq!(verdict(&[sidecar("{mode: ALLOW_ANY}"), strict.clone()]), Passthrough);
    assert_eq!(verdict(&[strict]), BlackHole);
}

#[test]
fn t1_a_port_entry_without_tls_falls_back_to_auto() {
    let spec = "trafficPolicy: {tls: {mode: DISABLE}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}";
    let mesh = with(&[rule("rail", "depot", 1, &host_and(spec))]);
    let found = mesh.call("yard/client", DEPOT, 80, None);
    assert_eq!(found["mode"], "AUTO");
    assert_eq!(
        found["endpoints"],
        json!({"10.0.2.1:8080": "DISABLE"}),
        "A6: marks still follow the general block"
    );
    assert_eq!(mesh.call("yard/client", DEPOT, 9000, None)["mode"], "DISABLE");
}

#[test]
fn t2_a_port_entry_inside_a_subset_wipes_inherited_tls() {
    let spec = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}}]";
    let mesh = with(&[rule("rail", "depot", 1, &host_and(spec))]);
    assert_eq!(mesh.call("yard/client", DEPOT, 80, Some("v1"))["mode"], "AUTO");
    assert_eq!(mesh.call("yard/client", DEPOT, 9000, Some("v1"))["mode"], "ISTIO_MUTUAL");
}

/// As in Istio, the blocks of the whole rule do not mark the endpoints of a subset.
#[test]
fn a6_a_subset_is_marked_by_its_own_policy() {
    let wiping = "portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]";
    let spec = format!(
        "trafficPolicy: {{tls: {{mode: DISABLE}}}}, subsets: [
            {{name: bare, labels: {{version: v1}}, trafficPolicy: {{{wiping}}}}},
            {{name: disabled, labels: {{version: v1}}, trafficPolicy: {{tls: {{mode: DISABLE}}, {wiping}}}}}]"
    );
    let outsider = outsider("rail", "depot-1", "10.0.2.2", "app: depot, version: v1");
    let mesh = with(&[outsider, rule("rail", "depot", 1, &host_and(&spec))]);
    let endpoints = |subset| {
        let call = mesh.call("yard/client", DEPOT, 80, Some(subset));
        assert_eq!(call["mode"], "AUTO", "{subset}");
        call["endpoints"].clone()
    };
    assert_eq!(endpoints("bare"), json!({"10.0.2.1:8080": "ISTIO_MUTUAL", "10.0.2.2:8080": "DISABLE"}));
    assert_eq!(endpoints("disabled"), json!({"10.0.2.1:8080": "DISABLE", "10.0.2.2:8080": "DISABLE"}));
}

#[test]
fn o4_accounts_are_joined_with_annotations_and_written_in_every_alias() {
    let annotated = service("rail", "depot", "clusterIP: 10.96.0.1").replace(
        "namespace: rail,",
        "namespace: rail, annotations: {alpha.istio.io/kubernetes-serviceaccounts: extra, alpha.istio.io/canonical-serviceaccounts: other.name},",
    );
    let mesh = Mesh::of(&[
        mesh_config("trustDomainAliases: [old.local]"),
        pod("yard", "client", "10.0.1.1", "app: client"),
        annotated,
        pod("rail", "depot-0", "10.0.2.1", "app: depot"),
    ]);
    let expected = json!([
        "other.name",
        "spiffe://cluster.local/ns/rail/sa/depot",
        "spiffe://cluster.local/ns/rail/sa/extra",
        "spiffe://old.local/ns/rail/sa/depot",
        "spiffe://old.local/ns/rail/sa/extra",
    ]);
    assert_eq!(mesh.call("yard/client", DEPOT, 80, None)["subject_alt_names"], expected);
}

#[test]
fn o5_entries_lend_their_names_to_simple_tls_and_services_do_not() {
    let spec = format!(
        "{}, subjectAltNames: [api.example]",
        api("api.example", "MESH_EXTERNAL", "address: 10.9.0.1")
    );
    let simple = "trafficPolicy: {tls: {mode: SIMPLE}}";
    let mesh = with(&[
        entry("yard", "api", 1, &spec),
        rule("yard", "api", 1, &format!("host: api.example, {simple}")),
        rule("yard", "depot", 1, &host_and(simple)),
    ]);
    assert_eq!(
        mesh.call("yard/client", "api.example", 80, None)["subject_alt_names"],
        json!(["api.example"])
    );
    assert_eq!(mesh.call("yard/client", DEPOT, 80, None)["subject_alt_names"], Value::Null);
}

/// Where nothing names the server, the Host header does, unless the rule or the protocol forbids.
#[test]
fn o5_explain_says_whether_the_host_header_is_checked() {
    let checked = |protocol: &str, tls: &str| {
        let spec = api("api.example", "MESH_EXTERNAL", "address: 10.9.0.1").replace("HTTP", protocol);
        let spec = format!("{spec}, addresses: [240.0.0.1]");
        let policy = format!("host: api.example, trafficPolicy: {{tls: {{{tls}}}}}");
        let mesh = with(&[entry("yard", "api", 1, &spec), rule("yard", "api", 1, &policy)]);
        mesh.explain("yard/client", "api.example", 80).unwrap().setting.unwrap().auto_san_validation
    };
    assert!(checked("HTTP", "mode: SIMPLE"));
    assert!(!checked("HTTP", "mode: SIMPLE, sni: api.example"));
    assert!(!checked("HTTP", "mode: SIMPLE, insecureSkipVerify: true"));
    assert!(!checked("TCP", "mode: SIMPLE"), "bytes name no host");
    assert!(!checked("HTTP", "mode: ISTIO_MUTUAL"));
}

#[test]
fn o7_a_credential_counts_where_the_rule_selects_its_clients() {
    let spec = |selector: &str| {
        host_and(&format!("{selector}trafficPolicy: {{tls: {{mode: SIMPLE, credentialName: ca}}}}"))
    };
    let mesh = with(&[rule("yard", "depot", 1, &spec(""))]);
    assert_eq!(mesh.depot(), decided("DISABLE", "DestinationRule/yard/depot"));
    assert!(mesh.report("yard/client")["warnings"].to_string().contains("O7"));
    let selecting = spec("workloadSelector: {matchLabels: {app: client}}, ");
    assert_eq!(
        depot(&[rule("yard", "depot", 1, &selecting)]),
        decided("SIMPLE", "DestinationRule/yard/depot")
    );
}

#[test]
fn o1_dynamic_forward_proxies_take_name_and_sans_from_the_request() {
    let spec = "hosts: ['*.example.org'], location: MESH_EXTERNAL, ports: [{number: 443, name: tls, protocol: TLS}], resolution: DYNAMIC_DNS";
    let block = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: v1, labels: {version: v1}}]";
    let mesh = with(&[
        entry("yard", "wild", 1, spec),
        rule("yard", "wild", 1, &format!("host: '*.example.org', {block}")),
    ]);
    let found = mesh.call("yard/client", "*.example.org", 443, None);
    assert_eq!((text(&found["mode"]), found["sni"].is_null()), ("ISTIO_MUTUAL".to_owned(), true));
    assert_eq!(mesh.call("yard/client", "*.example.org", 443, Some("v1")), Value::Null);
}

#[test]
fn a1_external_is_plaintext_even_where_it_selects_pods_of_the_mesh() {
    let spec = format!("hosts: [api.example], {API}, workloadSelector: {{labels: {{app: depot}}}}");
    let mesh = with(&[entry("rail", "api", 1, &spec)]);
    assert_eq!(mesh.call("yard/client", "api.example", 80, None)["mode"], "DISABLE");
}

#[test]
fn a4_an_address_without_a_pod_borrows_the_pod_with_that_ip() {
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: depot-1, namespace: rail, labels: {kubernetes.io/service-name: depot}}, addressType: IPv4, endpoints: [{addresses: [10.0.2.1]}, {addresses: [10.0.2.9]}], ports: [{name: http, port: 8080}]}";
    let unlisted = pod("rail", "depot-1", "10.0.2.5", "app: depot");
    let found = with(&[slice.to_owned(), unlisted]).call("yard/client", DEPOT, 80, None);
    assert_eq!(found["endpoints"], json!({"10.0.2.1:8080": "ISTIO_MUTUAL", "10.0.2.9:8080": "DISABLE"}));
    assert_eq!(found["subject_alt_names"], json!(["spiffe://cluster.local/ns/rail/sa/depot"]));
}

#[test]
fn a5_workload_entries_join_services_with_a_cluster_ip_only() {
    let vm = networking(
        "WorkloadEntry",
        "rail",
        "vm",
        1,
        "address: 10.9.0.1, labels: {app: depot}, serviceAccount: vm",
    );
    let mesh = |spec: &str| {
        Mesh::of(&[
            pod("yard", "client", "10.0.1.1", "app: client"),
            service("rail", "depot", spec),
            pod("rail", "depot-0", "10.0.2.1", "app: depot"),
            vm.clone(),
        ])
    };
    let joined = mesh("clusterIP: 10.96.0.1").call("yard/client", DEPOT, 80, None);
    assert_eq!(
        joined["endpoints"],
        json!({"10.0.2.1:8080": "ISTIO_MUTUAL", "10.9.0.1:8080": "ISTIO_MUTUAL"})
    );
    let headless = mesh("clusterIP: None").call("yard/client", DEPOT, 80, None);
    assert_eq!(headless["subject_alt_names"], json!(["spiffe://cluster.local/ns/rail/sa/depot"]));
    assert_eq!(headless["mode"], "ISTIO_MUTUAL");
}

#[test]
fn a5_headless_without_endpoints_and_entries_without_resolution_are_plaintext() {
    let none = "hosts: [raw.example], location: MESH_INTERNAL, ports: [{number: 80, name: tcp, protocol: TCP}], resolution: NONE";
    let mesh = Mesh::of(&[
        pod("yard", "client", "10.0.1.1", "app: client"),
        service("rail", "depot", "clusterIP: None"),
        entry("yard", "raw", 1, none),
    ]);
    assert_eq!(mesh.depot(), decided("DISABLE", "null"));
    assert_eq!(mesh.call("yard/client", "raw.example", 80, None)["mode"], "DISABLE");
}

#[test]
fn p9_a_pod_outside_the_mesh_is_plaintext_beside_one_inside() {
    let found =
        with(&[outsider("rail", "depot-1", "10.0.2.2", "app: depot")]).call("yard/client", DEPOT, 80, None);
    assert_eq!(found["endpoints"], json!({"10.0.2.1:8080": "ISTIO_MUTUAL", "10.0.2.2:8080": "DISABLE"}));
}

#[test]
fn p1_policies_of_a_third_namespace_do_not_count() {
    let mesh = with(&[
        policy("yard", "all", 1, "mtls: {mode: DISABLE}"),
        policy("yard", "depot", 1, "selector: {matchLabels: {app: depot}}, mtls: {mode: DISABLE}"),
        policy("istio-system", "all", 9, "mtls: {mode: STRICT}"),
    ]);
    let inbound = mesh.report("rail/depot-0")["inbound"].clone();
    assert_eq!(inbound["policy"], "PeerAuthentication/istio-system/all");
}

#[test]
fn p2_the_selector_makes_the_level_and_the_name_means_nothing() {
    let mesh = with(&[
        policy("rail", "default", 1, "selector: {matchLabels: {app: depot}}, mtls: {mode: DISABLE}"),
        policy("rail", "depot", 2, "selector: {matchLabels: {}}, mtls: {mode: STRICT}"),
    ]);
    let inbound = mesh.report("rail/depot-0")["inbound"].clone();
    assert_eq!(inbound["policy"], "PeerAuthentication/rail/default", "the workload level");
}

#[test]
fn p4_of_two_workload_policies_the_younger_is_ignored_with_its_ports() {
    let ports = |name: &str, age, ports: &str| {
        policy("rail", name, age, &format!("selector: {{matchLabels: {{app: depot}}}}, {ports}"))
    };
    let mesh = with(&[
        ports("younger", 2, "portLevelMtls: {'9001': {mode: DISABLE}}"),
        ports("older", 1, "portLevelMtls: {'8080': {mode: STRICT}}"),
    ]);
    assert_eq!(mesh.report("rail/depot-0")["inbound"]["ports"], json!({"8080": "STRICT"}));
    let winners: Vec<_> = mesh.diagnostics().into_iter().filter_map(|one| one.beaten_by).collect();
    assert!(winners.iter().any(|one| one.to_string() == "PeerAuthentication/rail/older"), "{winners:?}");
}

#[test]
fn d2_of_two_wildcards_the_longer_suffix_wins_even_within_a_label() {
    let rules = |long: &str| {
        vec![
            rule("yard", "a-wide", 1, &format!("host: '*.svc.cluster.local', {OFF}")),
            rule("yard", "b-long", 2, &format!("host: '{long}', {ON}")),
        ]
    };
    let long = decided("ISTIO_MUTUAL", "DestinationRule/yard/b-long");
    assert_eq!(depot(&rules("*ot.rail.svc.cluster.local")), long);
    assert_eq!(depot(&rules("*.rail.svc.cluster.local")), long);
}

#[test]
fn d3_the_first_namespace_with_any_match_ends_the_search() {
    let mine = rule("yard", "mine", 9, "host: '*', trafficPolicy: {loadBalancer: {simple: RANDOM}}");
    let mesh = with(&[mine, rule("rail", "owner", 1, &host_and(OFF))]);
    assert_eq!(mesh.depot(), decided("AUTO", "null"));
    let found = mesh.findings("DestinationRule/rail/owner");
    assert!(found.iter().any(|one| one.contains("hidden by DestinationRule/yard/mine")), "{found:?}");
}

#[test]
fn t3_a_block_without_a_mode_is_plaintext() {
    let found = depot(&[rule("rail", "depot", 1, &host_and("trafficPolicy: {tls: {sni: depot}}"))]);
    assert_eq!(found, decided("DISABLE", "DestinationRule/rail/depot"));
}

#[test]
fn t4_a_block_beats_inference_both_ways() {
    let off = policy("rail", "default", 1, "mtls: {mode: DISABLE}");
    let on = rule("rail", "depot", 1, &host_and(ON));
    assert_eq!(depot(&[off, on.clone()]), decided("ISTIO_MUTUAL", "DestinationRule/rail/depot"));
    let auto = mesh_config("enableAutoMtls: false");
    assert_eq!(depot(&[auto, on]), decided("ISTIO_MUTUAL", "DestinationRule/rail/depot"));
}

#[test]
fn a4_a_pod_that_arrives_after_its_slice_is_found() {
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: depot-1, namespace: rail, labels: {kubernetes.io/service-name: depot}}, addressType: IPv4, endpoints: [{addresses: [10.0.2.7]}], ports: [{name: http, port: 8080}]}".to_owned();
    let late = pod("rail", "late", "10.0.2.7", "app: late");
    let before = with(std::slice::from_ref(&slice)).call("yard/client", DEPOT, 80, None);
    assert_eq!(before["endpoints"], json!({"10.0.2.7:8080": "DISABLE"}), "nobody is known there yet");
    for parts in [[slice.clone(), late.clone()], [late, slice]] {
        let found = with(&parts).call("yard/client", DEPOT, 80, None);
        assert_eq!(found["endpoints"], json!({"10.0.2.7:8080": "ISTIO_MUTUAL"}), "whatever the order");
    }
}

#[test]
fn a5_a_headless_service_does_not_see_what_a_workload_disables() {
    let mesh = Mesh::of(&[
        pod("yard", "client", "10.0.1.1", "app: client"),
        service("rail", "depot", "clusterIP: None"),
        pod("rail", "depot-0", "10.0.2.1", "app: depot"),
        policy("rail", "depot", 1, "selector: {matchLabels: {app: depot}}, mtls: {mode: DISABLE}"),
    ]);
    assert_eq!(mesh.depot().0, "ISTIO_MUTUAL", "all or nothing, without a way back");
    let found = mesh.findings("PeerAuthentication/rail/depot");
    assert!(found.iter().any(|one| one.contains("cannot connect")), "{found:?}");
}

#[test]
fn a7_what_a_client_asks_of_its_callers_is_not_how_it_calls() {
    for mode in ["STRICT", "DISABLE"] {
        let own = policy("yard", "default", 1, &format!("mtls: {{mode: {mode}}}"));
        assert_eq!(depot(&[own]), decided("AUTO", "null"), "{mode}");
    }
}

#[test]
fn a8_rules_of_namespaces_that_are_not_imported_still_apply() {
    let egress = networking("Sidecar", "yard", "default", 1, "egress: [{hosts: ['rail/*']}]");
    let root = rule("istio-system", "root", 1, &format!("host: '*.local', {OFF}"));
    assert_eq!(depot(&[egress, root]), decided("DISABLE", "DestinationRule/istio-system/root"));
}

#[test]
fn i6_tls_of_a_sidecars_ingress_changes_no_mode() {
    let sidecar = |tls: &str| {
        let spec = format!(
            "workloadSelector: {{labels: {{app: depot}}}}, ingress: [{{port: {{number: 8443, name: https, protocol: HTTPS}}, defaultEndpoint: '127.0.0.1:8080'{tls}}}]"
        );
        with(&[networking("Sidecar", "rail", "depot", 1, &spec)]).report("rail/depot-0")["inbound"].clone()
    };
    assert_eq!(sidecar(", tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}"), sidecar(""));
}
