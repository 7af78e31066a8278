//! Pods as they come in a cluster, and the slices that controllers write of them.

use serde_json::{Value, json};

use crate::mesh::{DEPOT, Mesh, networking, pod, policy, service};

/// A Pod of the mesh with these ports, this metadata and this status.
fn pod_with(name: &str, port: u16, metadata: &str, status: &str) -> String {
    let account = name.split('-').next().unwrap();
    format!(
        "{{apiVersion: v1, kind: Pod,
           metadata: {{name: {name}, namespace: rail, labels: {{security.istio.io/tlsMode: istio, app: depot}}{metadata}}},
           spec: {{serviceAccountName: {account}, containers: [{{name: app, ports: [{{containerPort: {port}}}]}}]}},
           status: {{{status}}}}}"
    )
}

/// A Pod in the network of its node, which is not in the mesh.
fn on_the_node(name: &str, port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: rail, labels: {{app: {name}}}}},
           spec: {{hostNetwork: true, containers: [{{name: app, ports: [{{containerPort: {port}}}]}}]}},
           status: {{phase: Running, podIP: 192.168.0.1}}}}"
    )
}

fn slice(name: &str, family: &str, endpoints: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,
           metadata: {{name: {name}, namespace: rail, labels: {{kubernetes.io/service-name: depot}}}},
           addressType: {family}, endpoints: [{endpoints}], ports: [{{name: http, port: 8080}}]}}"
    )
}

fn mesh(parts: &[String]) -> Mesh {
    let before =
        [pod("yard", "client", "10.0.1.1", "app: client"), service("rail", "depot", "clusterIP: 10.96.0.1")];
    Mesh::of(&[&before[..], parts].concat())
}

fn endpoints(mesh: &Mesh) -> Value {
    mesh.call("yard/client", DEPOT, 80, None)["endpoints"].clone()
}

/// The client `yard/client` with addresses of both families.
fn client_of_both() -> String {
    pod("yard", "client", "10.0.1.1", "app: client")
        .replace("[{ip: 10.0.1.1}]", "[{ip: 10.0.1.1}, {ip: 'fd00:1::1'}]")
}

const RUNNING: &str = "phase: Running, podIP: 10.0.2.1";
const LEAVING: &str = ", deletionTimestamp: '2026-01-01T00:00:00Z'";

/// Without slices, and behind a ServiceEntry, which has none, the Pods themselves tell whether they serve.
#[test]
fn a_pod_that_ends_or_has_no_address_serves_nothing() {
    let entry = "hosts: [depot.example], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}], workloadSelector: {labels: {app: depot}}";
    let entry = networking("ServiceEntry", "rail", "depot", 1, entry);
    for (metadata, status, serves) in [
        ("", RUNNING, true),
        ("", "phase: Running", false),
        ("", "phase: Succeeded, podIP: 10.0.2.1", false),
        ("", "phase: Failed, reason: Evicted, podIP: 10.0.2.1", false),
        ("", "phase: Pending, podIP: 10.0.2.1", false),
        (LEAVING, RUNNING, false),
    ] {
        let mesh = mesh(&[pod_with("depot-0", 8080, metadata, status), entry.clone()]);
        let expected = if serves { json!({"10.0.2.1:8080": "ISTIO_MUTUAL"}) } else { json!({}) };
        assert_eq!(endpoints(&mesh), expected, "{metadata} {status}");
        let by_entry = &mesh.call("yard/client", "depot.example", 80, None)["endpoints"];
        assert_eq!(*by_entry, expected, "{metadata} {status}");
    }
}

