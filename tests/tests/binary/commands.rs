//! `tls`, `check`, `explain` and the rest of the command line.

use eastwest_tests::bookshop::{LEGACY, PAYMENTS, STOREFRONT};
use serde_json::{Value, json};

use crate::harness::Bench;

/// One of each kind of question, with the code it ends with.
const QUESTIONS: [(&[&str], i32); 6] = [
    (&["tls", "bookshop/storefront-0"], 0),
    (&["tls", "payments/payments-0"], 0),
    (&["check"], 0),
    (&["explain", "bookshop/storefront-0", "payments.payments.svc.cluster.local:80"], 0),
    (&["explain", "bookshop/legacy-0", "payments.payments.svc.cluster.local:80"], 1),
    (&["explain", "bookshop/storefront-0", "catalog:80"], 0),
];

#[test]
fn a_source_on_the_command_line_wins_over_the_environment() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (url, nobody) = (server.url(), "http://127.0.0.1:9");
    let shown = |flags: &[&str], variables: &[(&str, &str)]| {
        bench.run_with(&[&["tls", "bookshop/storefront-0"], flags].concat(), variables)
    };
    let (directory, asked) = (("EASTWEST_CONFIG_DIR", "manifests"), ("EASTWEST_SERVER", &*url));
    let elsewhere = [("EASTWEST_CONFIG_DIR", "nowhere"), ("EASTWEST_SERVER", nobody)];
    let expected = shown(&["--config-dir", "manifests"], &[]).success().to_owned();
    for (flags, variables) in [
        (&["--server", &*url][..], &elsewhere[..]),
        (&["--config-dir", "manifests"], &elsewhere),
        (&[], &[directory]),
        (&[], &[asked]),
        (&[], &[directory, ("EASTWEST_SERVER", nobody)]),
    ] {
        assert_eq!(shown(flags, variables).success(), expected, "{flags:?} {variables:?}");
    }
    let both = shown(&["--server", &url, "--config-dir", "manifests"], &[]);
    both.failure(2, &["--config-dir and --server exclude each other"]);
}

#[test]
fn a_directory_and_a_server_give_the_same_answers() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for (question, code) in QUESTIONS {
        for format in ["json", "yaml", "table"] {
            let ask = |source: [&str; 2]| bench.run(&[question, &source, &["-o", format]].concat());
            let directory = ask(["--config-dir", "manifests"]);
            let server = ask(["--server", &server.url()]);
            assert_eq!(directory.code, code, "{directory:?}");
            assert_eq!(server.code, code, "{server:?}");
            assert_eq!(findings(&directory.out), server.out, "{question:?}");
            assert_eq!(directory.err, server.err, "{question:?}");
        }
    }
}

/// An answer without the line on what this command itself has read.
fn findings(answer: &str) -> String {
    answer.split_inclusive('\n').filter(|line| !line.starts_with("read: ")).collect()
}

#[test]
fn json_and_yaml_say_the_same() {
    let bench = Bench::new();
    for (question, _) in QUESTIONS {
        let ask = |format| bench.run(&[question, &["--config-dir", "manifests", "-o", format]].concat());
        let yaml: Value = serde_saphyr::from_str(&ask("yaml").out).unwrap();
        assert_eq!(yaml, ask("json").json(), "{question:?}");
    }
}

