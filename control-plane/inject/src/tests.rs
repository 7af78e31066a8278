//! Sidecars for pods: decisions, annotations, and what the pod then is.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Decision, Namespace, Options, Outcome, process};

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A Pod in the namespace `shop` with these annotations.
fn pod(annotations: &[(&str, &str)]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "reviews-0",
            "namespace": "shop",
            "labels": {"app": "reviews"},
            "annotations": texts(annotations),
        },
        "spec": {
            "initContainers": [{"name": "migrate", "image": "migrate"}],
            "containers": [{"name": "app", "image": "reviews", "env": [{"name": "A", "value": "1"}]}],
        },
    })
}

fn run(object: Value, options: &Options) -> (Value, Outcome) {
    let mut objects = [object];
    let mut outcomes = process(&mut objects, "default", options);
    let [object] = objects;
    (object, outcomes.remove(0))
}

/// The Pod that becomes of one with these annotations.
fn injected(annotations: &[(&str, &str)]) -> Value {
    let (pod, outcome) = run(pod(annotations), &Options::default());
    assert_eq!((outcome.mistakes, outcome.warnings), (vec![], Vec::<String>::new()));
    pod
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let items = pod["spec"][list].as_array().into_iter().flatten();
    items.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainers", "containers"].into_iter();
    let mut all = lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    all.find(|container| container["name"] == name).unwrap_or_else(|| panic!("no {name} in {pod:#}"))
}

/// Whether these words follow each other in the arguments of a container.
fn has_arguments(pod: &Value, name: &str, words: &[&str]) -> bool {
    let arguments = container(pod, name)["args"].as_array().unwrap().clone();
    arguments.windows(words.len()).any(|window| window == words)
}

fn variable<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let variables = container(pod, "istio-proxy")["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).unwrap_or(&Value::Null)
}

/// Labels of the namespace, labels and annotations of the pod; whether it gets a sidecar, and what is named.
#[test]
fn a_label_decides_and_is_named() {
    type Case<'a> =
        (Option<&'a [(&'a str, &'a str)]>, &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], bool, &'a str);
    let inject = "sidecar.istio.io/inject";
    let (enabled, disabled) = (("istio-injection", "enabled"), ("istio-injection", "disabled"));
    let cases: &[Case<'_>] = &[
        (Some(&[enabled]), &[], &[], true, "label istio-injection=enabled of namespace shop"),
        (Some(&[("eastwest.dev/injection", "enabled")]), &[], &[], true, "eastwest.dev/injection=enabled"),
        (
            Some(&[enabled]),
            &[(inject, "false")],
            &[],
            false,
            "label sidecar.istio.io/inject=false of the pod",
        ),
        (Some(&[enabled]), &[], &[(inject, "false")], false, "annotation sidecar.istio.io/inject=false"),
        (Some(&[enabled]), &[(inject, "true")], &[(inject, "false")], true, "istio-injection=enabled"),
        (Some(&[enabled]), &[(inject, "nope")], &[], false, "inject=nope of the pod"),
        (Some(&[disabled]), &[(inject, "true")], &[], false, "istio-injection=disabled of namespace shop"),
        (Some(&[]), &[], &[], false, "no label istio-injection=enabled"),
        (Some(&[]), &[(inject, "true")], &[], true, "label sidecar.istio.io/inject=true of the pod"),
        (Some(&[]), &[], &[(inject, "true")], false, "no label istio-injection=enabled"),
        (Some(&[("istio.io/rev", "default")]), &[], &[], true, "istio.io/rev=default of namespace shop"),
        (Some(&[("istio.io/rev", "canary")]), &[], &[], false, "this is revision default"),
        (Some(&[enabled, ("istio.io/rev", "canary")]), &[], &[], true, "istio-injection=enabled"),
        (Some(&[]), &[("istio.io/rev", "default")], &[], true, "istio.io/rev=default of the pod"),
        (Some(&[]), &[("istio.io/rev", "canary"), (inject, "true")], &[], false, "this is revision default"),
        (None, &[], &[], true, "the pod does not object"),
        (None, &[(inject, "false")], &[], false, "inject=false of the pod"),
        (None, &[("istio.io/rev", "canary")], &[], false, "another revision"),
        (Some(&[enabled]), &[], &[("sidecar.istio.io/status", "{}")], false, "it has a sidecar already"),
    ];
    for (namespace, labels, annotations, inject, because) in cases {
        let pod = json!({"metadata": {"labels": texts(labels), "annotations": texts(annotations)}});
        let namespace = Namespace { name: "shop".to_owned(), labels: namespace.map(texts) };
        let decision = Decision::of(&pod, &namespace, "default");
        let told = format!("{namespace:?} {labels:?} {annotations:?}: {decision:?}");
        assert_eq!(decision.inject, *inject, "{told}");
        assert!(decision.because.contains(because), "{told}");
    }
    let of = |name: &str, pod: Value| {
        let labels = Some(texts(&[("istio-injection", "enabled")]));
        Decision::of(&pod, &Namespace { name: name.to_owned(), labels }, "default")
    };
    assert!(!of("kube-system", json!({})).inject);
    let on_node = of("shop", json!({"spec": {"hostNetwork": true}}));
    assert!(!on_node.inject && on_node.because.contains("hostNetwork"), "{on_node:?}");
}

