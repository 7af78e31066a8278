//! The other kinds.

use eastwest_model::{
    mesh::{OutboundTrafficPolicy, TlsVersion},
    service::{ExportTo, Location, Protocol, Resolution, TargetPort},
};

use super::*;

/// A valid manifest that uses every field.
pub(super) const EVERYTHING: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: reviews
  namespace: shop
  annotations: {networking.istio.io/exportTo: '., front', other: dropped}
spec:
  clusterIP: 10.1.0.1
  clusterIPs: [10.1.0.1, 'fd00::1']
  selector: {app: reviews}
  ports:
  - {name: http-web, port: 80, targetPort: web, protocol: TCP}
  - {name: db, port: 5432, targetPort: '5433', appProtocol: tcp}
  - {name: dns, port: 53, protocol: UDP}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-0, namespace: shop, uid: 7d0c, labels: {app: reviews}}
spec:
  nodeName: node-1
  serviceAccountName: reviews
  initContainers: [{restartPolicy: Always, ports: [{containerPort: 15090}]}, {ports: [{containerPort: 1}]}]
  containers: [{image: x, ports: [{name: web, containerPort: 8080}, {containerPort: 53, protocol: UDP}]}]
status:
  phase: Running
  podIP: 10.0.0.1
  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::2'}]
  conditions: [{type: Initialized, status: 'True'}, {type: Ready, status: 'False'}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-x, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: false}, targetRef: {kind: Pod, name: reviews-0}}
- {addresses: [10.0.0.2]}
ports: [{name: http-web, port: 8080, protocol: TCP}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: shop, labels: {app: meta}}
spec: {address: 10.2.0.1, ports: {http: 8081}, labels: {app: spec, v: '1'}, serviceAccount: vm, weight: 3}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: shop}
spec:
  hosts: [api.bank.example, '*.bank.example']
  addresses: [10.9.0.1]
  ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}, {number: 80, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{address: 10.3.0.1, ports: {tls: 9443}, labels: {a: b}, serviceAccount: bank}]
  exportTo: ['*']
  subjectAltNames: [bank.example]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: side, namespace: shop}
