//! Files that are cut off or emptied while a server runs: no policy leaves force by accident, and none does in silence.

use std::fs;

use eastwest_tests::process::until;

use crate::harness::{Bench, PATIENCE, Server};

fn policy(name: &str, mode: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata:\n  name: {name}\n  \
         namespace: catalog-{name}\nspec:\n  mtls:\n    mode: {mode}\n"
    )
}

fn says(server: &Server, text: &str) -> String {
    until(text, PATIENCE, || {
        let output = server.output();
        Ok(output.contains(text).then_some(output))
    })
    .unwrap()
}

#[test]
fn what_stood_behind_a_cut_stays_and_what_is_taken_out_is_told() {
    let bench = Bench::new();
    let whole = ["a", "b", "c"].map(|name| policy(name, "STRICT")).concat();
    bench.write("more.yaml", &whole);
    let server = bench.serve(&[]);
    let path = bench.manifests.dir().join("more.yaml");
    // The document is cut off in the word, and can still be read.
    fs::write(&path, &whole[..whole.rfind("---").unwrap() - "ICT\n".len()]).unwrap();
    let errors = server.until("/debug/config_errors", |page| !page.as_array().unwrap().is_empty());
    let message = errors[0]["message"].as_str().unwrap();
    assert!(message.contains("stays in force: PeerAuthentication/catalog-c/c"), "{message}");
    assert!(!server.output().contains("no longer in force"), "{}", server.output());

    // Other words about the same field are no end of the mistake.
    fs::write(&path, policy("a", "STRICT") + &policy("b", "STRIKT")).unwrap();
    says(&server, "\"STRIKT\"");
    assert!(!server.output().contains("no longer refused"), "{}", server.output());

    fs::write(&path, policy("a", "STRICT")).unwrap();
    server.until("/debug/config_errors", |page| page.as_array().unwrap().is_empty());
    let output = says(&server, "object=PeerAuthentication/catalog-c/c");
    let gone = |name: &str| {
        let line = output.lines().find(|line| {
            line.contains("no longer in force")
                && line.contains(&format!("PeerAuthentication/catalog-{name}/"))
        });
        line.unwrap_or_default().to_owned()
    };
    for name in ["b", "c"] {
        assert!(gone(name).contains("WARN") && gone(name).contains("it asked for STRICT"), "{output}");
    }
    fs::write(&path, "").unwrap();
    says(&server, "PeerAuthentication/catalog-a/a was=more.yaml");
}

#[test]
fn a_document_of_which_nothing_is_in_force_is_an_error_from_the_start() {
    let bench = Bench::new();
    let whole = policy("a", "STRICT");
    bench.write("more.yaml", &whole[..whole.find("namespace").unwrap()].replace("  name: a", "  nam"));
    let server = bench.serve(&[]);
    let output = says(&server, "more.yaml:2");
    let line = output.lines().find(|line| line.contains("more.yaml:2")).unwrap();
    assert!(line.contains("ERROR") && line.contains("nothing of it is in force"), "{line}");
    let (_, metrics) = server.page("/metrics");
    assert!(metrics.lines().any(|line| line == "eastwest_config_not_in_force 1"), "{metrics}");
}

/// An edit that asks for less is taken, and never in silence.
#[test]
fn what_asks_for_less_than_before_is_told() {
    let bench = Bench::new();
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: out, namespace: bookshop}\n\
                spec: {host: out.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}\n";
    bench.write("more.yaml", &(policy("a", "STRICT") + rule));
    let server = bench.serve(&[]);
    bench.write("more.yaml", &(policy("a", "PERMISSIVE") + &rule.replace("SIMPLE", "DISABLE")));
    let output = says(&server, "no longer asks for TLS to out.example.com (SIMPLE)");
    let line = output.lines().find(|line| line.contains("no longer asks for STRICT")).unwrap();
    assert!(line.contains("WARN") && line.contains("PeerAuthentication/catalog-a/a"), "{line}");
    bench.write("more.yaml", rule);
    says(&server, "has it no longer object=PeerAuthentication/catalog-a/a");
    bench.remove("more.yaml");
    says(&server, "it asked for TLS to out.example.com (SIMPLE)");
}
