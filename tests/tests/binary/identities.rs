//! Trust domains and SPIFFE IDs as a person writes them (CA.md S1 to S19 and S23): refused with the flag
//! and the reason, or issued as written.

use std::fs;

use eastwest_ca::CertificateSummary;

use crate::harness::{Bench, clients::certificates};

/// CA.md S1 to S9 and S12 to S17: input, and what the message says.
const REFUSED: &[(&str, &str)] = &[
    ("http://td/a", "spiffe://"),
    ("SPIFFE://td/a", "spiffe://"),
    ("spiffe:///a", "the trust domain is empty"),
    ("spiffe://td/a?q", "'?' is not allowed"),
    ("spiffe://td/a#f", "'#' is not allowed"),
    ("spiffe://u@td/a", "'@' is not allowed"),
    ("spiffe://td:80/a", "':' is not allowed"),
    ("spiffe://TD/a", "'T' is not allowed"),
    ("spiffe://t%64/a", "'%' is not allowed"),
    ("spiffe://t!d/a", "'!' is not allowed"),
    ("spiffe://td/a%41", "'%' is not allowed"),
    ("spiffe://td/a//b", "a path segment is empty"),
    ("spiffe://td/a/../b", "a path segment is \".\" or \"..\""),
    ("spiffe://td/a/.", "a path segment is \".\" or \"..\""),
    ("spiffe://td/a/", "a path segment is empty"),
    ("spiffe://td/ns/ü", "'ü' is not allowed"),
    ("spiffe://td/ns/a b", "' ' is not allowed"),
    ("spiffe://td/ns/a,b", "',' is not allowed"),
];

#[test]
fn ids_that_are_none_are_refused_by_name() {
    let bench = Bench::new();
    bench.run(&["ca", "init", "--trust-domain", "td"]).success();
    for (id, reason) in REFUSED {
        bench.run(&["ca", "issue", id, "--out", "certs"]).failure(2, &["SPIFFE-ID", reason]);
    }
    let long = format!("spiffe://{}/a", "a".repeat(256));
    bench.run(&["ca", "issue", &long, "--out", "certs"]).failure(2, &["SPIFFE-ID", "longer than 255 bytes"]);
    let long = format!("spiffe://td/{}", "a".repeat(2048 - 11));
    bench.run(&["ca", "issue", &long, "--out", "certs"]).failure(2, &["SPIFFE-ID", "longer than 2048 bytes"]);
    bench
        .run(&["ca", "issue", "spiffe://evil.example/ns/a/sa/b", "--out", "certs"])
        .failure(2, &["SPIFFE-ID", "in the trust domain td"]);
    // CA.md S23: a trust domain is an ID, but of no workload.
    bench
        .run(&["ca", "issue", "spiffe://td", "--out", "certs"])
        .failure(2, &["not an identity of a workload"]);
    assert!(!bench.path("certs").exists());
}

/// CA.md S10 to S12, S18 and S19.
#[test]
fn ids_that_look_odd_are_issued_as_written() {
    let bench = Bench::new();
    let longest_domain = format!("spiffe://{}/a", "a".repeat(255));
    let longest = format!("spiffe://td/{}", "a".repeat(2048 - 12));
    for id in [
        "spiffe://my_td-1.x/a",
        "spiffe://10.0.0.1/a",
        "spiffe://td/NS/a",
        "spiffe://td/ns/a",
        &longest_domain,
        &longest,
    ] {
        // Each with the CA of its own trust domain: no other may sign it.
        let domain = id["spiffe://".len()..].split('/').next().unwrap();
        let _ = fs::remove_dir_all(bench.state());
        bench.run(&["ca", "init", "--trust-domain", domain]).success();
        bench.run(&["ca", "issue", id, "--out", "certs"]).success();
        let chain = fs::read_to_string(bench.path("certs/cert-chain.pem")).unwrap();
        let leaf = CertificateSummary::of(&certificates(&chain)[0]).unwrap();
        assert_eq!(leaf.names, [id], "byte for byte");
    }
}

/// CA.md S2 to S9 and S12, wherever a trust domain is configured.
#[test]
fn trust_domains_that_are_none_are_refused_wherever_they_are_named() {
    let bench = Bench::new();
    let long = "a".repeat(256);
    for (domain, reason) in [
        ("", "empty"),
        ("TD", "'T' is not allowed"),
        ("td:80", "':' is not allowed"),
        ("u@td", "'@' is not allowed"),
        ("t%64", "'%' is not allowed"),
        ("t!d", "'!' is not allowed"),
        ("td/a", "'/' is not allowed"),
        ("spiffe://td", "':' is not allowed"),
        ("täd", "'ä' is not allowed"),
        (&long, "longer than 255 bytes"),
    ] {
        let mut commands = vec![
            vec!["ca", "init", "--trust-domain", domain],
            vec!["ca", "serve", "--ephemeral", "--trust-domain", domain],
            vec!["serve", "--config-dir", "manifests", "--trust-domain", domain],
        ];
        if !domain.is_empty() {
            commands.push(vec!["ca", "issue", "--service-account", "a/b", "--trust-domain", domain]);
        }
        for command in commands {
            bench.run(&command).failure(2, &["--trust-domain", reason]);
        }
    }
}