spec:
  workloadSelector: {labels: {app: reviews}}
  egress: [{port: {number: 80}, hosts: [other/*]}, {hosts: ['./*', 'istio-system/*', '~shop/ratings.shop.svc.cluster.local']}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  ingress: [{port: {number: 9080, name: http, protocol: HTTP}, defaultEndpoint: '127.0.0.1:8080'}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    trustDomain: example.org
    trustDomainAliases: [old.example.org]
    enableAutoMtls: false
    meshMTLS: {minProtocolVersion: TLSV1_3}
    tlsDefaults: {cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384], ecdhCurves: [P-256]}
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
    defaultDestinationRuleExportTo: ['.']
    accessLogFile: /dev/stdout
    rootNamespace: istio-system
    ingressClass: passed-over
";

#[test]
fn services_pods_and_slices() {
    let parsed = parse(EVERYTHING);
    let [Object::Service(service), Object::Workload(pod), Object::EndpointSlice(slice), ..] =
        &parsed.objects[..]
    else {
        panic!("{parsed:?}")
    };
    assert_eq!(
        service.cluster_ips,
        ["10.1.0.1".parse::<std::net::IpAddr>().unwrap(), "fd00::1".parse().unwrap()]
    );
    assert_eq!(service.export_to, ExportTo::Set([".".into(), "front".into()].into()));
    assert_eq!(service.meta.annotations.len(), 1);
    let ports: Vec<_> =
        service.ports.iter().map(|p| (&*p.name, p.number, p.protocol, p.target.clone())).collect();
    assert_eq!(
        ports,
        [
            ("http-web", 80, Protocol::Http, TargetPort::Named("web".into())),
            ("db", 5432, Protocol::Tcp, TargetPort::Number(5433)),
        ]
    );
    assert_eq!(pod.service_account.as_deref(), Some("reviews"));
    assert_eq!(pod.addresses.len(), 2);
    let ports: Vec<_> = pod.container_ports.iter().map(|p| (p.name.as_deref(), p.port)).collect();
    assert_eq!(ports, [(Some("web"), 8080), (None, 15090)]);
    assert!(!pod.ready && !pod.ended);
    assert_eq!((pod.uid.as_deref(), pod.node.as_deref()), (Some("7d0c"), Some("node-1")));
    assert_eq!(&*slice.service, "reviews");
    let endpoints: Vec<_> =
        slice.endpoints.iter().map(|e| (e.addresses.len(), e.ready, e.pod.as_deref())).collect();
    assert_eq!(endpoints, [(1, false, Some("reviews-0")), (1, true, None)]);
    assert_eq!(slice.ports, [("http-web".into(), 8080)].into());
}

#[test]
fn entries_sidecars_and_the_mesh() {
    let parsed = parse(EVERYTHING);
    let [
        _,
        _,
        _,
        Object::Workload(vm),
        Object::ServiceEntry(entry),
        Object::Sidecar(sidecar),
        Object::MeshConfig(_, mesh),
    ] = &parsed.objects[..]
    else {
        panic!("{parsed:?}")
    };
    assert_eq!(*vm.meta.labels, [("app".into(), "meta".into()), ("v".into(), "1".into())].into());
    assert_eq!((vm.service_account.as_deref(), vm.weight), (Some("vm"), 3));
    assert_eq!(vm.port_overrides, [("http".into(), 8081)].into());
    assert_eq!((entry.location, entry.resolution), (Location::Internal, Resolution::Static));
    assert_eq!((entry.hosts.len(), entry.addresses.len()), (2, 1));
    let ports: Vec<_> = entry.ports.iter().map(|p| (p.number, p.protocol, p.target.clone())).collect();
    assert_eq!(
        ports,
        [(443, Protocol::Tls, TargetPort::Number(8443)), (80, Protocol::Http, TargetPort::Number(80))]
    );
    assert_eq!(entry.endpoints[0].ports, [("tls".into(), 9443)].into());
    let egress: Vec<_> = sidecar
        .egress
        .iter()
        .flat_map(|listener| &listener.hosts)
        .map(|(namespace, host)| format!("{namespace} {host}"))
        .collect();
    assert_eq!(sidecar.egress.iter().map(|listener| listener.port).collect::<Vec<_>>(), [Some(80), None]);
    assert_eq!(sidecar.outbound_traffic_policy, Some(OutboundTrafficPolicy::RegistryOnly));
    assert_eq!(egress, ["other *", ". *", "istio-system *", "~shop ratings.shop.svc.cluster.local"]);
    assert_eq!(
        (sidecar.ingress[0].number, sidecar.ingress[0].target.clone()),
        (9080, TargetPort::Number(8080))
    );
    assert_eq!(mesh.trust_domain.as_str(), "example.org");
    assert_eq!(mesh.trust_domain_aliases[0].as_str(), "old.example.org");
    assert_eq!((mesh.enable_auto_mtls, mesh.min_tls_version), (false, TlsVersion::V1_3));
    assert_eq!(mesh.outbound_traffic_policy, OutboundTrafficPolicy::RegistryOnly);
    assert_eq!(mesh.default_destination_rule_export_to, [".".into()].into());
    assert_eq!(mesh.access_log_file.as_deref(), Some("/dev/stdout"));
}

#[test]
fn what_a_kind_leaves_out_has_the_field_s_own_default() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: p, creationTimestamp: null}, spec: {}, status: {podIP: 10.0.0.9}}\n---\n\
                {apiVersion: v1, kind: Service, metadata: {name: h}, spec: {clusterIP: None, selector: {}, ports: [{port: 80}]}}\n---\n\
                {apiVersion: v1, kind: Service, metadata: {name: e}, spec: {type: ExternalName, externalName: A.Example}}\n---\n\
                {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: nobodys}, addressType: IPv4}\n";
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, []);
    let [Object::Workload(pod), Object::Service(headless), Object::Service(alias)] = &parsed.objects[..]
    else {
        panic!("{parsed:?}")
    };
    assert_eq!((pod.service_account.as_deref(), pod.ready), (Some("default"), true));
    assert_eq!(pod.meta.created, eastwest_model::Created::default());
    assert!(headless.headless && headless.cluster_ips.is_empty() && headless.selector.is_none());
    assert_eq!(headless.ports[0].target, TargetPort::Number(80));
    assert_eq!(headless.ports[0].protocol, Protocol::Undeclared);
    assert_eq!(alias.external_name.as_ref().unwrap().as_str(), "a.example");
}

#[test]
fn a_pod_is_ready_while_it_runs() {
    let state = |status: &str| {
        let parsed =
            parse(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, status: {status}}}"));
        let Object::Workload(pod) = &parsed.objects[0] else { panic!("{parsed:?}") };
        (pod.ready, pod.ended)
    };
    assert_eq!(state("{conditions: [{type: Ready, status: 'True'}], phase: Running}"), (true, false));
    assert_eq!(state("{conditions: [{type: Ready, status: 'False'}], phase: Running}"), (false, false));
    assert_eq!(state("{phase: Running}"), (true, false));
    assert_eq!(state("{phase: Pending}"), (false, false));
    assert_eq!(state("{phase: Succeeded}"), (false, true));
    assert_eq!(state("{phase: Failed}"), (false, true));
    let leaving = "metadata: {name: p, deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Running}";
    let parsed = parse(&format!("{{apiVersion: v1, kind: Pod, {leaving}}}"));
    let Object::Workload(leaving) = &parsed.objects[0] else { panic!("{parsed:?}") };
    assert_eq!((leaving.ready, leaving.ended), (false, false), "it is being deleted, and keeps its address");
}

#[test]
fn mistakes_in_core_kinds() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n\
                spec: {clusterIP: ten, ports: [{port: 0}, {name: x}, {port: 80, targetPort: 70000}, {port: 1, protocol: TPC}]}\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n\
                spec: {serviceAccountName: a/b, containers: {}}\nstatus: {podIP: 10.0.0}\n---\n\
                apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e}\naddressType: ipv4\n\
                endpoints: [{addresses: [a.example]}]\n";
    assert_eq!(
        findings(text),
        [
            "! addressType: \"ipv4\" is not among the address types IPv4, IPv6, FQDN (did you mean \"IPv4\"?)",
            "! endpoints[0].addresses[0]: \"a.example\" is refused: invalid IP address syntax",
            "! spec.containers: {} is not a list",
            "! spec.serviceAccountName: \"a/b\" is no service account: use a-z, 0-9, '-' and '.', at most 253 bytes",
            "! status.podIP: \"10.0.0\" is refused: invalid IP address syntax",
            "! spec.clusterIP: \"ten\" is refused: invalid IP address syntax",
            "! spec.ports[0].port: 0 is not a number from 1 to 65535",
            "! spec.ports[1].port: missing: a port needs its number (port \"x\")",
            "! spec.ports[2].targetPort: 70000 is not a number from 1 to 65535 (port 80)",
            "! spec.ports[3].protocol: \"TPC\" is not among the protocols TCP, UDP, SCTP (port 1)",
        ]
    );
}

#[test]
fn what_a_port_carries_is_no_protocol_of_a_service() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80, protocol: HTTP}, {port: 81, protocol: TCP}]}\n";
    assert_eq!(
        findings(text),
        [
            "! spec.ports[0].protocol: \"HTTP\" is what the port carries: write TCP here, and appProtocol: http or a name like http-web (port 80)"
        ]
    );
}

#[test]
fn mistakes_in_entries_and_sidecars() {
    let kind = "ServiceEntry";
    check(kind, "{}", &["! spec.hosts: missing: name at least one host"]);
    check(kind, "{hosts: ['*']}", &["! spec.hosts[0]: \"*\" is every host"]);
    check(
        kind,
        "{hosts: [a.b], resolution: STATIC}",
        &["? spec.resolution: STATIC, but there are no endpoints"],
    );
    check(
        kind,
        "{hosts: [a.b], resolution: static}",
        &["! spec.resolution: \"static\" is not among the resolutions"],
    );
    check(kind, "{hosts: ['*.b'], resolution: DNS}", &["! spec.hosts: a wildcard cannot be looked up"]);
    check(
        kind,
        "{hosts: [a.b], resolution: STATIC, endpoints: [{address: c.d}]}",
        &["! spec.endpoints[0].address: \"c.d\" is no IP address, which STATIC needs: use DNS"],
    );
    check(kind, "{hosts: [a.b], endpoints: [{address: 10.0.0.1}]}", &["! spec.endpoints: resolution NONE"]);
    check(
        kind,
        "{hosts: [a.b], addresses: [10.0.0.0/8, 10.0.0.1/32, x]}",
        &["! spec.addresses[2]: \"x\" is no IP address"],
    );
    check(
        kind,
        "{hosts: [a.b], ports: [{number: 80, name: a, protocol: HTTPX}, {number: 80, name: a}]}",
        &[
            "! spec.ports[0].protocol: \"HTTPX\" is not among the protocols",
            "! spec.ports[1].name: \"a\" stands twice",
            "! spec.ports[1].number: stands twice",
        ],
    );
    check(
        kind,
        "{hosts: [a.b], resolution: DNS, endpoints: [{address: c.d, ports: {x: 1}}]}",
        &["! spec.endpoints[0].ports: \"x\" is no port of this entry"],
    );
    let entry = |fields: &str| format!("{{hosts: [a.b], {fields}}}");
    let ports = |protocol: &str| format!("ports: [{{number: 1, name: p, protocol: {protocol}}}]");
    for protocol in ["TCP", "''", "MONGO"] {
        let several = format!("{{hosts: [a.b, c.d], resolution: DNS, {}}}", ports(protocol));
        check(kind, &several, &["! spec.ports[0].protocol: several hosts can be told apart in HTTP,"]);
    }
    check(kind, &format!("{{hosts: [a.b, c.d], resolution: DNS, {}}}", ports("TLS")), &[]);
    check(kind, &format!("{{hosts: [a.b, c.d], resolution: NONE, {}}}", ports("TCP")), &[]);
    let looked_up =
        |protocol: &str| format!("{{hosts: ['*.b'], resolution: DYNAMIC_DNS, {}}}", ports(protocol));
    check(
        kind,
        &looked_up("HTTPS"),
        &["! spec.ports[0].protocol: DYNAMIC_DNS needs one of HTTP, HTTP2, GRPC, TLS"],
    );
    check(kind, &looked_up("grpc"), &[]);
    let block = "resolution: DNS, addresses: [10.0.0.0/24]";
    check(kind, &entry(block), &["! spec.addresses[0]: a block of addresses is for"]);
    check(kind, "{hosts: ['*a.b'], resolution: NONE}", &["? spec.hosts[0]: a wildcard within a label"]);
    let selecting = "resolution: NONE, workloadSelector: {labels: {a: b}}";
    check(kind, &entry(selecting), &["? spec.workloadSelector: means nothing with resolution NONE"]);
    check("WorkloadEntry", "{}", &["! spec.address: missing"]);
    check("WorkloadEntry", "{network: ''}", &["! spec.address: missing"]);
    let elsewhere = "an endpoint of another network without an address is reached through a gateway alone";
    check("WorkloadEntry", "{network: net2}", &[&format!("? spec.network: {elsewhere}")]);
    check("WorkloadEntry", "{network: net2, address: 10.0.0.1}", &[]);
    check(
        "ServiceEntry",
        "{hosts: [a.b], resolution: STATIC, endpoints: [{network: net2}]}",
        &[&format!("? spec.endpoints[0].network: {elsewhere}")],
    );
    check("WorkloadEntry", "{address: unix:///x}", &["! spec.address: \"unix:///x\" is a unix socket"]);
    let kind = "Sidecar";
    check(kind, "{}", &["! spec: is empty"]);
    check(kind, "{egress: [{}]}", &["! spec.egress[0].hosts: missing"]);
    check(kind, "{egress: [{hosts: [a.b]}]}", &["! spec.egress[0].hosts[0]: \"a.b\" has no namespace"]);
    let listener = |fields: &str| format!("{{egress: [{{hosts: ['*/*'], {fields}}}]}}");
    check(kind, &listener("port: {number: 80, protocol: HTTP}"), &[]);
    check(kind, &listener("port: {}"), &["! spec.egress[0].port.number: missing"]);
    check(
        kind,
        &listener("captureMode: SOME"),
        &["! spec.egress[0].captureMode: \"SOME\" is not among the modes"],
    );
    check(
        kind,
        &listener("port: {number: 1}, bind: here"),
        &["! spec.egress[0].bind: \"here\" is no IP", "? spec.egress[0]: its hosts are imported, but"],
    );
    check(
        kind,
        &listener("port: {number: 1}, captureMode: NONE"),
        &["? spec.egress[0]: its hosts are imported, but"],
    );
    check(
        kind,
        "{egress: [{hosts: ['*/*']}, {hosts: [a/b]}]}",
        &["! spec.egress[0]: a listener without a port takes all that is left"],
    );
    let twice = "{egress: [{port: {number: 1}, hosts: ['*/*']}, {port: {number: 1}, hosts: [a/b]}]}";
    check(kind, twice, &["! spec.egress[1].port.number: stands twice"]);
    check(kind, "{outboundTrafficPolicy: {mode: ANY}}", &["! spec.outboundTrafficPolicy.mode: \"ANY\""]);
    check(kind, "{ingress: [{}]}", &["! spec.ingress[0].port: missing"]);
    check(
        kind,
        "{ingress: [{port: {number: 1}, defaultEndpoint: '10.0.0.1:80'}]}",
        &["! spec.ingress[0].defaultEndpoint: \"10.0.0.1:80\" is refused: write 127.0.0.1:PORT"],
    );
}

#[test]
fn mistakes_in_the_mesh_config() {
    let mesh = |mesh: &str| {
        let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:";
        findings(&format!("{head}\n  mesh: |\n    {mesh}\n"))
    };
    assert_eq!(mesh("# nothing"), ["? data.mesh: is empty: every setting of the mesh is the default"]);
    assert_eq!(
        mesh("trustDomain: A"),
        [
            "! data.mesh.trustDomain: \"A\" is refused: 'A' is not allowed in a trust domain: use a-z, 0-9, '.', '-' and '_'"
        ]
    );
    assert_eq!(
        mesh("meshMTLS: {minProtocolVersion: TLSV1_1}"),
        [
            "! data.mesh.meshMTLS.minProtocolVersion: \"TLSV1_1\" is not among the versions TLS_AUTO, TLSV1_2, TLSV1_3 (did you mean \"TLSV1_2\"?)"
        ]
    );
    assert_eq!(
        mesh("enableAutoMTLS: false"),
        ["? data.mesh.enableAutoMTLS: is ignored (did you mean \"enableAutoMtls\"?)"]
    );
    assert_eq!(
        mesh("rootNamespace: other"),
        [
            "? data.mesh.rootNamespace: is ignored: the root namespace is \"istio-system\", see --root-namespace"
        ]
    );
    assert!(mesh("a: [")[0].starts_with("! data.mesh: line 1: this is not valid YAML"));
    assert_eq!(
        findings("{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}}"),
        ["! data.mesh: missing: ConfigMap istio holds the MeshConfig under the key \"mesh\""]
    );
}

fn mesh_config(text: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {text}\n"
    )
}

/// Envoy refuses a whole secret, and every cluster with it, for one suite or curve that it does not know.
#[test]
fn suites_and_curves_that_envoy_does_not_know_are_left_out_alone() {
    let text = mesh_config(
        "{trustDomain: example.org, tlsDefaults: {cipherSuites: [TLS_AES_256_GCM_SHA384, TLS_RSA_WITH_AES_128_GCM_SHA256, FOO], \
         ecdhCurves: [P-256, prime256v1, X25519MLKEM768, BAR]}, meshMTLS: {ecdhCurves: [P-256, BAZ]}, \
         trustDomainAliases: [old, old, example.org]}",
    );
    let parsed = parse(&text);
    let [Object::MeshConfig(_, mesh)] = &parsed.objects[..] else { panic!("{parsed:?}") };
    assert_eq!(mesh.trust_domain.as_str(), "example.org", "the rest holds");
    assert_eq!(mesh.tls_default_cipher_suites, ["AES128-GCM-SHA256".into()]);
    assert_eq!(mesh.tls_default_curves, ["P-256".into(), "X25519MLKEM768".into()]);
    assert_eq!(mesh.trust_domain_aliases.len(), 1);
    let golden = [
        "! data.mesh.meshMTLS.ecdhCurves[1]: \"BAZ\" is no curve that Envoy knows",
        "! data.mesh.tlsDefaults.cipherSuites[2]: \"FOO\" is no cipher suite that Envoy knows",
        "! data.mesh.tlsDefaults.ecdhCurves[3]: \"BAR\" is no curve that Envoy knows",
        "? data.mesh.meshMTLS.ecdhCurves: has no effect",
        "? data.mesh.tlsDefaults.cipherSuites[0]: \"TLS_AES_256_GCM_SHA384\" is left out: suites of TLS 1.3",
        "? data.mesh.tlsDefaults.ecdhCurves[1]: \"prime256v1\" stands twice",
        "? data.mesh.trustDomainAliases[1]: old is trusted already",
        "? data.mesh.trustDomainAliases[2]: example.org is trusted already",
    ];
    let found = findings(&text);
    assert_eq!(found.len(), golden.len(), "{found:#?}");
    for golden in golden {
        assert!(found.iter().any(|found| found.starts_with(golden)), "{golden}: {found:#?}");
    }
}

#[test]
fn templates_of_pods_are_workloads_without_an_address() {
    let template = "template: {metadata: {labels: {app: web}}, spec: {serviceAccountName: web, \
                    initContainers: [{name: istio-proxy, restartPolicy: Always}], \
                    containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}}";
    let object = |kind: &str, spec: &str| {
        let group = if kind.ends_with("Job") { "batch" } else { "apps" };
        format!("{{apiVersion: {group}/v1, kind: {kind}, metadata: {{name: web, namespace: shop}}, {spec}}}")
    };
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"] {
        let parsed = parse(&object(kind, &format!("spec: {{replicas: 2, {template}}}")));
        let [Object::Workload(web)] = &parsed.objects[..] else { panic!("{parsed:?}") };
        assert_eq!(web.meta.object.to_string(), format!("{kind}/shop/web"));
        assert_eq!(*web.meta.labels, [("app".into(), "web".into())].into());
        assert!(web.addresses.is_empty() && web.sidecar);
        assert_eq!((web.service_account.as_deref(), web.container_ports[0].port), (Some("web"), 8080));
    }
    let cron = parse(&object("CronJob", &format!("spec: {{jobTemplate: {{spec: {{{template}}}}}}}")));
    assert_eq!(cron.objects[0].reference().to_string(), "CronJob/shop/web");
    for nothing in [
        object("Deployment", &format!("spec: {{replicas: 0, {template}}}")),
        object("Job", &format!("spec: {{{template}}}, status: {{completionTime: '2026-01-01T00:00:00Z'}}")),
        object("ReplicaSet", &format!("spec: {{{template}}}"))
            .replace("name: web,", "name: web, ownerReferences: [{name: web}],"),
    ] {
        let parsed = parse(&nothing);
        assert!(parsed.objects.is_empty() && parsed.diagnostics.is_empty(), "{parsed:?}");
    }
}

