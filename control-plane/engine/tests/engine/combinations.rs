//! Inputs in combination, each predicted by the text of the policy reference: a table of questions
//! and answers over the yard and the rail ([`yard_and_rail`]).

use serde_json::Value;

use super::mesh::{
    DEPOT, Mesh, mesh_config, networking, outsider, pod, policy, rule, service, text, yard_and_rail,
};

use Question::{Call, Ends, In, Names, Where};

/// What is asked of a mesh, and how the answer is written.
enum Question {
    /// What a workload asks of its callers: `MODE policy`, then each port that is shown.
    In(&'static str),
    /// How a client calls: `MODE policy`, or `-`.
    Call(&'static str, &'static str, u16, Option<&'static str>),
    /// With which names: server name, then those it accepts.
    Names(&'static str, &'static str, u16, Option<&'static str>),
    /// In which mode each endpoint is called.
    Where(&'static str, &'static str, u16, Option<&'static str>),
    /// What becomes of it: the verdict.
    Ends(&'static str, &'static str, u16),
}

impl Question {
    fn answer(&self, mesh: &Mesh) -> String {
        match self {
            In(workload) => {
                let found = mesh.report(workload)["inbound"].clone();
                let mut answer = format!("{} {}", text(&found["default"]), short(&found["policy"]));
                for (port, mode) in found["ports"].as_object().unwrap() {
                    answer += &format!(" {port}={} {}", text(mode), short(&found["port_policies"][port]));
                }
                answer
            }
            Call(client, host, port, subset) => {
                let found = mesh.call(client, host, *port, *subset);
                if found.is_null() {
                    "-".to_owned()
                } else {
                    format!("{} {}", text(&found["mode"]), short(&found["policy"]))
                }
            }
            Names(client, host, port, subset) => {
                let found = mesh.call(client, host, *port, *subset);
                let names = found["subject_alt_names"].as_array().into_iter().flatten().map(text);
                let names: Vec<_> = names.map(|name| name.replace("spiffe://", "")).collect();
                format!("{} [{}]", text(&found["sni"]), names.join(" "))
            }
            Where(client, host, port, subset) => {
                let found = mesh.call(client, host, *port, *subset)["endpoints"].clone();
                let each = found.as_object().into_iter().flatten();
                let each = each.map(|(address, mode)| {
                    format!("{address}={}", text(mode).replace("ISTIO_MUTUAL", "mesh"))
                });
                each.collect::<Vec<_>>().join(" ")
            }
            Ends(client, host, port) => {
                let verdict = mesh.explain(client, host, *port).map(|found| found.verdict);
                verdict.map_or_else(|error| error.to_string(), |verdict| format!("{verdict:?}"))
            }
        }
    }
}

/// `PA`, `DR` and so on for the kinds.
fn short(policy: &Value) -> String {
    text(policy).replace("PeerAuthentication/", "PA/").replace("DestinationRule/", "DR/")
}

const OFF: &str = "trafficPolicy: {tls: {mode: DISABLE}}";
const ON: &str = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}";
const SIMPLE: &str = "trafficPolicy: {tls: {mode: SIMPLE}}";
const YARD: &str = "yard/client";
const DEPOT_POD: &str = "rail/depot-0";
const SELECTED: &str = "workloadSelector: {matchLabels: {app: client}}";
const SELECTING: &str = "selector: {matchLabels: {app: depot}}";

fn on_depot(namespace: &str, name: &str, age: u8, rest: &str) -> String {
    rule(namespace, name, age, &format!("host: {DEPOT}, {rest}"))
}

fn entry(namespace: &str, name: &str, age: u8, spec: &str) -> String {
    networking("ServiceEntry", namespace, name, age, spec)
}

fn workload_entry(name: &str, labels: &str, spec: &str) -> String {
    networking("WorkloadEntry", "rail", name, 1, spec)
        .replace("namespace: rail,", &format!("namespace: rail, labels: {{{labels}}},"))
}

/// An external API at one address.
fn api(rest: &str) -> String {
    entry(
        "yard",
        "api",
        1,
        &format!(
            "hosts: [api.example], ports: [{{number: 443, name: tls, protocol: TLS}}], resolution: STATIC, endpoints: [{{address: 192.0.2.1}}]{rest}"
        ),
    )
}

fn headless(name: &str) -> String {
    service("rail", name, "clusterIP: None")
}

type Case = (&'static str, Vec<String>, Question, &'static str);

fn callers() -> Vec<Case> {
    let depot = |rest: &str| policy("rail", "depot", 5, &format!("{SELECTING}, {rest}"));
    vec![
        ("P6 nothing", vec![], In(DEPOT_POD), "PERMISSIVE null"),
        (
            "P6 mesh",
            vec![policy("istio-system", "m", 1, "mtls: {mode: STRICT}")],
            In(DEPOT_POD),
            "STRICT PA/istio-system/m",
        ),
        (
            "P6 UNSET passes the mesh on",
            vec![
                policy("istio-system", "m", 1, "mtls: {mode: STRICT}"),
                policy("rail", "n", 1, "mtls: {mode: UNSET}"),
            ],
            In(DEPOT_POD),
            "STRICT PA/istio-system/m",
        ),
        (
            "P6 three levels",
            vec![
                policy("istio-system", "m", 1, "mtls: {mode: STRICT}"),
                policy("rail", "n", 1, "mtls: {mode: PERMISSIVE}"),
                depot("mtls: {}"),
            ],
            In(DEPOT_POD),
            "PERMISSIVE PA/rail/n",
        ),
        (
            "P7 under a workload of its own",
            vec![
                policy("rail", "n", 1, "mtls: {mode: DISABLE}"),
                depot("mtls: {mode: STRICT}, portLevelMtls: {'8080': {}}"),
            ],
            In(DEPOT_POD),
            "STRICT PA/rail/depot 8080=STRICT PA/rail/depot",
        ),
        (
            "P5 an old UNSET with a port",
            vec![
                policy(
                    "rail",
                    "old",
                    1,
                    &format!(
                        "{SELECTING}, mtls: {{mode: UNSET}}, portLevelMtls: {{'8080': {{mode: DISABLE}}}}"
                    ),
                ),
                depot("mtls: {mode: STRICT}"),
            ],
            In(DEPOT_POD),
            "PERMISSIVE null 8080=DISABLE PA/rail/old",
        ),
        (
            "P4 a tie goes by name",
            vec![
                policy("rail", "b", 2, "mtls: {mode: STRICT}"),
                policy("rail", "a", 2, "mtls: {mode: DISABLE}"),
            ],
            In(DEPOT_POD),
            "DISABLE PA/rail/a",
        ),
        (
            "P4 whole, with its ports",
            vec![
                policy("rail", "old", 1, &format!("{SELECTING}, mtls: {{mode: STRICT}}")),
                depot("portLevelMtls: {'8080': {mode: DISABLE}}"),
            ],
            In(DEPOT_POD),
            "STRICT PA/rail/old",
        ),
        (
            "P1 a third namespace",
            vec![policy("yard", "n", 1, "mtls: {mode: STRICT}")],
            In(DEPOT_POD),
            "PERMISSIVE null",
        ),
        (
            "P2 an empty selector in the root namespace",
            vec![policy("istio-system", "m", 1, "selector: {matchLabels: {}}, mtls: {mode: STRICT}")],
            In(DEPOT_POD),
            "STRICT PA/istio-system/m",
        ),
        (
            "P3 beside one that counts",
            vec![
                policy("istio-system", "s", 1, &format!("{SELECTING}, mtls: {{mode: DISABLE}}")),
                policy("istio-system", "m", 2, "mtls: {mode: STRICT}"),
            ],
            In(DEPOT_POD),
            "STRICT PA/istio-system/m",
        ),
        (
            "P8 a port of no Service",
            vec![depot("mtls: {mode: STRICT}, portLevelMtls: {'7': {mode: PERMISSIVE}}")],
            In(DEPOT_POD),
            "STRICT PA/rail/depot 7=PERMISSIVE PA/rail/depot",
        ),
        (
            "P8 a service port is no container port",
            vec![depot("portLevelMtls: {'80': {mode: STRICT}}")],
            In(DEPOT_POD),
            "PERMISSIVE null 80=STRICT PA/rail/depot",
        ),
        (
            "P8 the listener of an ingress",
            vec![
                depot("portLevelMtls: {'9443': {mode: STRICT}}"),
                networking(
                    "Sidecar",
                    "rail",
                    "s",
                    1,
                    "ingress: [{port: {number: 9443, protocol: HTTP, name: http}, defaultEndpoint: '127.0.0.1:8080'}]",
                ),
            ],
            In(DEPOT_POD),
            "PERMISSIVE null 9443=STRICT PA/rail/depot",
        ),
        (
            "P2 the name default means nothing",
            vec![
                policy("rail", "default", 2, "mtls: {mode: STRICT}"),
                policy("rail", "zzz", 1, "mtls: {mode: DISABLE}"),
            ],
            In(DEPOT_POD),
            "DISABLE PA/rail/zzz",
        ),
        (
            "P9 a selector that misses one of two",
            vec![
                pod("rail", "depot-1", "10.0.2.2", "app: depot, version: v2"),
                policy("rail", "p", 1, "selector: {matchLabels: {version: v2}}, mtls: {mode: STRICT}"),
            ],
            In(DEPOT_POD),
            "PERMISSIVE null",
        ),
    ]
}

fn choice() -> Vec<Case> {
    let depot_of = |name: &str, age, rest: &str| on_depot("rail", name, age, rest);
    let here = Call(YARD, DEPOT, 80, None);
    let again = || Call(YARD, DEPOT, 80, None);
    let subset = || Call(YARD, DEPOT, 80, Some("v1"));
    let v1 = |policy: &str| format!("subsets: [{{name: v1, labels: {{version: v1}}{policy}}}]");
    vec![
        (
            "D1 short, at home",
            vec![rule("rail", "r", 1, &format!("host: depot, {OFF}"))],
            here,
            "DISABLE DR/rail/r",
        ),
        (
            "D1 short, elsewhere",
            vec![rule("yard", "r", 1, &format!("host: depot, {OFF}"))],
            again(),
            "AUTO null",
        ),
        ("D1 half", vec![rule("rail", "r", 1, &format!("host: depot.rail, {OFF}"))], again(), "AUTO null"),
        (
            "D1 half, svc",
            vec![rule("rail", "r", 1, &format!("host: depot.rail.svc, {OFF}"))],
            again(),
            "AUTO null",
        ),
        (
            "D2 suffix within a label",
            vec![
                rule("rail", "r", 1, &format!("host: '*pot.rail.svc.cluster.local', {OFF}")),
                rule("rail", "s", 1, &format!("host: '*.rail.svc.cluster.local', {ON}")),
            ],
            again(),
            "DISABLE DR/rail/r",
        ),
        (
            "D2 the longer one",
            vec![
                rule("rail", "r", 1, &format!("host: '*depot.rail.svc.cluster.local', {OFF}")),
                rule("rail", "s", 1, &format!("host: '*.rail.svc.cluster.local', {ON}")),
            ],
            again(),
            "DISABLE DR/rail/r",
        ),
        (
            "D2 exact before wild, whatever the age",
            vec![rule("rail", "s", 1, &format!("host: '*', {ON}")), depot_of("r", 9, OFF)],
            again(),
            "DISABLE DR/rail/r",
        ),
        (
            "D3 root last",
            vec![rule("istio-system", "m", 1, &format!("host: '*.local', {OFF}"))],
            again(),
            "DISABLE DR/istio-system/m",
        ),
        (
            "D3 owner before root",
            vec![
                rule("istio-system", "m", 1, &format!("host: '*.local', {OFF}")),
                rule("rail", "r", 9, &format!("host: '*.local', {ON}")),
            ],
            again(),
            "ISTIO_MUTUAL DR/rail/r",
        ),
        (
            "D3 a client's star hides",
            vec![
                rule("yard", "r", 1, "host: '*', trafficPolicy: {loadBalancer: {simple: RANDOM}}"),
                depot_of("r", 1, OFF),
            ],
            again(),
            "AUTO null",
        ),
        ("D3 a third namespace", vec![on_depot("else", "r", 1, OFF)], again(), "AUTO null"),
        (
            "D5 private at the client's",
            vec![on_depot("yard", "r", 1, &format!("exportTo: ['.'], {OFF}"))],
            again(),
            "DISABLE DR/yard/r",
        ),
        (
            "D5 exported to others alone",
            vec![on_depot("yard", "r", 1, &format!("exportTo: [else], {OFF}"))],
            again(),
            "AUTO null",
        ),
        (
            "D5 hidden, and the search goes on",
            vec![
                depot_of("r", 1, &format!("exportTo: [rail], {ON}")),
                rule("istio-system", "m", 1, &format!("host: '*.local', {OFF}")),
            ],
            again(),
            "DISABLE DR/istio-system/m",
        ),
        (
            "D5 hidden to one by name",
            vec![
                depot_of("r", 1, &format!("exportTo: [else], {ON}")),
                rule("rail", "w", 1, &format!("host: '*', {OFF}")),
            ],
            again(),
            "AUTO null",
        ),
        (
            "D5 private exact does not shadow",
            vec![
                depot_of("r", 1, &format!("exportTo: ['.'], {ON}")),
                rule("rail", "w", 1, &format!("host: '*', {OFF}")),
            ],
            again(),
            "DISABLE DR/rail/w",
        ),
        (
            "D5 by name of the client",
            vec![depot_of("r", 1, &format!("exportTo: [yard], {OFF}"))],
            again(),
            "DISABLE DR/rail/r",
        ),
        (
            "D5 the mesh's default",
            vec![mesh_config("defaultDestinationRuleExportTo: [\".\"]"), depot_of("r", 1, OFF)],
            again(),
            "AUTO null",
        ),
        (
            "D5 a star in spite of the default",
            vec![
                mesh_config("defaultDestinationRuleExportTo: [\".\"]"),
                depot_of("r", 1, &format!("exportTo: ['*'], {OFF}")),
            ],
            again(),
            "DISABLE DR/rail/r",
        ),
        (
            "D6 selector before age",
            vec![on_depot("yard", "old", 1, ON), on_depot("yard", "new", 9, &format!("{SELECTED}, {OFF}"))],
            again(),
            "DISABLE DR/yard/new",
        ),
        (
            "D6 the older selector",
            vec![
                on_depot("yard", "b", 2, &format!("workloadSelector: {{matchLabels: {{}}}}, {OFF}")),
                on_depot("yard", "a", 3, &format!("{SELECTED}, {ON}")),
            ],
            again(),
            "DISABLE DR/yard/b",
        ),
        (
            "D7 for somebody else",
            vec![
                on_depot("yard", "r", 1, &format!("workloadSelector: {{matchLabels: {{app: other}}}}, {ON}")),
                depot_of("r", 1, OFF),
            ],
            again(),
            "AUTO null",
        ),
        (
            "D7 the root's is not looked at either",
            vec![
                on_depot("yard", "r", 1, &format!("workloadSelector: {{matchLabels: {{app: other}}}}, {ON}")),
                rule("istio-system", "m", 1, &format!("host: '*', {OFF}")),
            ],
            again(),
            "AUTO null",
        ),
        (
            "D8 a base with subsets alone",
            vec![depot_of("a", 1, &v1("")), depot_of("b", 2, OFF)],
            again(),
            "DISABLE DR/rail/b",
        ),
        (
            "D8 a base with a balancer alone",
            vec![depot_of("a", 1, "trafficPolicy: {loadBalancer: {simple: RANDOM}}"), depot_of("b", 2, OFF)],
            again(),
            "AUTO null",
        ),
        (
            "D8 an unknown subset is appended",
            vec![
                depot_of("a", 1, OFF),
                depot_of("b", 2, &v1(", trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}")),
            ],
            subset(),
            "ISTIO_MUTUAL DR/rail/b",
        ),
        (
            "D8 a known one is dropped",
            vec![depot_of("a", 1, &v1("")), depot_of("b", 2, &v1(", trafficPolicy: {tls: {mode: DISABLE}}"))],
            subset(),
            "AUTO null",
        ),
        (
            "D8 three of them",
            vec![depot_of("c", 3, OFF), depot_of("b", 2, ON), depot_of("a", 1, &v1(""))],
            again(),
            "ISTIO_MUTUAL DR/rail/b",
        ),
        (
            "D9 the youngest of several",
            vec![depot_of("a", 1, &format!("exportTo: ['*'], {ON}")), depot_of("b", 2, OFF)],
            again(),
            "DISABLE DR/rail/b",
        ),
        (
            "D9 contained",
            vec![
                depot_of("a", 1, &format!("exportTo: [yard], {ON}")),
                depot_of("b", 2, &format!("exportTo: [yard, else], {OFF}")),
            ],
            again(),
            "ISTIO_MUTUAL DR/rail/a",
        ),
        (
            "D9 and gone for the others",
            vec![
                pod("else", "client", "10.0.9.1", "app: c"),
                depot_of("a", 1, &format!("exportTo: [yard], {ON}")),
                depot_of("b", 2, &format!("exportTo: [yard, else], {OFF}")),
            ],
            Call("else/client", DEPOT, 80, None),
            "AUTO null",
        ),
        (
            "D9 the other way round stays apart",
            vec![
                pod("else", "client", "10.0.9.1", "app: c"),
                depot_of("b", 1, &format!("exportTo: [yard, else], {OFF}")),
                depot_of("a", 2, &format!("exportTo: [yard], {ON}")),
            ],
            again(),
            "ISTIO_MUTUAL DR/rail/a",
        ),
        (
            "D10 both",
            vec![
                on_depot(
                    "yard",
                    "s",
                    1,
                    &format!("exportTo: ['.'], workloadSelector: {{matchLabels: {{app: other}}}}, {ON}"),
                ),
                on_depot("yard", "p", 2, &format!("exportTo: ['.'], {OFF}")),
            ],
            again(),
            "DISABLE DR/yard/p",
        ),
        (
            "D4 private of root",
            vec![
                pod("istio-system", "gw", "10.0.8.1", "app: gw"),
                on_depot("istio-system", "p", 1, &format!("exportTo: ['.'], {OFF}")),
                depot_of("r", 1, ON),
            ],
            Call("istio-system/gw", DEPOT, 80, None),
            "DISABLE DR/istio-system/p",
        ),
        (
            "D4 exported of root after the owner",
            vec![
                pod("istio-system", "gw", "10.0.8.1", "app: gw"),
                on_depot("istio-system", "p", 1, OFF),
                depot_of("r", 1, ON),
            ],
            Call("istio-system/gw", DEPOT, 80, None),
            "ISTIO_MUTUAL DR/rail/r",
        ),
        (
            "T1 on its port",
            vec![depot_of(
                "r",
                1,
                "trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}",
            )],
            again(),
            "DISABLE DR/rail/r",
        ),
        (
            "T1 not on another",
            vec![depot_of(
                "r",
                1,
                "trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}",
            )],
            Call(YARD, DEPOT, 9000, None),
            "AUTO null",
        ),
        (
            "T1 by container port",
            vec![depot_of(
                "r",
                1,
                "trafficPolicy: {portLevelSettings: [{port: {number: 8080}, tls: {mode: DISABLE}}]}",
            )],
            again(),
            "AUTO null",
        ),
        (
            "T1 the first of two",
            vec![depot_of(
                "r",
                1,
                "trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}, {port: {number: 80}, tls: {mode: SIMPLE}}]}",
            )],
            again(),
            "DISABLE DR/rail/r",
        ),
        (
            "T1 replaces the whole",
            vec![depot_of(
                "r",
                1,
                "trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}",
            )],
            again(),
            "AUTO null",
        ),
        (
            "T2 over a port entry",
            vec![depot_of(
                "r",
                1,
                &format!(
                    "trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, tls: {{mode: DISABLE}}}}]}}, {}",
                    v1(", trafficPolicy: {tls: {mode: SIMPLE}}")
                ),
            )],
            subset(),
            "SIMPLE DR/rail/r",
        ),
        (
            "T2 inherits",
            vec![depot_of(
                "r",
                1,
                &format!("{OFF}, {}", v1(", trafficPolicy: {loadBalancer: {simple: RANDOM}}")),
            )],
            subset(),
            "DISABLE DR/rail/r",
        ),
        (
            "T2 wipes",
            vec![depot_of(
                "r",
                1,
                &format!(
                    "{OFF}, {}",
                    v1(
                        ", trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}"
                    )
                ),
            )],
            subset(),
            "AUTO null",
        ),
        (
            "T3",
            vec![depot_of("r", 1, "trafficPolicy: {tls: {sni: x.example}}")],
            again(),
            "DISABLE DR/rail/r",
        ),
        (
            "T4 with auto mutual TLS off",
            vec![mesh_config("enableAutoMtls: false"), depot_of("r", 1, ON)],
            again(),
            "ISTIO_MUTUAL DR/rail/r",
        ),
    ]
}

fn origination() -> Vec<Case> {
    let alias = "{apiVersion: v1, kind: Service, metadata: {name: alias, namespace: yard}, spec: {type: ExternalName, externalName: depot.rail.svc.cluster.local}}";
    let wild = "hosts: ['*.example.org'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE, location: MESH_INTERNAL";
    let on_api =
        |tls: &str| rule("yard", "api", 1, &format!("host: api.example, trafficPolicy: {{tls: {{{tls}}}}}"));
    let external = || Call(YARD, "api.example", 443, None);
    let names = || Names(YARD, "api.example", 443, None);
    vec![
        (
            "O2 generated",
            vec![],
            Names(YARD, DEPOT, 80, None),
            "outbound_.80_._.depot.rail.svc.cluster.local [cluster.local/ns/rail/sa/depot]",
        ),
        (
            "O2 with a subset",
            vec![on_depot("rail", "r", 1, "subsets: [{name: v1, labels: {version: v1}}]")],
            Names(YARD, DEPOT, 9000, Some("v1")),
            "outbound_.9000_.v1_.depot.rail.svc.cluster.local [cluster.local/ns/rail/sa/depot]",
        ),
        (
            "O2 of the rule",
            vec![on_depot(
                "rail",
                "r",
                1,
                "trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: a.b, subjectAltNames: [c.d]}}",
            )],
            Names(YARD, DEPOT, 80, None),
            "a.b [c.d]",
        ),
        (
            "O4 in every alias",
            vec![mesh_config("trustDomainAliases: [old.example]")],
            Names(YARD, DEPOT, 80, None),
            "outbound_.80_._.depot.rail.svc.cluster.local [cluster.local/ns/rail/sa/depot old.example/ns/rail/sa/depot]",
        ),
        (
            "O4 all pods, also those outside",
            vec![outsider("rail", "other-1", "10.0.2.9", "app: depot")],
            Names(YARD, DEPOT, 9000, None),
            "outbound_.9000_._.depot.rail.svc.cluster.local [cluster.local/ns/rail/sa/depot cluster.local/ns/rail/sa/other]",
        ),
        ("A1 outside", vec![api("")], external(), "DISABLE null"),
        ("A1 inside", vec![api(", location: MESH_INTERNAL")], external(), "AUTO null"),
        (
            "A1 a star catches it",
            vec![api(""), rule("yard", "all", 1, &format!("host: '*', {ON}"))],
            external(),
            "ISTIO_MUTUAL DR/yard/all",
        ),
        (
            "A1 local does not",
            vec![api(""), rule("yard", "all", 1, &format!("host: '*.local', {ON}"))],
            external(),
            "DISABLE null",
        ),
        (
            "O5 the entry's names",
            vec![api(", subjectAltNames: [cert.example]"), on_api("mode: SIMPLE")],
            names(),
            "null [cert.example]",
        ),
        (
            "O5 the rule's names",
            vec![
                api(", subjectAltNames: [cert.example]"),
                on_api("mode: SIMPLE, sni: s.example, subjectAltNames: [r.example]"),
            ],
            names(),
            "s.example [r.example]",
        ),
        (
            "O5 not a Service's accounts",
            vec![on_depot("yard", "r", 1, SIMPLE)],
            Names(YARD, DEPOT, 80, None),
            "null []",
        ),
        (
            "O6",
            vec![api(", subjectAltNames: [cert.example]"), on_api("mode: SIMPLE, insecureSkipVerify: true")],
            names(),
            "null []",
        ),
        (
            "O7 plain",
            vec![api(""), on_api("mode: MUTUAL, credentialName: c")],
            external(),
            "DISABLE DR/yard/api",
        ),
        (
            "O7 with ISTIO_MUTUAL it counts for nothing",
            vec![api(""), on_api("mode: ISTIO_MUTUAL, credentialName: c")],
            external(),
            "ISTIO_MUTUAL DR/yard/api",
        ),
        (
            "O7 a ConfigMap",
            vec![api(""), on_api("mode: SIMPLE, credentialName: 'configmap://yard/c'")],
            external(),
            "SIMPLE DR/yard/api",
        ),
        (
            "O1 an alias has no cluster",
            vec![alias.to_owned()],
            Call(YARD, "alias.yard.svc.cluster.local", 80, None),
            "-",
        ),
        (
            "O1 an alias is its target",
            vec![alias.to_owned()],
            Ends(YARD, "alias.yard.svc.cluster.local", 80),
            "MutualTls",
        ),
        (
            "O1 rules for an alias do nothing",
            vec![alias.to_owned(), rule("yard", "r", 1, &format!("host: alias, {OFF}"))],
            Call(YARD, DEPOT, 80, None),
            "AUTO null",
        ),
        (
            "A5 NONE inside",
            vec![entry("yard", "w", 1, wild)],
            Call(YARD, "*.example.org", 443, None),
            "DISABLE null",
        ),
        (
            "D2 a wildcard service and the same wildcard",
            vec![entry("yard", "w", 1, wild), rule("yard", "r", 1, &format!("host: '*.example.org', {ON}"))],
            Call(YARD, "*.example.org", 443, None),
            "ISTIO_MUTUAL DR/yard/r",
        ),
        (
            "D2 a wildcard service and an exact rule",
            vec![entry("yard", "w", 1, wild), rule("yard", "r", 1, &format!("host: a.example.org, {ON}"))],
            Call(YARD, "*.example.org", 443, None),
            "DISABLE null",
        ),
        (
            "D11 at the client's an entry owns the host",
            vec![entry(
                "yard",
                "e",
                9,
                &format!(
                    "hosts: [{DEPOT}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{{address: 192.0.2.1}}]"
                ),
            )],
            Call(YARD, DEPOT, 80, None),
            "DISABLE null",
        ),
        (
            "D11 elsewhere the Service",
            vec![entry(
                "else",
                "e",
                1,
                &format!(
                    "hosts: [{DEPOT}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, endpoints: [{{address: 192.0.2.1}}]"
                ),
            )],
            Call(YARD, DEPOT, 80, None),
            "AUTO null",
        ),
        (
            "D3 the owner's namespace is the entry's",
            vec![
                entry(
                    "else",
                    "api",
                    1,
                    "hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS",
                ),
                rule("else", "r", 1, &format!("host: api.example, {SIMPLE}")),
            ],
            external(),
            "SIMPLE DR/else/r",
        ),
        (
            "exportTo of an entry",
            vec![entry(
                "else",
                "api",
                1,
                "hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS, exportTo: ['.']",
            )],
            external(),
            "-",
        ),
    ]
}

fn inference() -> Vec<Case> {
    let off = || policy("rail", "n", 1, "mtls: {mode: DISABLE}");
    let strict = || policy("rail", "w", 2, &format!("{SELECTING}, mtls: {{mode: STRICT}}"));
    let here = || Call(YARD, DEPOT, 80, None);
    let where_ = || Where(YARD, DEPOT, 80, None);
    let passthrough = || on_depot("rail", "r", 1, "trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}");
    let relay = "relay.rail.svc.cluster.local";
    let vm = |labels: &str, spec: &str| {
        workload_entry("vm", labels, &format!("address: 10.1.0.1, labels: {{app: depot}}{spec}"))
    };
    vec![
        ("A0", vec![mesh_config("enableAutoMtls: false")], here(), "DISABLE null"),
        ("A2 a namespace that disables", vec![off()], here(), "DISABLE PA/rail/n"),
        ("A2 hides a strict workload", vec![off(), strict()], Ends(YARD, DEPOT, 80), "Refused"),
        ("A2 a namespace that takes it back", vec![policy("istio-system", "m", 1, "mtls: {mode: DISABLE}"), policy("rail", "n", 1, "mtls: {mode: PERMISSIVE}")], here(), "AUTO null"),
        ("A2 the client's own policy is another's", vec![policy("yard", "n", 1, "mtls: {mode: DISABLE}")], here(), "AUTO null"),
        ("A4 a workload that disables", vec![policy("rail", "w", 1, &format!("{SELECTING}, mtls: {{mode: DISABLE}}"))], where_(), "10.0.2.1:8080=DISABLE"),
        ("A4 a port that disables", vec![policy("rail", "w", 1, &format!("{SELECTING}, portLevelMtls: {{'8080': {{mode: DISABLE}}}}"))], where_(), "10.0.2.1:8080=DISABLE"),
        ("A4 the other port", vec![policy("rail", "w", 1, &format!("{SELECTING}, portLevelMtls: {{'8080': {{mode: DISABLE}}}}"))], Where(YARD, DEPOT, 9000, None), "10.0.2.1:9001=mesh"),
        ("A4 labels", vec![outsider("rail", "depot-1", "10.0.2.2", "app: depot, security.istio.io/tlsMode: disabled"), outsider("rail", "depot-2", "10.0.2.3", "app: depot, security.istio.io/tlsMode: other")], where_(), "10.0.2.1:8080=mesh 10.0.2.2:8080=DISABLE 10.0.2.3:8080=DISABLE"),
        ("A4 an entry with an account", vec![vm("", ", serviceAccount: depot")], where_(), "10.0.2.1:8080=mesh 10.1.0.1:8080=mesh"),
        ("A4 an entry without", vec![vm("", "")], where_(), "10.0.2.1:8080=mesh 10.1.0.1:8080=DISABLE"),
        ("A4 an entry whose label says no", vec![vm("security.istio.io/tlsMode: disabled", ", serviceAccount: depot")], where_(), "10.0.2.1:8080=mesh 10.1.0.1:8080=DISABLE"),
        ("A4 the metadata's label before the spec's", vec![workload_entry("vm", "security.istio.io/tlsMode: istio", "address: 10.1.0.1, labels: {app: depot, security.istio.io/tlsMode: disabled}")], where_(), "10.0.2.1:8080=mesh 10.1.0.1:8080=mesh"),
        ("A4 an entry's own port", vec![vm("", ", serviceAccount: depot, ports: {http: 18080}")], where_(), "10.0.2.1:8080=mesh 10.1.0.1:18080=mesh"),
        ("A4 inline endpoints", vec![api(", location: MESH_INTERNAL").replace("[{address: 192.0.2.1}]", "[{address: 192.0.2.1, serviceAccount: a}, {address: 192.0.2.2}, {address: 192.0.2.3, labels: {security.istio.io/tlsMode: istio}}]")], Where(YARD, "api.example", 443, None), "192.0.2.1:443=mesh 192.0.2.2:443=DISABLE 192.0.2.3:443=mesh"),
        ("A5 headless members", vec![headless("relay"), pod("rail", "relay-0", "10.0.2.7", "app: relay")], Call(YARD, relay, 80, None), "ISTIO_MUTUAL null"),
        ("A5 headless with an outsider", vec![headless("relay"), pod("rail", "relay-0", "10.0.2.7", "app: relay"), outsider("rail", "relay-1", "10.0.2.8", "app: relay")], Call(YARD, relay, 80, None), "DISABLE null"),
        ("A5 headless and nobody", vec![headless("relay")], Call(YARD, relay, 80, None), "DISABLE null"),
        ("A5 headless and a namespace that disables", vec![headless("relay"), pod("rail", "relay-0", "10.0.2.7", "app: relay"), off()], Call(YARD, relay, 80, None), "DISABLE PA/rail/n"),
        ("A5 headless entries do not join", vec![headless("relay"), pod("rail", "relay-0", "10.0.2.7", "app: relay"), workload_entry("vm", "", "address: 10.1.0.1, labels: {app: relay}")], Call(YARD, relay, 80, None), "ISTIO_MUTUAL null"),
        ("A5 passthrough", vec![passthrough()], here(), "ISTIO_MUTUAL null"),
        ("A5 passthrough with an outsider", vec![passthrough(), outsider("rail", "depot-1", "10.0.2.2", "app: depot")], here(), "DISABLE null"),
        ("A6 marks of what is replaced", vec![on_depot("rail", "r", 1, "trafficPolicy: {tls: {mode: DISABLE}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}")], where_(), "10.0.2.1:8080=DISABLE"),
        ("A6 ISTIO_MUTUAL keeps them", vec![on_depot("rail", "r", 1, "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}"), policy("rail", "w", 1, &format!("{SELECTING}, mtls: {{mode: DISABLE}}"))], where_(), "10.0.2.1:8080=mesh"),
        ("A7", vec![policy("yard", "n", 1, "mtls: {mode: STRICT}")], here(), "AUTO null"),
        ("T4 explicit plaintext to a strict server", vec![strict(), on_depot("yard", "r", 1, OFF)], Ends(YARD, DEPOT, 80), "Refused"),
        ("O2 mutual TLS to a pod outside the mesh", vec![on_depot("rail", "r", 1, ON), outsider("rail", "depot-1", "10.0.2.2", "app: depot")], Ends(YARD, DEPOT, 80), "PartlyRefused"),
    ]
}

#[test]
fn combinations_come_out_as_predicted() {
    let cases: Vec<Case> = [callers(), choice(), origination(), inference()].into_iter().flatten().collect();
    let count = cases.len();
    let mut wrong = Vec::new();
    for (name, parts, question, golden) in cases {
        let mesh = Mesh::of(&[&[yard_and_rail()], &parts[..]].concat());
        let answer = question.answer(&mesh);
        if answer != golden {
            wrong.push(format!("{name}\n  found     {answer}\n  predicted {golden}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 100, "{count} cases");
}