#[test]
fn the_settings_of_a_workload_have_the_shape_of_the_contract() {
    let bench = Bench::new();
    let settings =
        bench.run(&["tls", "payments/payments-0", "--config-dir", "manifests", "-o", "json"]).json();
    assert_eq!(keys(&settings), ["workload", "identity", "inbound", "outbound", "warnings"]);
    assert_eq!(settings["workload"], "payments/payments-0");
    assert_eq!(settings["identity"], PAYMENTS.spiffe_id());
    assert_eq!(
        settings["inbound"],
        json!({
            "default": "STRICT", "policy": "PeerAuthentication/payments/default",
            "ports": {"9090": "DISABLE"},
            "port_policies": {"9090": "PeerAuthentication/payments/payments-metrics"},
        })
    );
    assert_eq!(
        outbound(&settings, "warehouse.warehouse.svc.cluster.local", 7000, Value::Null),
        json!({
            "host": "warehouse.warehouse.svc.cluster.local", "port": 7000, "subset": null,
            "mode": "AUTO", "sni": "outbound_.7000_._.warehouse.warehouse.svc.cluster.local",
            "subject_alt_names": ["spiffe://cluster.local/ns/warehouse/sa/warehouse"],
            "policy": null, "endpoints": {"10.77.0.50:7000": "ISTIO_MUTUAL"},
        })
    );
    let subset = outbound(&settings, "catalog.bookshop.svc.cluster.local", 80, json!("next"));
    assert_eq!(subset["mode"], "ISTIO_MUTUAL");
    assert_eq!(subset["policy"], "DestinationRule/bookshop/catalog");
    assert_eq!(
        outbound(&settings, &LEGACY.host(), 80, Value::Null)["endpoints"],
        json!({"10.77.0.60:8080": "DISABLE"})
    );
}

fn outbound(settings: &Value, host: &str, port: u16, subset: Value) -> Value {
    let mut entries = settings["outbound"].as_array().unwrap().iter();
    let found = |entry: &&Value| entry["host"] == host && entry["port"] == port && entry["subset"] == subset;
    entries.find(found).unwrap_or_else(|| panic!("no {host}:{port} {subset} in {settings:#}")).clone()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_rule_that_loses_is_warned_about_with_the_winner() {
    let bench = Bench::new();
    let loser = "DestinationRule/bookshop/catalog-experiment";
    let settings =
        bench.run(&["tls", "bookshop/catalog-0", "--config-dir", "manifests", "-o", "json"]).json();
    let findings = bench.run(&["check", "--config-dir", "manifests", "-o", "json"]).json();
    for list in [&settings["warnings"], &findings] {
        let warning = list.as_array().unwrap().iter().find(|one| one["object"] == loser);
        let warning = warning.unwrap_or_else(|| panic!("{list:#}"));
        assert_eq!(warning["beaten_by"], "DestinationRule/bookshop/catalog");
    }
}

#[test]
fn check_names_object_file_field_and_remedy_of_an_error_and_exits_1() {
    let bench = Bench::new();
    bench.edit("policies.yaml", "    mode: PERMISSIVE", "    mode: SOMETIMES");
    let server = bench.serve(&[]);
    for source in [["--config-dir", "manifests"], ["--server", &server.url()]] {
        let checked = bench.run(&["check", source[0], source[1], "-o", "json"]);
        assert_eq!(checked.code, 1, "{checked:?}");
        let findings = checked.json();
        let error = &findings[0];
        assert_eq!(keys(error)[..3], ["severity", "object", "file"]);
        assert_eq!(error["severity"], "error", "errors come first: {findings:#}");
        assert_eq!(error["object"], "PeerAuthentication/istio-system/default");
        assert_eq!(error["file"], "policies.yaml");
        assert_eq!(error["field"], "spec.mtls.mode");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("SOMETIMES") && message.contains("PERMISSIVE"), "{message}");

        let table = bench.run(&["check", source[0], source[1]]);
        assert_eq!(table.code, 1);
        for word in ["PeerAuthentication/istio-system/default", "policies.yaml", "spec.mtls.mode", "1 error,"]
        {
            assert!(table.out.contains(word), "{word}: {}", table.out);
        }
    }
}

#[test]
fn an_unknown_workload_or_host_exits_2_with_suggestions() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for source in [["--config-dir", "manifests"], ["--server", &server.url()]] {
        let tls = bench.run(&["tls", "payments/nobody", source[0], source[1]]);
        tls.failure(2, &["payments/nobody", "namespace payments has payments-0"]);
        let near = bench.run(&["tls", "payments/payment-0", source[0], source[1]]);
        near.failure(2, &["did you mean payments/payments-0?"]);
        let client = bench.run(&["explain", "bookshop/nobody", "catalog:80", source[0], source[1]]);
        client.failure(2, &["bookshop/nobody", "namespace bookshop has", "storefront-0"]);
        let host = bench.run(&["explain", "bookshop/storefront-0", "catalogue:80", source[0], source[1]]);
        host.failure(2, &["catalogue", "did you mean catalog.bookshop.svc.cluster.local?"]);
        let other = bench.run(&["explain", "bookshop/storefront-0", "payment:80", source[0], source[1]]);
        other.failure(2, &["did you mean payments.payments.svc.cluster.local?"]);
        let port = bench.run(&["explain", "bookshop/storefront-0", "catalog:81", source[0], source[1]]);
        port.failure(2, &["81", "80"]);
        let name = bench.run(&["explain", "bookshop/storefront-0", "catalog:htp", source[0], source[1]]);
        name.failure(2, &["no port named \"htp\"", "80 (http)"]);
    }
}