#[test]
fn a_pod_gets_redirection_and_a_native_sidecar_before_its_own_containers() {
    let pod = injected(&[]);
    assert_eq!(names(&pod, "initContainers"), ["istio-init", "istio-proxy", "migrate"]);
    assert_eq!(names(&pod, "containers"), ["app"]);
    assert_eq!(names(&pod, "volumes"), ["istio-token", "istiod-ca-cert", "workload-socket"]);
    let proxy = container(&pod, "istio-proxy");
    assert_eq!(proxy["restartPolicy"], "Always");
    assert_eq!(proxy["startupProbe"]["httpGet"]["port"], 15021);
    assert_eq!(proxy["securityContext"]["runAsUser"], 1337);
    assert_eq!(
        container(&pod, "istio-init")["securityContext"]["capabilities"]["add"],
        json!(["NET_ADMIN", "NET_RAW"])
    );
    assert_eq!(pod["metadata"]["labels"]["security.istio.io/tlsMode"], "istio");
    assert_eq!(pod["metadata"]["labels"]["service.istio.io/canonical-name"], "reviews");
    assert_eq!(pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"], "app");
    assert_eq!(variable(&pod, "INSTANCE_IP")["valueFrom"]["fieldRef"]["fieldPath"], "status.podIPs");
    assert!(has_arguments(&pod, "istio-proxy", &["--label", "app=reviews"]));
    assert!(has_arguments(&pod, "istio-init", &["redirect"]));
}

#[test]
fn what_has_a_sidecar_stays_as_it_is() {
    let once = injected(&[]);
    let (twice, outcome) = run(once.clone(), &Options::default());
    assert_eq!(twice, once);
    assert!(!outcome.decision.unwrap().inject);
}

#[test]
fn every_kind_has_its_template_injected_also_in_lists() {
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "app"}]}});
    let kinds = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"];
    let mut objects: Vec<_> = kinds
        .iter()
        .map(|kind| json!({"kind": kind, "metadata": {"name": "a"}, "spec": {"template": template}}))
        .collect();
    let cron = json!({"jobTemplate": {"spec": {"template": template}}});
    objects.push(json!({"kind": "CronJob", "metadata": {"name": "a"}, "spec": cron}));
    objects.push(json!({"kind": "Service", "metadata": {"name": "a"}, "spec": {}}));
    let mut nameless = pod(&[]);
    nameless.as_object_mut().unwrap().shift_remove("kind");
    objects.push(json!({"kind": "PodList", "items": [nameless]}));
    let mut list = [json!({"kind": "List", "items": objects})];
    let outcomes = process(&mut list, "default", &Options::default());
    assert_eq!(outcomes.len(), 7);
    let injected = list[0].to_string().matches("\"istio-init\",\"image\"").count();
    assert_eq!(injected, 7, "{:#}", list[0]);
    assert!(outcomes.iter().all(|outcome| outcome.mistakes.is_empty()), "{outcomes:?}");
    assert_eq!(outcomes[0].object, "Deployment/default/a");
}

#[test]
fn a_plain_container_comes_last_or_holds_the_others() {
    let native = ("sidecar.istio.io/nativeSidecar", "false");
    let last = injected(&[native]);
    assert_eq!(names(&last, "containers"), ["app", "istio-proxy"]);
    assert_eq!(names(&last, "initContainers"), ["istio-init", "migrate"]);
    assert!(container(&last, "istio-proxy").get("restartPolicy").is_none());
    let first = injected(&[native, ("proxy.istio.io/config", "holdApplicationUntilProxyStarts: true")]);
    assert_eq!(names(&first, "containers"), ["istio-proxy", "app"]);
    let wait = &container(&first, "istio-proxy")["lifecycle"]["postStart"]["exec"]["command"];
    assert_eq!(wait[2], "wait-ready");
}