#[test]
fn endpoints_have_ports_of_their_own_in_each_subset() {
    let text = "{apiVersion: v1, kind: Endpoints, metadata: {name: db, namespace: shop}, subsets: [\
                {addresses: [{ip: 10.0.0.1, targetRef: {kind: Pod, name: db-0}}], notReadyAddresses: [{ip: 10.0.0.2}], \
                 ports: [{name: sql, port: 5432}]}, {addresses: [{ip: 10.0.0.3}], ports: [{name: sql, port: 5433}]}]}";
    let parsed = parse(text);
    let [Object::EndpointSlice(slice)] = &parsed.objects[..] else { panic!("{parsed:?}") };
    let shown: Vec<_> = slice
        .endpoints
        .iter()
        .map(|one| {
            (one.addresses[0].to_string(), one.ready, one.pod.as_deref(), one.ports.as_ref().unwrap()["sql"])
        })
        .collect();
    let expected = [
        ("10.0.0.1", true, Some("db-0"), 5432),
        ("10.0.0.2", false, None, 5432),
        ("10.0.0.3", true, None, 5433),
    ];
    assert_eq!(shown, expected.map(|(ip, ready, pod, port)| (ip.to_owned(), ready, pod, port)));
    assert_eq!(&*slice.service, "db");
}

