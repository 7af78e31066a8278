//! Where calls go: what `explain` says about a call, and the cluster that stock Envoy takes for it (POLICY.md L1 to L7).

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use eastwest_tests::{
    bookshop::{CATALOG, LEGACY, STOREFRONT},
    mesh::{Mesh, Pod, nothing_was_refused},
    process::until,
    programs,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(15);

/// An address that nobody has.
const ELSEWHERE: &str = "192.0.2.7";

/// A target as it is asked for, and the address that it has. Two calls to one address would share a connection.
const CALLS: [(&str, u16, &str); 22] = [
    // A block of addresses (L3).
    ("cargo.example", 9042, "172.24.1.1"),
    ("172.24.7.7", 9042, "172.24.7.7"),
    ("172.23.7.7", 9042, "172.23.7.7"),
    // Hosts without addresses (L4).
    ("west.example", 5432, ELSEWHERE),
    ("ferry.example", 80, ELSEWHERE),
    ("pilot.example", 6543, ELSEWHERE),
    ("203.0.113.9", 6543, "203.0.113.9"),
    ("north.example", 6443, ELSEWHERE),
    ("203.0.113.9", 6443, "203.0.113.9"),
    // Single addresses (L1).
    ("198.51.100.40", 5001, "198.51.100.40"),
    ("late.example", 5002, "198.51.100.40"),
    // Pods of a headless Service (L1, L6).
    ("catalog-0.shelf", 7777, CATALOG.address),
    (CATALOG.address, 7777, CATALOG.address),
    (CATALOG.address, 8080, CATALOG.address),
    // The address that the client resolved (L6).
    ("radio.example", 7000, ELSEWHERE),
    ("radio.example", 80, ELSEWHERE),
    // Host headers and aliases (L5).
    ("catalog", 80, "10.96.1.20"),
    ("legacy.bookshop", 80, "10.96.1.60"),
    ("news", 80, ELSEWHERE),
    ("mail", 80, ELSEWHERE),
    ("charts", 6443, ELSEWHERE),
    // What nobody knows (L7).
    ("nobody.example.net", 80, "192.0.2.8"),
];

/// The objects that the calls are about.
fn objects() -> String {
    let entry = |name: &str, more: &str, ports: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: bookshop}}\n\
             spec: {{hosts: [{name}.example], {more}, ports: [{ports}]}}\n"
        )
    };
    let fixed = "resolution: STATIC, endpoints: [{address: 198.51.100.1}]";
    let at = |addresses: &str| format!("addresses: [{addresses}], {fixed}");
    let alias = |name: &str, to: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: bookshop}}\n\
             spec: {{type: ExternalName, externalName: {to}, ports: [{{name: http, port: 80}}]}}\n"
        )
    };
    let port =
        |number: u16, protocol: &str| format!("{{number: {number}, name: p-{number}, protocol: {protocol}}}");
    [
        entry("cargo", &at("172.24.0.0/16"), &port(9042, "TCP")),
        entry("east", fixed, &port(5432, "TCP")),
        entry("west", fixed, &port(5432, "TCP")),
        entry("ferry", fixed, &port(80, "TCP")),
        entry("pilot", fixed, &port(6543, "TCP")),
        entry("north", fixed, &port(6443, "TLS")),
        entry("south", fixed, &port(6443, "TLS")),
        entry("aft", &at("198.51.100.40"), &[port(5001, "TCP"), port(5002, "TCP")].join(", ")),
        entry("late", &at("198.51.100.40"), &port(5002, "TCP")),
        entry("radio", "resolution: NONE", &[port(7000, "TCP"), port(80, "HTTP")].join(", ")),
        entry("mail", fixed, &port(80, "HTTP")),
        alias("news", "news.example"),
        alias("mail", "mail.example"),
        alias("charts", "north.example"),
        "---\napiVersion: v1\nkind: Service\nmetadata: {name: shelf, namespace: bookshop}\n\
         spec: {clusterIP: None, selector: {app: catalog}, ports: [{name: tcp, port: 7777, targetPort: 8080}]}\n"
            .to_owned(),
    ]
    .concat()
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_call_takes_the_cluster_that_explain_names() -> Result<()> {
    let mesh = Mesh::start()?;
    let client = mesh.lift(STOREFRONT)?;
    mesh.manifests.write("calls.yaml", &objects())?;
    until("the listeners and routes", PATIENCE, || {
        let page = client.admin("/config_dump")?;
        let there = |name: &str| page.contains(name);
        Ok(["0.0.0.0_9042", "0.0.0.0_7000", "_7777", "radio.example:80"].into_iter().all(there).then_some(()))
    })?;
    ensure!(
        CATALOG.cluster_ip() == "10.96.1.20" && LEGACY.cluster_ip() == "10.96.1.60",
        "addresses of the table"
    );
    let mut wrong = Vec::new();
    for (host, port, address) in CALLS {
        let explained = explain(&mesh, host, port)?;
        let cluster = explained["cluster"].as_str().context("an explanation names a cluster")?;
        let first_bytes = explained["first_bytes"].as_str().context("a client with a proxy")?;
        let found = cluster_taken(&client, first_bytes, address, port)?;
        println!("{host}:{port} ({first_bytes}) → {found}");
        if found != cluster {
            wrong.push(format!("{host}:{port}: {found}, not {cluster}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    nothing_was_refused(&mesh, &[&client])
}

fn explain(mesh: &Mesh, host: &str, port: u16) -> Result<Value> {
    let page = format!("/debug/explain?client=bookshop/storefront-0&host={host}&port={port}");
    Ok(serde_json::from_str(&mesh.control_plane.page(mesh.hub(), &page)?)?)
}

/// The cluster whose counter of connections moves when a call is made. Whether anybody answers makes no difference.
fn cluster_taken(client: &Pod, first_bytes: &str, address: &str, port: u16) -> Result<String> {
    let before = connections(client)?;
    let mut call = Dialling(dial(client, first_bytes, address, port)?.spawn().context("cannot call")?);
    let taken = until(first_bytes, PATIENCE, || {
        let moved =
            |(cluster, count): (String, u64)| (before.get(&cluster) != Some(&count)).then_some(cluster);
        Ok(connections(client)?.into_iter().find_map(moved))
    });
    call.0.kill()?;
    taken
}

/// Connections by cluster, but for those to the control plane.
fn connections(client: &Pod) -> Result<BTreeMap<String, u64>> {
    let text = client.admin("/stats?filter=upstream_cx_total$")?;
    let line = |line: &str| -> Option<(String, u64)> {
        let (name, count) = line.split_once(": ")?;
        let cluster = name.strip_prefix("cluster.")?.strip_suffix(".upstream_cx_total")?;
        Some((cluster.to_owned(), count.trim().parse().ok()?))
    };
    let ours =
        |(cluster, _): &(String, u64)| cluster.ends_with("Cluster") || cluster.starts_with("outbound|");
    Ok(text.lines().filter_map(line).filter(ours).collect())
}

/// A client that begins as explain says.
fn dial(client: &Pod, first_bytes: &str, address: &str, port: u16) -> Result<Command> {
    let curl = |scheme: &str, authority: &str| {
        let host = authority.split(':').next().unwrap_or(authority);
        let mut curl = client.namespace.command("curl");
        curl.args([
            "--silent",
            "--insecure",
            "--max-time",
            "20",
            "--resolve",
            &format!("{host}:{port}:{address}"),
        ]);
        curl.arg(format!("{scheme}://{host}:{port}/"));
        curl
    };
    let mut command = if let Some(authority) = first_bytes.strip_prefix("HTTP with Host ") {
        curl("http", authority)
    } else if let Some(name) = first_bytes.strip_prefix("TLS with server name ") {
        curl("https", name)
    } else {
        let mut bytes = client.namespace.command(programs::testapp()?);
        bytes.arg("once").arg(format!("{address}:{port}"));
        bytes
    };
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// A client that ends with its call.
struct Dialling(Child);

impl Drop for Dialling {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