/// What a slice says of an endpoint counts, not the Pod.
#[test]
fn a_slice_decides_who_takes_requests() {
    let pods = [
        pod_with(
            "depot-0",
            8080,
            "",
            "phase: Running, podIP: 10.0.2.1, conditions: [{type: Ready, status: 'False'}]",
        ),
        pod_with("depot-1", 8080, LEAVING, "phase: Running, podIP: 10.0.2.2"),
    ];
    let named = |ready: bool| {
        let conditions = format!("conditions: {{ready: {ready}, serving: true, terminating: true}}");
        let endpoint = |number: u8, address: &str| {
            format!(
                "{{addresses: [{address}], {conditions}, targetRef: {{kind: Pod, name: depot-{number}}}}}"
            )
        };
        slice("depot-x", "IPv4", &[endpoint(0, "10.0.2.1"), endpoint(1, "10.0.2.2")].join(", "))
    };
    let of = |ready| endpoints(&mesh(&[&pods[..], &[named(ready)]].concat()));
    assert_eq!(of(false), json!({}), "a terminating endpoint is left alone, although it still serves");
    let published = json!({"10.0.2.1:8080": "ISTIO_MUTUAL", "10.0.2.2:8080": "ISTIO_MUTUAL"});
    assert_eq!(of(true), published, "publishNotReadyAddresses");
}

/// An evicted Pod keeps an address that another Pod has by now.
#[test]
fn an_address_is_that_of_the_pod_that_runs() {
    let pods = [
        pod_with("a-evicted", 8080, "", "phase: Failed, podIP: 10.0.2.1"),
        pod_with("heir-0", 8080, "", RUNNING),
    ];
    let mesh = mesh(&[&pods[..], &[slice("depot-x", "IPv4", "{addresses: [10.0.2.1]}")]].concat());
    let call = mesh.call("yard/client", DEPOT, 80, None);
    assert_eq!(call["endpoints"], json!({"10.0.2.1:8080": "ISTIO_MUTUAL"}));
    assert_eq!(call["subject_alt_names"], json!(["spiffe://cluster.local/ns/rail/sa/heir"]));
}

/// Pods in the network of their node share its address.
#[test]
fn a4_of_several_pods_at_an_address_the_one_with_the_port_counts() {
    let meshed = pod_with("z-0", 8080, "", "phase: Running, podIP: 192.168.0.1");
    let slice = slice("depot-x", "IPv4", "{addresses: [192.168.0.1]}");
    for (others, mode) in [
        (vec![on_the_node("a", 9100), on_the_node("b", 9200)], "ISTIO_MUTUAL"),
        (vec![on_the_node("a", 8080), on_the_node("b", 9200)], "DISABLE"),
    ] {
        let mesh = mesh(&[&others[..], &[meshed.clone(), slice.clone()]].concat());
        assert_eq!(endpoints(&mesh), json!({"192.168.0.1:8080": mode}));
    }
    // Each of them is an endpoint of its own Service all the same.
    let mesh = mesh(&[
        on_the_node("a", 9100),
        on_the_node("b", 9200),
        "{apiVersion: v1, kind: Service, metadata: {name: b, namespace: rail}, spec: {clusterIP: 10.96.0.2, selector: {app: b}, ports: [{port: 80, targetPort: 9200}]}}".to_owned(),
    ]);
    let found = mesh.call("yard/client", "b.rail.svc.cluster.local", 80, None);
    assert_eq!(found["endpoints"], json!({"192.168.0.1:9200": "DISABLE"}));
}

/// A Pod in the network of its node that is replaced: the address is listed twice, once as not ready.
#[test]
fn an_endpoint_that_is_listed_twice_is_ready_if_one_is() {
    let pods = ["a-old", "b-new", "c-old"]
        .map(|name| pod_with(name, 8080, "", "phase: Running, podIP: 192.168.0.1"));
    let endpoint = |name: &str, ready: bool| {
        format!(
            "{{addresses: [192.168.0.1], conditions: {{ready: {ready}}}, targetRef: {{kind: Pod, name: {name}}}}}"
        )
    };
    let slices = [
        slice("depot-x", "IPv4", &endpoint("a-old", false)),
        slice("depot-y", "IPv4", &[endpoint("b-new", true), endpoint("c-old", false)].join(", ")),
    ];
    let mesh = mesh(&[&pods[..], &slices[..]].concat());
    assert_eq!(endpoints(&mesh), json!({"192.168.0.1:8080": "ISTIO_MUTUAL"}));
}

