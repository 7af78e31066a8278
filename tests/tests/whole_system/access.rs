//! What policies of access do on the wire is what `eastwest can` says.

use std::{process::Command, time::Duration};

use anyhow::{Result, bail};
use eastwest_tests::{
    app::{curl, curl_with},
    bookshop::{CATALOG, CATALOG_NEXT, LEGACY, STOREFRONT},
    mesh::{Mesh, Pod, nothing_was_refused},
    process::until,
    programs,
};

const MESH_CLIENT: &str = "bookshop/storefront-0";

/// What is tried: some policies for the catalog, one after another.
const SPECS: [&str; 12] = [
    "{}",
    "{rules: [{}]}",
    "{rules: [{from: [{source: {principals: [cluster.local/ns/bookshop/sa/storefront]}}]}]}",
    "{action: DENY, rules: [{from: [{source: {namespaces: [bookshop]}}]}]}",
    "{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}",
    "{rules: [{to: [{operation: {paths: ['/books/{*}'], methods: [GET]}}]}]}",
    "{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}",
    "{rules: [{from: [{source: {ipBlocks: [10.77.0.10]}}]}]}",
    "{rules: [{from: [{source: {notIpBlocks: [10.77.0.10/32]}}]}]}",
    "{rules: [{from: [{source: {remoteIpBlocks: [203.0.113.9]}}]}]}",
    "{rules: [{to: [{operation: {hosts: [catalog.bookshop.svc.cluster.local], ports: ['8080']}}]}]}",
    "{rules: [{from: [{source: {serviceAccounts: [storefront]}}], when: [{key: 'request.headers[x-team]', values: [blue]}]}]}",
];

/// Requests: a path, and headers.
const REQUESTS: [(&str, &[&str]); 6] = [
    ("/", &[]),
    ("/books/7", &[]),
    ("/books/7/8", &["x-team: blue"]),
    ("/x/..%2f../admin", &[]),
    ("/%61dmin", &[]),
    ("/books/a?x=1", &["x-forwarded-for: 198.51.100.1, 203.0.113.9"]),
];

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: tried, namespace: bookshop}}\n\
         spec: {}\n",
        spec.replacen('{', "{selector: {matchLabels: {app: catalog}}, ", 1)
    )
}

/// Whether `eastwest can` allows the request.
fn said(mesh: &Mesh, client: &str, path: &str, headers: &[&str]) -> Result<bool> {
    let mut command = Command::new(programs::eastwest()?);
    let host = CATALOG.host();
    // A pod without a sidecar dials the pod: nothing leads it from the address of a Service to a pod here.
    match client == MESH_CLIENT {
        true => command.args(["can", client, &format!("{host}:80"), "GET", path]),
        false => command.args([
            "can",
            client,
            "bookshop/catalog-0:8080",
            "GET",
            path,
            "--host",
            &format!("{host}:8080"),
        ]),
    };
    command.arg("--config-dir").arg(mesh.manifests.dir());
    for header in headers {
        command.args(["--header", &header.replacen(": ", "=", 1)]);
    }
    let output = command.output()?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => bail!("{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Whether the application answers, and is not kept from it by a policy.
fn observed(pod: &Pod, in_mesh: bool, path: &str, headers: &[&str]) -> Result<Option<bool>> {
    let more: Vec<&str> =
        ["--path-as-is"].into_iter().chain(headers.iter().flat_map(|header| ["--header", header])).collect();
    let (address, port) =
        if in_mesh { (CATALOG.cluster_ip(), 80) } else { (CATALOG.address.to_owned(), 8080) };
    let answer = curl_with(&pod.namespace, &CATALOG.host(), &address, port, path, &more)?;
    Ok(match (answer.code, answer.status) {
        (0, 200 | 404) => Some(true),
        (0, 403) => Some(false),
        _ => {
            eprintln!("in the mesh {in_mesh}, {path}: {answer:?}");
            None
        }
    })
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn policies_of_access_do_on_the_wire_what_can_says() -> Result<()> {
    let mesh = Mesh::start()?;
    let (storefront, catalog) = (mesh.lift(STOREFRONT)?, mesh.lift(CATALOG)?);
    let next = mesh.lift(CATALOG_NEXT)?;
    let legacy = mesh.lift_plain(LEGACY)?;
    let ready =
        || Ok(curl(&legacy.namespace, CATALOG.address, CATALOG.address, 8080, "/")?.is_ok().then_some(()));
    until("the catalog", Duration::from_secs(10), ready)?;
    let (mut allowed, mut denied) = (0, 0);
    for spec in SPECS {
        mesh.manifests.write("access.yaml", &policy(spec))?;
        let mut expected = Vec::new();
        for (path, headers) in REQUESTS {
            for client in [MESH_CLIENT, "bookshop/legacy-0"] {
                expected.push((client, path, headers, said(&mesh, client, path, headers)?));
            }
        }
        allowed += expected.iter().filter(|(.., said)| *said).count();
        denied += expected.iter().filter(|(.., said)| !said).count();
        let mut differs = String::new();
        let holds = until("the verdicts", Duration::from_secs(15), || {
            for (client, path, headers, said) in &expected {
                let in_mesh = *client == MESH_CLIENT;
                let seen = observed(if in_mesh { &storefront } else { &legacy }, in_mesh, path, headers)?;
                if seen != Some(*said) {
                    differs = format!("{spec}: {client} {path} {headers:?}: can says {said}, seen {seen:?}");
                    return Ok(None);
                }
            }
            Ok(Some(()))
        });
        if holds.is_err() {
            bail!("{differs}: {holds:?}");
        }
    }
    println!("{} policies: {allowed} requests allowed and {denied} denied as can says", SPECS.len());
    assert!(allowed > 30 && denied > 30);
    nothing_was_refused(&mesh, &[&storefront, &catalog, &next])
}
