//! `eastwest serve` from start to end.

use std::{fs, time::Duration};

use eastwest_tests::bookshop::STOREFRONT;
use nix::sys::signal::Signal;
use tonic::Code;

use crate::harness::{
    Bench, Server, mode,
    xds::{Stream, VARIANTS, Variant},
};

#[test]
fn the_ready_line_names_three_ports_that_answer() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for address in [server.grpc, server.tls, server.http] {
        assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
        std::net::TcpStream::connect(address).unwrap();
    }
    let output = server.output();
    let hints = output.lines().filter(|line| line.starts_with("  eastwest ")).count();
    assert_eq!(hints, 3, "three commands to try next: {output}");
    server.stop();
}

#[test]
fn the_commands_to_try_next_work_as_they_are_printed() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let output = server.output();
    for line in output.lines().filter_map(|line| line.strip_prefix("  eastwest ")) {
        bench.run(&line.split(' ').collect::<Vec<_>>()).success();
    }
}

#[test]
fn the_trust_anchor_is_there_when_the_server_is_ready_and_keys_are_for_the_owner_alone() {
    let bench = Bench::new();
    let _server = bench.serve(&[]);
    assert!(bench.root().starts_with("-----BEGIN CERTIFICATE-----"));
    assert_eq!(mode(&bench.state()), 0o700);
    for entry in fs::read_dir(bench.state()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_eq!(mode(&path), 0o700, "{}", path.display());
            continue;
        }
        let wanted = if path.ends_with("root-cert.pem")
            || path.ends_with("ca-cert.pem")
            || path.ends_with("token-jwks.json")
        {
            0o644
        } else {
            0o600
        };
        assert_eq!(mode(&path), wanted, "{}", path.display());
        let secret = fs::read_to_string(&path).unwrap().contains("PRIVATE KEY");
        assert_eq!(secret, path.to_string_lossy().ends_with("-key.pem"), "{}", path.display());
    }
}

#[test]
fn every_page_that_the_list_names_answers() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    assert_eq!(server.page("/readyz"), (200, "ok\n".to_owned()));
    assert_eq!(server.page("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(server.json("/version")["name"], "eastwest");
    let (_, list) = server.page("/debug/list");
    let pages: Vec<&str> = list.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(pages.len() >= 10, "{list}");
    for page in pages {
        let page = page.replace("NS/POD", "bookshop/storefront-0");
        let page = page.replace("HOST", "payments.payments.svc.cluster.local").replace("PORT", "80");
        let page = page.replace("url=URL", "url=http://payments.payments/");
        let (status, body) = server.page(&page);
        assert_eq!(status, 200, "{page}: {body}");
    }
    let (status, body) = server.page("/debug/nothing");
    assert_eq!(status, 404);
    assert!(body.contains("/debug/list"), "the remedy: {body}");
}

#[test]
fn wrong_questions_to_a_page_are_answered_with_the_mistake() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    for (page, status, words) in [
        ("/debug/tls?workload=bookshop/nobody", 404, "storefront-0"),
        ("/debug/tls?workload=nobody", 400, "NAMESPACE/POD"),
        ("/debug/tls", 400, "workload"),
        ("/debug/explain?client=bookshop/storefront-0&host=nobody&port=80", 404, "nobody"),
        ("/debug/explain?client=bookshop/storefront-0&host=catalog&port=0", 400, "port"),
        ("/debug/explain?client=bookshop/storefront-0&host=catalog&port=htp", 404, "80 (http)"),
    ] {
        let (answered, body) = server.page(page);
        assert_eq!(answered, status, "{page}: {body}");
        assert!(body.contains(words), "{page}: {body}");
    }
    assert_eq!(server.page("/healthz").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_istiods_names_and_count_what_happens() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (_stream, _) = Stream::warm(&server, Variant::Delta, &STOREFRONT).await;
    let (_, metrics) = server.page("/metrics");
    for name in [
        "citadel_server_csr_count",
        "citadel_server_success_cert_issuance_count",
        "citadel_server_root_cert_expiry_timestamp",
        "pilot_xds",
        "pilot_xds_pushes",
        "pilot_total_xds_rejects",
        "pilot_services",
    ] {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name}: {metrics}");
    }
    let value = |metric: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{metric}: {metrics}")).parse::<f64>().unwrap()
    };
    assert_eq!(value("pilot_xds"), 1.0);
    assert_eq!(value("eastwest_workloads"), 7.0);
    assert_eq!(value("eastwest_config_errors"), 0.0);
    for one in ["cds", "eds", "lds", "rds"] {
        assert_eq!(value(&format!("pilot_xds_pushes{{type=\"{one}\"}}")), 1.0, "{one}");
    }
    well_formed(&metrics);
}

/// Prometheus' text format: every sample belongs to a metric that was declared once, and is a number.
fn well_formed(metrics: &str) {
    assert!(metrics.ends_with('\n'));
    let mut declared = Vec::new();
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(!declared.contains(&name), "declared twice: {line}");
            declared.push(name);
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let suffix = declared.last().and_then(|name| sample.split('{').next()?.strip_prefix(name));
            assert!(
                suffix.is_some_and(|suffix| ["", "_bucket", "_sum", "_count"].contains(&suffix)),
                "{line}"
            );
            value.parse::<f64>().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_termination_signal_ends_open_streams_with_unavailable_and_exits_0() {
    for variant in VARIANTS {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let bench = Bench::new();
            let mut server = bench.serve(&[]);
            let (mut stream, _) = Stream::warm(&server, variant, &STOREFRONT).await;
            server.signal(signal);
            assert_eq!(stream.error().await.code(), Code::Unavailable, "{variant:?}");
            assert_eq!(server.wait(Duration::from_secs(5)).code(), Some(0));
        }
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let bench = Bench::new();
    let mut server = bench.serve(&[]);
    // A connection that never says anything keeps the first signal's drain waiting.
    let _idle = half_a_request(&server);
    server.signal(Signal::SIGTERM);
    eastwest_tests::process::until("the drain", Duration::from_secs(5), || {
        Ok(server.output().contains("draining").then_some(()))
    })
    .unwrap();
    server.signal(Signal::SIGTERM);
    let status = server.wait(Duration::from_secs(2));
    assert!(!status.success(), "what was cut is told: {status}");
}

/// A request whose end never comes.
fn half_a_request(server: &Server) -> std::net::TcpStream {
    use std::io::Write as _;
    let mut connection = std::net::TcpStream::connect(server.http).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: ").unwrap();
    assert_eq!(server.page("/healthz").0, 200, "the server has come to our connection");
    connection
}

#[test]
fn a_restarted_or_killed_server_keeps_its_root_and_its_token_key() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let (root, token) = (bench.root(), bench.run(&["ca", "show", "-o", "json"]).json());
    server.stop();
    // Dropped without a word: SIGKILL.
    drop(bench.serve(&[]));
    let _server = bench.serve(&[]);
    assert_eq!(bench.root(), root);
    assert_eq!(bench.run(&["ca", "show", "-o", "json"]).json(), token);
}

#[test]
fn garbage_at_the_ports_affects_no_other_client() {
    use std::io::Write as _;
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let hello_cut_off = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
    let garbage: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4096], &hello_cut_off, b""];
    for address in [server.grpc, server.tls, server.http] {
        for bytes in garbage {
            let mut connection = std::net::TcpStream::connect(address).unwrap();
            // The server may have hung up already.
            let _ = connection.write_all(bytes);
        }
    }
    assert_eq!(server.page("/readyz").0, 200);
    server.stop();
}