/// Slices of both families and several of one are one list of endpoints; host names are none.
#[test]
fn all_slices_of_a_service_are_joined() {
    let pods = [0, 1].map(|number| {
        let status = format!(
            "phase: Running, podIP: 10.0.2.{number}, podIPs: [{{ip: 10.0.2.{number}}}, {{ip: 'fd00::{number}'}}]"
        );
        pod_with(&format!("depot-{number}"), 8080, "", &status)
    });
    let endpoint = |address: &str, number: u8| {
        format!("{{addresses: ['{address}'], targetRef: {{kind: Pod, name: depot-{number}}}}}")
    };
    let slices = [
        slice("depot-a", "IPv4", &endpoint("10.0.2.0", 0)),
        slice("depot-b", "IPv4", &endpoint("10.0.2.1", 1)),
        slice("depot-c", "IPv6", &[endpoint("fd00::0", 0), endpoint("fd00::1", 1)].join(", ")),
        slice("depot-d", "FQDN", "{addresses: [depot.example]}"),
    ];
    let before = [client_of_both(), service("rail", "depot", "clusterIP: 10.96.0.1")];
    let mesh = Mesh::of(&[&before[..], &pods[..], &slices[..]].concat());
    let all = ["10.0.2.0:8080", "10.0.2.1:8080", "[fd00::1]:8080", "[fd00::]:8080"];
    let expected: serde_json::Map<_, _> =
        all.iter().map(|address| ((*address).to_owned(), json!("ISTIO_MUTUAL"))).collect();
    assert_eq!(endpoints(&mesh), Value::Object(expected));
}

/// Without slices, `publishNotReadyAddresses` makes every selected Pod that has not ended ready.
#[test]
fn pods_that_are_not_ready_are_published_where_the_service_says_so() {
    let unready = "phase: Running, podIP: 10.0.2.1, conditions: [{type: Ready, status: 'False'}]";
    let of = |spec: &str, status: &str| {
        endpoints(&Mesh::of(&[
            pod("yard", "client", "10.0.1.1", "app: client"),
            service("rail", "depot", spec),
            pod_with("depot-0", 8080, "", status),
        ]))
    };
    let published = "clusterIP: 10.96.0.1, publishNotReadyAddresses: true";
    assert_eq!(of("clusterIP: 10.96.0.1", unready), json!({}));
    assert_eq!(of(published, unready), json!({"10.0.2.1:8080": "ISTIO_MUTUAL"}));
    assert_eq!(of(published, "phase: Succeeded, podIP: 10.0.2.1"), json!({}));
}

/// Without slices, a Pod is behind a Service with its addresses of the Service's families.
#[test]
fn a_service_has_endpoints_of_its_families() {
    let both = "phase: Running, podIP: 10.0.2.1, podIPs: [{ip: 10.0.2.1}, {ip: 'fd00::1'}]";
    let six = "phase: Running, podIP: 'fd00::1'";
    let of = |spec: &str, status: &str| {
        let mesh = Mesh::of(&[
            client_of_both(),
            service("rail", "depot", spec),
            pod_with("depot-0", 8080, "", status),
        ]);
        let found = endpoints(&mesh);
        found.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("clusterIP: 10.96.0.1", both), ["10.0.2.1:8080"]);
    assert_eq!(of("clusterIP: 10.96.0.1", six), [""; 0], "nobody of that family");
    assert_eq!(of("clusterIP: 'fd00:96::1'", both), ["[fd00::1]:8080"]);
    assert_eq!(of("clusterIPs: ['fd00:96::1', 10.96.0.1]", both), ["10.0.2.1:8080", "[fd00::1]:8080"]);
    assert_eq!(of("clusterIP: 10.96.0.1, ipFamilies: [IPv6, IPv4]", both).len(), 2);
    assert_eq!(of("clusterIP: ''", six), ["[fd00::1]:8080"], "no family is known");
}