/// A finding below an item of a list says which item it is, by the name or number that it has.
#[test]
fn findings_in_lists_name_the_item() {
    let rule = |spec: &str| {
        findings(&format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: x, namespace: lab}}\nspec: {spec}\n"
        ))
    };
    for (spec, field, named) in [
        (
            "{host: a, subsets: [{name: v1}, {name: v2, trafficPolicy: {tls: {mode: SOMETIMES}}}]}",
            "spec.subsets[1].trafficPolicy.tls.mode",
            "(subset \"v2\")",
        ),
        (
            "{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SOMETIMES}}]}}",
            "spec.trafficPolicy.portLevelSettings[0].tls.mode",
            "(port 80)",
        ),
        (
            "{host: a, subsets: [{name: v1, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: X}}]}}]}",
            "spec.subsets[0].trafficPolicy.portLevelSettings[0].tls.mode",
            "(subset \"v1\", port 80)",
        ),
    ] {
        let found = rule(spec);
        let about = format!("! {field}: ");
        assert!(
            found.iter().any(|one| one.starts_with(&about) && one.ends_with(named)),
            "{spec}: {found:#?}"
        );
    }
    let service = findings(
        "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: lab}\n\
         spec: {ports: [{name: a, port: 80}, {name: b, port: 81, protocol: HTTP}, {port: 82, protocol: QUIC}]}\n",
    );
    assert!(service[0].ends_with("(port \"b\")") && service[1].ends_with("(port 82)"), "{service:#?}");
}