#[test]
fn wrong_usage_exits_2_and_says_how_it_is_written() {
    let bench = Bench::new();
    for (arguments, words) in [
        (&["tls"][..], "NS/POD"),
        (&["tls", "storefront-0"], "NAMESPACE/POD"),
        (&["tls", "svc/storefront"], "is a Service, not a workload"),
        (&["tls", "bookshop/storefront-0", "-n", "payments"], "drop one of them"),
        (&["explain", "bookshop/storefront-0", "catalog"], "HOST:PORT"),
        (&["explain", "bookshop/storefront-0", "catalog:0"], "HOST:PORT"),
        (&["explain", "bookshop/storefront-0", "http://catalog/books"], "write catalog:PORT"),
        (&["tls", "a/b", "-o", "xml"], "json"),
        (&["token", "--service-account", "storefront"], "NAMESPACE/SERVICE-ACCOUNT"),
        (&["token", "--service-account", "a/b", "--ttl", "long"], "--ttl"),
        (&["check", "--trust-domain", "NO", "--config-dir", "manifests"], "--trust-domain"),
        (&["ca", "issue", "storefront"], "spiffe://"),
        (&["nonsense"], "nonsense"),
        (&[], "Usage"),
    ] {
        bench.run(arguments).failure(2, &[words]);
    }
}

#[test]
fn a_server_that_does_not_answer_is_reported_with_a_remedy() {
    let bench = Bench::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = bench.run(&["tls", "a/b", "--server", &format!("http://{free}")]);
    refused.failure(2, &[&free.to_string(), "eastwest serve", "--config-dir"]);
    bench.run(&["check", "--server", "https://127.0.0.1:1"]).failure(2, &["--server", "http://"]);
    let server = bench.serve(&[]);
    let wrong_port = bench.run(&["check", "--server", &format!("http://{}", server.tls)]);
    wrong_port.failure(2, &[&server.tls.to_string()]);
}

#[test]
fn tables_are_for_people_and_verdicts_come_first() {
    let bench = Bench::new();
    let tls = bench.run(&["tls", "payments/payments-0", "--config-dir", "manifests"]);
    for words in ["STRICT", "PeerAuthentication/payments/payments-metrics", "INBOUND", "OUTBOUND"] {
        assert!(tls.success().contains(words), "{words}: {}", tls.out);
    }
    let target = format!("{}:80", PAYMENTS.host());
    let explain = |client: &str| bench.run(&["explain", client, &target, "--config-dir", "manifests"]);
    let mutual = explain("bookshop/storefront-0");
    assert!(mutual.success().starts_with("Mutual TLS: bookshop/storefront-0"), "{}", mutual.out);
    assert!(mutual.out.contains(&STOREFRONT.spiffe_id()), "{}", mutual.out);
    let refused = explain("bookshop/legacy-0");
    assert!(refused.out.starts_with("Will be refused: bookshop/legacy-0"), "{}", refused.out);
    assert!(refused.out.contains("PeerAuthentication/payments/default (policies.yaml:"), "{}", refused.out);
}

#[test]
fn version_help_and_completion_are_as_usual() {
    let bench = Bench::new();
    assert!(bench.run(&["--version"]).success().starts_with("eastwest "));
    for command in ["serve", "agent", "tls", "explain", "check", "token", "ca", "completion"] {
        assert!(bench.run(&["--help"]).success().contains(command));
        bench.run(&[command, "--help"]).success();
    }
    assert!(bench.run(&["completion", "bash"]).success().contains("eastwest"));
}