/// Of the endpoints of a Service a client gets those of its own families; if there is none, all.
#[test]
fn a_client_gets_the_endpoints_that_it_can_dial() {
    let both = "phase: Running, podIP: 10.0.2.1, podIPs: [{ip: 10.0.2.1}, {ip: 'fd00::1'}]";
    let of = |client: &str, status: &str| {
        let mesh = Mesh::of(&[
            pod("yard", "client", client, "app: client"),
            service("rail", "depot", "clusterIPs: ['fd00:96::1', 10.96.0.1]"),
            pod_with("depot-0", 8080, "", status),
        ]);
        endpoints(&mesh).as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(of("10.0.1.1", both), ["10.0.2.1:8080"]);
    assert_eq!(of("'fd00:1::1'", both), ["[fd00::1]:8080"]);
    assert_eq!(of("'fd00:1::1'", RUNNING), ["10.0.2.1:8080"], "the way between may translate");
}

/// A `targetPort` by name is on each Pod the number that the Pod gives it, for callers as for the Pod itself.
#[test]
fn a_named_port_may_differ_from_pod_to_pod() {
    let depot = |name: &str, port: u16, ip: &str| {
        pod_with(name, port, "", &format!("phase: Running, podIP: {ip}"))
            .replace("containerPort", "name: web, containerPort")
    };
    let mesh = Mesh::of(&[
        pod("yard", "client", "10.0.1.1", "app: client"),
        service("rail", "depot", "clusterIP: 10.96.0.1").replace("targetPort: 8080", "targetPort: web"),
        depot("depot-0", 8080, "10.0.2.1"),
        depot("depot-1", 9090, "10.0.2.2"),
    ]);
    let expected = json!({"10.0.2.1:8080": "ISTIO_MUTUAL", "10.0.2.2:9090": "ISTIO_MUTUAL"});
    assert_eq!(endpoints(&mesh), expected);
    for (pod, own, other) in [("rail/depot-0", 8080, 9090), ("rail/depot-1", 9090, 8080)] {
        let workload = mesh.snapshot().workload(&pod.parse().unwrap()).unwrap();
        let inbound = eastwest_engine::compute::inbound(mesh.snapshot(), workload);
        let listed = |port: u16| inbound.ports.get(&port).is_some_and(|one| one.listed.is_some());
        assert_eq!((listed(own), listed(other)), (true, false), "{pod}");
    }
}

/// A container `istio-proxy`, also a native sidecar, is a sidecar; a label that says otherwise goes before it.
#[test]
fn a_pod_with_a_container_of_the_proxy_has_a_sidecar() {
    let depot = |labels: &str, spec: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: depot-0, namespace: rail, labels: {{app: depot{labels}}}}},
               spec: {{{spec}}}, status: {{phase: Running, podIP: 10.0.2.1}}}}"
        )
    };
    let beside = "containers: [{name: app}, {name: istio-proxy}]";
    let native = "initContainers: [{name: istio-proxy, restartPolicy: Always}], containers: [{name: app}]";
    for (labels, spec, mode) in [
        ("", beside, "ISTIO_MUTUAL"),
        ("", native, "ISTIO_MUTUAL"),
        ("", "initContainers: [{name: istio-proxy}], containers: [{name: app}]", "DISABLE"),
        ("", "containers: [{name: app}]", "DISABLE"),
        (", security.istio.io/tlsMode: disabled", beside, "DISABLE"),
    ] {
        let mesh = mesh(&[depot(labels, spec)]);
        assert_eq!(endpoints(&mesh), json!({"10.0.2.1:8080": mode}), "{labels} {spec}");
    }
}