/// Each annotation with what it changes.
#[test]
fn annotations_have_their_effects() {
    let resources = |pod: &Value| container(pod, "istio-proxy")["resources"].clone();
    let readiness = |pod: &Value, field: &str| container(pod, "istio-proxy")["readinessProbe"][field].clone();
    let one = |name: &str, value: &str| injected(&[(name, value)]);
    assert_eq!(container(&one("sidecar.istio.io/proxyImage", "r/p:2"), "istio-init")["image"], "r/p:2");
    assert_eq!(resources(&one("sidecar.istio.io/proxyCPU", "100m"))["requests"]["cpu"], "100m");
    assert_eq!(resources(&one("sidecar.istio.io/proxyMemory", "128Mi"))["requests"]["memory"], "128Mi");
    assert_eq!(resources(&one("sidecar.istio.io/proxyCPULimit", "2"))["limits"]["cpu"], "2");
    assert_eq!(resources(&one("sidecar.istio.io/proxyMemoryLimit", "1Gi"))["limits"]["memory"], "1Gi");
    for (name, value, words) in [
        ("sidecar.istio.io/logLevel", "debug", ["--log-level", "debug"]),
        ("sidecar.istio.io/componentLogLevel", "misc:error", ["--component-log-level", "misc:error"]),
        ("proxy.istio.io/config", "concurrency: 4", ["--concurrency", "4"]),
        ("proxy.istio.io/config", "terminationDrainDuration: 30s", ["--drain-time", "30s"]),
    ] {
        assert!(has_arguments(&one(name, value), "istio-proxy", &words), "{name}");
    }
    assert_eq!(
        variable(&one("sidecar.istio.io/agentLogLevel", "all:debug"), "EASTWEST_LOG")["value"],
        "debug"
    );
    let metadata = one("proxy.istio.io/config", "proxyMetadata: {ISTIO_META_X: \"y\"}");
    assert_eq!(variable(&metadata, "ISTIO_META_X")["value"], "y");
    for (field, number) in [("initialDelaySeconds", 7), ("periodSeconds", 8), ("failureThreshold", 9)] {
        let name = format!("readiness.status.sidecar.istio.io/{field}");
        assert_eq!(readiness(&one(&name, &number.to_string()), field), number);
    }
    for (name, value, flag) in [
        ("traffic.sidecar.istio.io/includeInboundPorts", "80, 81", "--include-inbound-ports=80,81"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "", "--include-inbound-ports="),
        ("traffic.sidecar.istio.io/includeInboundPorts", "*", "--include-inbound-ports=*"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "9090", "--exclude-inbound-ports=9090"),
        ("traffic.sidecar.istio.io/includeOutboundPorts", "443", "--include-outbound-ports=443"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts", "3306", "--exclude-outbound-ports=3306"),
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges",
            "10.0.0.0/8",
            "--include-outbound-ranges=10.0.0.0/8",
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "fd00::/8",
            "--exclude-outbound-ranges=fd00::/8",
        ),
        ("traffic.sidecar.istio.io/excludeInterfaces", "eth1", "--exclude-interfaces=eth1"),
        ("traffic.sidecar.istio.io/kubevirtInterfaces", "vnet0", "--reroute-virtual-interfaces=vnet0"),
        ("istio.io/reroute-virtual-interfaces", "vnet0", "--reroute-virtual-interfaces=vnet0"),
    ] {
        assert!(has_arguments(&one(name, value), "istio-init", &["redirect", flag]), "{name}");
    }
    let unredirected = one("sidecar.istio.io/interceptionMode", "NONE");
    assert_eq!(names(&unredirected, "initContainers"), ["istio-proxy", "migrate"]);
    let volumes = injected(&[
        ("sidecar.istio.io/userVolume", r#"{"certs": {"secret": {"secretName": "c"}}}"#),
        ("sidecar.istio.io/userVolumeMount", r#"[{"name": "certs", "mountPath": "/etc/certs"}]"#),
    ]);
    assert!(names(&volumes, "volumes").contains(&"certs".to_owned()));
    assert_eq!(container(&volumes, "istio-proxy")["volumeMounts"][3]["mountPath"], "/etc/certs");
}

/// Nothing of a refused pod changes, and every mistake is told at once.
#[test]
fn a_value_that_cannot_be_read_refuses_the_pod_and_is_named() {
    let bad = [
        ("sidecar.istio.io/proxyImage", "image: x\nprivileged: true"),
        ("sidecar.istio.io/proxyCPU", "lots"),
        ("sidecar.istio.io/proxyMemory", "1.2.3Mi"),
        ("sidecar.istio.io/proxyCPULimit", "-1"),
        ("sidecar.istio.io/proxyMemoryLimit", "128MB"),
        ("sidecar.istio.io/nativeSidecar", "yes"),
        ("sidecar.istio.io/logLevel", "loud"),
        ("sidecar.istio.io/componentLogLevel", "misc=error"),
        ("sidecar.istio.io/agentLogLevel", "debug,hyper=trace"),
        ("sidecar.istio.io/interceptionMode", "TPROXY"),
        ("sidecar.istio.io/userVolume", "certs"),
        ("sidecar.istio.io/userVolumeMount", "[{\"mountPath\": \"/x\"}]"),
        ("readiness.status.sidecar.istio.io/periodSeconds", "2s"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "http"),
        ("traffic.sidecar.istio.io/excludeInboundPorts", "80 -j ACCEPT"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0/33"),
        ("traffic.sidecar.istio.io/excludeInterfaces", "eth0;reboot"),
        ("inject.istio.io/templates", "gateway"),
        ("proxy.istio.io/config", "concurrency: many"),
    ];
    let before = pod(&bad);
    let (after, outcome) = run(before.clone(), &Options::default());
    assert_eq!(after, before);
    for (name, value) in bad {
        let mistake = outcome.mistakes.iter().find(|mistake| mistake.place == format!("annotation {name}"));
        let said = mistake.unwrap_or_else(|| panic!("{name} is taken")).to_string();
        assert!(said.contains(&format!("{value:?}")) || said.contains("many"), "{said}");
    }
    assert_eq!(outcome.mistakes.len(), bad.len());
}

#[test]
fn what_has_no_effect_is_told() {
    let annotations = [
        ("sidecar.istio.io/proxyCpu", "1"),
        ("traffic.sidecar.istio.io/excludeInboundPort", "80"),
        ("sidecar.istio.io/statsInclusionPrefixes", "x"),
        ("proxy.istio.io/config", "tracing: {}"),
        ("example.com/other", "x"),
    ];
    let (_, outcome) = run(pod(&annotations), &Options::default());
    let told = outcome.warnings.join("\n");
    for part in [
        "proxyCpu has no effect; did you mean sidecar.istio.io/proxyCPU?",
        "excludeInboundPort has no effect; did you mean traffic.sidecar.istio.io/excludeInboundPorts?",
        "statsInclusionPrefixes has no effect",
        "annotation proxy.istio.io/config: field tracing has no effect",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(outcome.warnings.len(), 4, "{told}");
}

/// A process of that user would pass by the sidecar, in both directions.
#[test]
fn an_application_as_the_user_of_the_sidecar_is_refused() {
    let mut own = pod(&[]);
    own["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1337});
    let (_, outcome) = run(own, &Options::default());
    assert!(
        outcome.mistakes[0].to_string().contains("spec.containers[app].securityContext.runAsUser"),
        "{outcome:?}"
    );
    let mut whole = pod(&[]);
    whole["spec"]["securityContext"] = json!({"runAsUser": 1337});
    assert_eq!(run(whole, &Options::default()).1.mistakes.len(), 1);
    let mut empty = pod(&[]);
    empty["spec"]["containers"] = json!([]);
    assert!(run(empty, &Options::default()).1.mistakes[0].to_string().contains("no containers"));
}

#[test]
fn a_container_that_the_user_wrote_is_merged_over_the_template() {
    let mut own = pod(&[]);
    let written = json!({
        "name": "istio-proxy",
        "image": "auto",
        "resources": {"requests": {"cpu": "1"}},
        "env": [{"name": "EXTRA", "value": "x"}],
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
    });
    own["spec"]["containers"].as_array_mut().unwrap().push(written.clone());
    let (pod, _) = run(own, &Options::default());
    assert_eq!(names(&pod, "containers"), ["app"]);
    let proxy = container(&pod, "istio-proxy");
    assert_eq!(proxy["image"], "eastwest/proxy:latest");
    assert_eq!(proxy["resources"]["requests"], json!({"cpu": "1", "memory": "48Mi"}));
    assert_eq!(variable(&pod, "EXTRA")["value"], "x");
    assert!(!variable(&pod, "POD_NAME").is_null(), "the template's variables stay");
    assert_eq!(proxy["lifecycle"]["preStop"]["exec"]["command"][0], "sleep");
    let kept = pod["metadata"]["annotations"]["proxy.istio.io/overrides"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(kept).unwrap(), json!({"containers": [written]}));
}

#[test]
fn a_partial_pod_is_merged_over_the_default_template() {
    let template = json!({
        "metadata": {"annotations": {"team": "platform"}},
        "spec": {
            "priorityClassName": "high",
            "containers": [{"name": "istio-proxy", "resources": {"limits": {"memory": "1Gi"}}}],
            "initContainers": [{"name": "istio-init", "image": "other"}],
            "volumes": [{"name": "more", "emptyDir": {}}],
        },
    });
    let (pod, outcome) = run(pod(&[]), &Options { template: Some(template), ..Options::default() });
    assert_eq!(outcome.mistakes, []);
    assert_eq!(pod["metadata"]["annotations"]["team"], "platform");
    assert_eq!(pod["spec"]["priorityClassName"], "high");
    assert_eq!(container(&pod, "istio-proxy")["resources"]["limits"]["memory"], "1Gi");
    assert_eq!(container(&pod, "istio-init")["image"], "other");
    assert!(names(&pod, "volumes").contains(&"more".to_owned()));
    assert_eq!(names(&pod, "containers"), ["app"]);
}

/// A kubelet's probe of a pod with a sidecar would fail under STRICT.
#[test]
fn probes_go_to_the_agent() {
    let mut own = pod(&[]);
    own["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    let fields = json!({
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "timeoutSeconds": 3, "periodSeconds": 7},
        "livenessProbe": {"tcpSocket": {"port": 9000}},
        "startupProbe": {"exec": {"command": ["true"]}},
        "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": 8080}}},
    });
    for (field, value) in fields.as_object().unwrap() {
        own["spec"]["containers"][0][field] = value.clone();
    }
    let kept = own.clone();
    let (pod, outcome) = run(own, &Options::default());
    assert_eq!((outcome.mistakes, outcome.warnings), (vec![], Vec::<String>::new()));
    let app = container(&pod, "app");
    let at_agent = |path: &str| json!({"path": path, "port": 15020, "scheme": "HTTP"});
    assert_eq!(app["readinessProbe"]["httpGet"], at_agent("/app-health/app/readyz"));
    assert_eq!(app["readinessProbe"]["periodSeconds"], 7);
    assert_eq!(app["livenessProbe"], json!({"httpGet": at_agent("/app-health/app/livez")}));
    assert_eq!(app["startupProbe"], fields["startupProbe"]);
    assert_eq!(app["lifecycle"]["preStop"]["httpGet"], at_agent("/app-lifecycle/app/prestopz"));
    let originals: Value =
        serde_json::from_str(variable(&pod, "ISTIO_KUBE_APP_PROBERS")["value"].as_str().unwrap()).unwrap();
    let expected = json!({
        "/app-health/app/readyz": {"httpGet": {"path": "/ready", "port": 8080}, "timeoutSeconds": 3},
        "/app-health/app/livez": {"tcpSocket": {"port": 9000}},
        "/app-lifecycle/app/prestopz": {"httpGet": {"path": "/bye", "port": 8080}},
    });
    assert_eq!(originals, expected);

    let mut off = kept.clone();
    off["metadata"]["annotations"]["sidecar.istio.io/rewriteAppHTTPProbers"] = json!("false");
    let (pod, _) = run(off, &Options::default());
    assert_eq!(container(&pod, "app")["readinessProbe"], fields["readinessProbe"]);
    assert!(variable(&pod, "ISTIO_KUBE_APP_PROBERS").is_null());

    for (probe, part) in [
        (json!({"grpc": {"port": 9000}}), "no probes by gRPC yet"),
        (json!({"httpGet": {"port": 8443, "scheme": "HTTPS"}}), "no probes by HTTPS yet"),
        (json!({"httpGet": {"port": "admin"}}), "its port has no number"),
    ] {
        let mut other = kept.clone();
        other["spec"]["containers"][0]["livenessProbe"] = probe.clone();
        let (pod, outcome) = run(other, &Options::default());
        assert_eq!(container(&pod, "app")["livenessProbe"], probe);
        assert!(
            outcome.warnings.iter().any(|warning| warning.contains(part)),
            "{part}: {:?}",
            outcome.warnings
        );
    }
}
