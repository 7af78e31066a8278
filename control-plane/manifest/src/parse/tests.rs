//! Text in, golden text out. A manifest in short form goes in, findings come out as `! field: message` (error) or
//! `? field: message` (warning).

mod access;
mod credentials;
mod kinds;
mod policies;
mod traffic;

use eastwest_model::TrustDomain;

use super::*;

fn defaults() -> MeshConfig {
    MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system")
}

fn parse(text: &str) -> Parsed {
    documents(text, "mesh.yaml", &defaults())
}

/// The findings of a text, and with them whether its objects were taken.
fn findings(text: &str) -> Vec<String> {
    let parsed = parse(text);
    let findings = parsed.diagnostics.iter().map(|d| {
        let mark = if d.severity == Severity::Error { '!' } else { '?' };
        format!("{mark} {}: {}", d.field, d.message)
    });
    findings.collect()
}

/// Holds the findings of one object of `lab` against the golden ones, of which a prefix suffices, and checks that
/// errors, and only errors, keep the object out.
#[track_caller]
fn check(kind: &str, spec: &str, golden: &[&str]) {
    let group = if kind == "PeerAuthentication" { "security.istio.io" } else { "networking.istio.io" };
    let text = format!(
        "apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: x, namespace: lab}}\nspec: {spec}\n"
    );
    let found = findings(&text);
    assert_eq!(found.len(), golden.len(), "{spec}\n{found:#?}");
    for (found, golden) in found.iter().zip(golden) {
        assert!(found.starts_with(golden), "{spec}\n  found {found}\n golden {golden}");
    }
    let refused = golden.iter().any(|line| line.starts_with('!'));
    assert_eq!(parse(&text).objects.len(), usize::from(!refused), "{spec}");
}

#[test]
fn kinds_without_meaning_are_passed_over() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n---\n\
                apiVersion: serving.knative.dev/v1\nkind: Service\nspec: 5\n---\n\
                apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n---\n\
                apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata: {name: t}\n";
    assert_eq!(parse(text), Parsed::default());
}

#[test]
fn slips_in_type_or_name_are_about_the_file() {
    let findings_of = |text: &str| {
        let parsed = parse(text);
        assert!(parsed.broken.len() == 1 && parsed.objects.is_empty());
        assert_eq!(parsed.diagnostics[0].object, "mesh.yaml");
        findings(text)
    };
    let cases = [
        ("just text", "! : this is no Kubernetes object: it needs apiVersion and kind, both text"),
        ("kind: Pod", "! : this is no Kubernetes object: it needs"),
        (
            "{apiVersion: security.istio.io/v1, kind: PeerAuthentification}",
            "! kind: there is no kind \"PeerAuthentification\" in security.istio.io (did you mean \"PeerAuthentication\"?)",
        ),
        (
            "{apiVersion: networking.istio.io/v1, kind: PeerAuthentication}",
            "! apiVersion: PeerAuthentication belongs to security.istio.io: write security.istio.io/v1",
        ),
        (
            "{apiVersion: securty.istio.io/v1, kind: PeerAuthentication, metadata: {name: a}}",
            "! apiVersion: PeerAuthentication belongs to security.istio.io: write security.istio.io/v1",
        ),
        (
            "{apiVersion: v1, kind: Servic}",
            "! kind: there is no kind \"Servic\" in the core group (did you mean \"Service\"?)",
        ),
        ("{apiVersion: v1, kind: pods}", "! kind: there is no kind \"pods\""),
        ("{apiVersion: apps/v1, kind: Deploymnt}", "! kind: there is no kind \"Deploymnt\" in apps"),
        (
            "{apiVersion: networking.istio.io/v2, kind: Sidecar}",
            "! apiVersion: Sidecar has no version \"v2\": use one of v1, v1beta1, v1alpha3",
        ),
        ("{apiVersion: v1, kind: Pod}", "! metadata.name: missing: an object needs a name"),
        (
            "{apiVersion: v1, kind: Pod, metadata: {generateName: a-}}",
            "! metadata.name: missing: generateName names nothing before it is created",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: 5}}",
            "! metadata.name: 5 is not text: put it in quotes, \"5\"",
        ),
    ];
    for (text, golden) in cases {
        let found = findings_of(text);
        assert!(found.len() == 1 && found[0].starts_with(golden), "{found:?}");
    }
}