/// Endpoints count as the slices do into which a cluster mirrors them, and not beside those.
#[test]
fn endpoints_of_a_service_without_selector_are_read() {
    let outside = "{apiVersion: v1, kind: Service, metadata: {name: depot, namespace: rail}, spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}";
    let by_hand = "{apiVersion: v1, kind: Endpoints, metadata: {name: depot, namespace: rail}, \
                   subsets: [{addresses: [{ip: 10.0.2.1}], ports: [{name: http, port: 8080}]}]}";
    let of = |more: &[String]| {
        let first =
            [pod("yard", "client", "10.0.1.1", "app: client"), outside.to_owned(), by_hand.to_owned()];
        endpoints(&Mesh::of(&[&first[..], more].concat()))
    };
    assert_eq!(of(&[]), json!({"10.0.2.1:8080": "DISABLE"}));
    assert_eq!(of(&[pod_with("depot-0", 8080, "", RUNNING)]), json!({"10.0.2.1:8080": "ISTIO_MUTUAL"}));
    let mirrored = slice("depot", "IPv4", "{addresses: [10.0.2.2]}");
    assert_eq!(of(&[mirrored]), json!({"10.0.2.2:8080": "DISABLE"}));
}

/// Manifests as they lie in git: a Deployment stands for its Pods until there is one.
#[test]
fn a_template_is_a_workload_until_its_pods_come() {
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: depot, namespace: rail}, spec: {template: \
                      {metadata: {labels: {app: depot}}, spec: {serviceAccountName: rail, containers: [{name: app}]}}}}";
    let strict = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p, namespace: rail}, \
                  spec: {selector: {matchLabels: {app: depot}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}}";
    let (before, after) = Mesh::grown(
        &[service("rail", "depot", "clusterIP: 10.96.0.1"), deployment.to_owned(), strict.to_owned()],
        &[pod_with("depot-0", 8080, "", RUNNING)],
    );
    let report = before.report("rail/depot");
    assert_eq!(report["identity"], "spiffe://cluster.local/ns/rail/sa/rail");
    assert_eq!(report["inbound"]["default"], "STRICT");
    assert_eq!(report["inbound"]["ports"], json!({"8080": "DISABLE"}));
    let names = |mesh: &Mesh| mesh.workloads();
    assert_eq!(names(&before), ["rail/depot"]);
    assert_eq!(names(&after), ["rail/depot-0"]);
}

/// L9: what Istio's injector redirects.
#[test]
fn a_strict_pod_of_which_one_family_is_redirected_is_warned_of() {
    let pod = |first: &str, other: &str, env: &str, containers: &str| {
        let named = format!("{containers}: [{{name: istio-init, image: i, env: [{env}]}}], containers: [");
        pod("yard", "lamp", first, "app: lamp")
            .replace(&format!("podIPs: [{{ip: {first}}}]"), &format!("podIPs: [{{ip: {first}}}{other}]"))
            .replace("containers: [", &named)
    };
    let strict = policy("yard", "all", 1, "mtls: {mode: STRICT}");
    let found = |pod: &str, policy: &str| {
        Mesh::of(&[pod.to_owned(), policy.to_owned()]).findings("Pod/yard/lamp").join("\n")
    };
    let (v4, v6) = ("10.0.1.5", ", {ip: 'fd00::5'}");
    let dual = "{name: ISTIO_DUAL_STACK, value: 'true'}";
    let said = found(&pod(v4, v6, "", "initContainers"), &strict);
    assert!(said.contains("has fd00::5 beside 10.0.1.5") && said.contains("ISTIO_DUAL_STACK=true"), "{said}");
    for (why, quiet) in [
        ("both are redirected", found(&pod(v4, v6, dual, "initContainers"), &strict)),
        ("there is one family", found(&pod(v4, "", "", "initContainers"), &strict)),
        ("nothing is known of the redirection", found(&pod(v4, v6, "", "ephemeralContainers"), &strict)),
        (
            "nothing is strict",
            found(&pod(v4, v6, "", "initContainers"), &policy("yard", "all", 1, "mtls: {mode: PERMISSIVE}")),
        ),
    ] {
        assert!(!quiet.contains("fd00::5"), "{why}: {quiet}");
    }
}
