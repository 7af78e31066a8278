//! Who may see the debug pages: clients of this machine, unless they are for anyone.

use eastwest_tests::netns::World;

use crate::harness::Bench;

/// Status and body of a page, asked from a namespace of its own.
fn page_from(client: &eastwest_tests::netns::Namespace, address: &str, path: &str) -> (String, String) {
    let mut curl = client.command("curl");
    curl.args(["--silent", "--show-error", "--max-time", "5", "--write-out", "\n%{http_code}"]);
    let output = curl.arg(format!("http://{address}{path}")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap_or_default();
    (status.to_owned(), body.to_owned())
}

#[test]
#[ignore = "needs root"]
fn others_see_no_debug_page_unless_they_are_for_anyone() {
    let world = World::new().unwrap();
    let inside = world.connect("inside", &["10.77.0.10"]).unwrap();
    let outside = world.connect("outside", &["10.77.0.20"]).unwrap();
    for (access, status) in [("local", "403"), ("anyone", "200")] {
        let bench = Bench::new();
        let log = bench.path("serve.log");
        let mut serve = inside.command(eastwest_tests::programs::eastwest().unwrap());
        serve.args(["serve", "--grpc-addr", "127.0.0.1:0", "--grpc-tls-addr", "127.0.0.1:0"]);
        serve.args(["--http-addr", "10.77.0.10:15014", "--debug-access", access, "--config-dir"]);
        serve.arg(bench.manifests.dir()).arg("--state-dir").arg(bench.state());
        let mut server = eastwest_tests::process::Process::spawn("serve", serve, &log).unwrap();
        server.wait_for_line("eastwest ready", crate::harness::PATIENCE).unwrap();
        let address = "10.77.0.10:15014";
        for page in
            ["/debug/workloads", "/debug/syncz", "/debug/ca", "/debug/explain?client=a/b", "/debug//ca"]
        {
            let (found, body) = page_from(&outside, address, page);
            match access {
                "local" => assert!(
                    found == status && body.contains("--debug-access anyone"),
                    "{page}: {found} {body}"
                ),
                _ => assert_ne!(found, "403", "{page}"),
            }
        }
        for page in ["/healthz", "/readyz", "/metrics", "/version", "/bundle", "/", "/debug/list"] {
            assert_eq!(page_from(&outside, address, page).0, "200", "{page}");
        }
        assert_eq!(page_from(&inside, address, "/debug/workloads").0, "200", "on its own machine");
    }
}