#[test]
fn other_programs_files_are_passed_over_with_a_warning() {
    let parsed = parse("replicas: 3\nimage: x\n");
    assert!(parsed.broken.is_empty() && parsed.objects.is_empty());
    assert_eq!(
        findings("replicas: 3\nimage: x\n"),
        ["? : is passed over: this is no Kubernetes object, for it has neither apiVersion nor kind"]
    );
}

#[test]
fn kinds_of_istio_that_are_not_read_are_passed_over_with_a_warning() {
    let kinds = [
        ("rbac.istio.io/v1alpha1", "ServiceRole", "no call is allowed or denied by it"),
        ("networking.istio.io/v1", "VirtualService", "calls are routed as if it were not there"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter", "no configuration of Envoy is changed by it"),
        ("telemetry.istio.io/v1", "Telemetry", "no metric, log or trace is changed by it"),
        ("extensions.istio.io/v1alpha1", "WasmPlugin", "no plugin is loaded by it"),
        ("authentication.istio.io/v1alpha1", "MeshPolicy", "Istio 1.6 dropped it"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "calls are routed"),
    ];
    for (version, kind, instead) in kinds {
        let parsed =
            parse(&format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: a, namespace: b}}}}"));
        let [found] = &parsed.diagnostics[..] else { panic!("{parsed:?}") };
        assert!(parsed.broken.is_empty() && found.severity == Severity::Warning, "{parsed:?}");
        assert_eq!(found.object, format!("{kind}/b/a"));
        assert!(found.message.starts_with(&format!("is not in force: {kind} is not read here; {instead}")));
    }
    let unknown =
        findings("{apiVersion: security.istio.io/v1, kind: RequestAuthorisation, metadata: {name: a}}");
    assert_eq!(
        unknown,
        ["? : is not in force: there is no kind \"RequestAuthorisation\" in security.istio.io here"]
    );
}

#[test]
fn a_key_that_stands_twice_costs_its_object_alone() {
    let policy = |name: &str, mode: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: {name}}}, spec: {mode}}}"
        )
    };
    let twice =
        "{selector: {matchLabels: {a: b}}, portLevelMtls: {8080: {mode: STRICT}, \"8080\": {mode: DISABLE}}}";
    let twice = policy("x", twice);
    let good = policy("y", "{}");
    let list = format!("kind: List\napiVersion: v1\nitems:\n- {twice}\n- {good}\n");
    for text in [format!("{twice}\n---\n{good}"), list, format!("{{kind: List, items: [{twice}, {good}]}}")] {
        let parsed = parse(&text);
        assert_eq!(parsed.objects.len(), 1, "{text}");
        assert_eq!(
            parsed.refused.first().map(ToString::to_string).as_deref(),
            Some("PeerAuthentication/default/x")
        );
        assert_eq!(
            findings(&text),
            ["! spec.portLevelMtls.8080: the key \"8080\" stands twice: keep one of them"]
        );
    }
}

#[test]
fn what_is_no_manifest_says_what_to_do() {
    let chart = "apiVersion: v2\nname: shop\nversion: 1.0.0\n";
    assert_eq!(
        findings(chart),
        ["? : is passed over: this describes a Helm chart; render it with `helm template`"]
    );
    let template = findings("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}-a\n");
    assert!(
        template.len() == 1 && template[0].contains("it looks like a template: render it first"),
        "{template:?}"
    );
}

#[test]
fn every_mistake_of_a_file_is_reported_and_other_objects_stay() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
                apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a, namespace: shop}\n\
                spec: {mtls: {mode: strict}, portLevelMtls: {0: {mode: OFF}}}\n---\n\
                a: [\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: Shop, creationTimestamp: yesterday}\n";
    let parsed = parse(text);
    let lines: Vec<_> =
        parsed.diagnostics.iter().map(|d| format!("{} {} {}", d.object, d.origin, d.field)).collect();
    let golden = [
        "PeerAuthentication/shop/a mesh.yaml:5 spec.mtls.mode",
        "PeerAuthentication/shop/a mesh.yaml:5 spec.portLevelMtls",
        "PeerAuthentication/shop/a mesh.yaml:5 spec.portLevelMtls.0",
        "PeerAuthentication/shop/a mesh.yaml:5 spec.portLevelMtls.0.mode",
        "Pod/Shop/p mesh.yaml:12 metadata.creationTimestamp",
        "Pod/Shop/p mesh.yaml:12 metadata.namespace",
        "mesh.yaml mesh.yaml:10 ",
    ];
    assert_eq!(lines, golden);
    assert_eq!(
        parsed.objects.iter().map(|o| o.reference().to_string()).collect::<Vec<_>>(),
        ["Namespace/shop"]
    );
}

#[test]
fn all_served_versions_are_one_kind() {
    for version in ["security.istio.io/v1", "security.istio.io/v1beta1"] {
        let text = format!("{{apiVersion: {version}, kind: PeerAuthentication, metadata: {{name: a}}}}");
        assert_eq!(parse(&text).objects[0].reference().to_string(), "PeerAuthentication/default/a");
    }
    for version in ISTIO_VERSIONS {
        let text = format!(
            "{{apiVersion: networking.istio.io/{version}, kind: DestinationRule, metadata: {{name: a}}, spec: {{host: b}}}}"
        );
        assert_eq!(parse(&text).objects[0].reference().to_string(), "DestinationRule/default/a");
    }
}

/// Whatever a mangled manifest is, it is never a panic: bytes cut, doubled, swapped and replaced, by a fixed seed.
#[test]
fn mutated_manifests_never_panic() {
    let seeds = [kinds::EVERYTHING, policies::EVERYTHING];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    let spice = [
        "-",
        ":",
        "{",
        "[",
        "*",
        "&a ",
        "\"",
        "\n",
        "---\n",
        "null",
        "-1",
        "1e999",
        "é",
        "🦀",
        "\t",
        "99999999999999999999",
    ];
    for seed in seeds {
        assert_eq!(findings(seed), [""; 0]);
        for _ in 0..400 {
            let mut text: Vec<char> = seed.chars().collect();
            for _ in 0..=random(4) {
                let at = random(text.len().max(1)).min(text.len());
                match random(4) {
                    0 => drop(text.drain(at..(at + random(12)).min(text.len()))),
                    1 => drop(text.splice(at..at, spice[random(spice.len())].chars())),
                    2 => text.truncate(at.max(1)),
                    _ => text.rotate_left(at),
                }
            }
            let text: String = text.into_iter().collect();
            parse(&text);
            documents(&text, "mesh.json", &defaults());
        }
    }
}

/// Many mistakes, long words and many small documents cost no more than their size.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test measures time")]
fn large_nonsense_is_quickly_refused() {
    let start = std::time::Instant::now();
    let long = "x".repeat(1 << 20);
    check("PeerAuthentication", &format!("{{mtls: {{mode: {long}}}}}"), &["! spec.mtls.mode: \"xxx"]);
    let many: String = (0..5_000).map(|i| format!("k{i}: 1, ")).collect();
    let text = format!(
        "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: x}}, spec: {{{many}}}}}"
    );
    assert_eq!(findings(&text).len(), 501);
    assert!(findings(&text).iter().all(|line| line.len() < 2_000));
    let stream = "{\"apiVersion\": \"v1\", \"kind\": \"Role\"}\n".repeat(10_000);
    assert_eq!(documents(&stream, "mesh.json", &defaults()), Parsed::default());
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

/// Words without end about a file are a bounded number of findings, and its good objects count.
#[test]
fn a_flood_of_documents_that_are_none_is_told_in_a_few_findings() {
    let policy =
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a, namespace: a}\n";
    let few = format!("{policy}{}", "---\n{}\n".repeat(2_000));
    let parsed = documents(&few, "a.yaml", &defaults());
    assert_eq!(parsed.objects.len(), 1);
    assert_eq!(parsed.diagnostics.len(), 501);
    assert!(
        parsed.diagnostics.iter().any(|one| one.message.contains("0 more errors and 1500 more warnings"))
    );
    assert!(parsed.diagnostics.iter().all(|one| one.severity == Severity::Warning));

    let many = format!("{policy}{}", "---\n{}\n".repeat(60_000));
    let parsed = documents(&many, "a.yaml", &defaults());
    assert_eq!((parsed.objects.len(), parsed.diagnostics.len()), (1, 502));
    assert!(
        parsed.diagnostics[0].message.contains("more than 50000 documents"),
        "{:?}",
        parsed.diagnostics[0]
    );
    assert!(parsed.broken.last().is_some_and(|one| one.is_last), "what it said before stays");
}
