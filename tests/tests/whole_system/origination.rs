//! TLS that a DestinationRule originates towards servers outside the mesh (POLICY.md O5, O6, O8):
//! outcomes of calls with right and wrong names, trust anchors and client certificates.

use std::fs;

use anyhow::{Result, ensure};
use eastwest_tests::{
    bookshop::LEGACY,
    mesh::nothing_was_refused,
    outside::{DEMANDING, MISNAMED, OPEN, Outcome, PATIENCE, Scene, Server},
    process::until,
};

use Outcome::{NameRefused, NotTls, RefusedByServer, Served, Untrusted};

/// A `tls` block, for calls of one server. `DIR` stands for the folder of certificates.
struct Case {
    name: &'static str,
    server: Server,
    tls: &'static str,
    due: Outcome,
}

const fn case(name: &'static str, server: Server, tls: &'static str, due: Outcome) -> Case {
    Case { name, server, tls, due }
}

/// The order matters: each case must undo the outcome of the case before it.
const CASES: [Case; 17] = [
    case(
        "SIMPLE, right CA and name",
        OPEN,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem, subjectAltNames: [external.example.org]}",
        Served,
    ),
    case(
        "SIMPLE, wrong CA",
        OPEN,
        "{mode: SIMPLE, caCertificates: DIR/foreign.pem, subjectAltNames: [external.example.org]}",
        Untrusted,
    ),
    case("SIMPLE, names from Host header", OPEN, "{mode: SIMPLE, caCertificates: DIR/servers.pem}", Served),
    case(
        "SIMPLE, wrong name",
        OPEN,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem, subjectAltNames: [elsewhere.example.org]}",
        NameRefused,
    ),
    case("SIMPLE, CAs of the system", OPEN, "{mode: SIMPLE}", Untrusted),
    case(
        "SIMPLE, CAs of the system, right name",
        OPEN,
        "{mode: SIMPLE, subjectAltNames: [external.example.org]}",
        Untrusted,
    ),
    case("SIMPLE, insecureSkipVerify", OPEN, "{mode: SIMPLE, insecureSkipVerify: true}", Served),
    case("ISTIO_MUTUAL", OPEN, "{mode: ISTIO_MUTUAL}", Untrusted),
    case(
        "MUTUAL, server does not ask",
        OPEN,
        "{mode: MUTUAL, caCertificates: DIR/servers.pem, clientCertificate: DIR/client.pem, privateKey: DIR/client-key.pem}",
        Served,
    ),
    case("DISABLE", OPEN, "{mode: DISABLE}", NotTls),
    case(
        "SIMPLE, another host's certificate",
        MISNAMED,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem}",
        NameRefused,
    ),
    case(
        "SIMPLE, that host's name in the rule",
        MISNAMED,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem, subjectAltNames: [external.example.org]}",
        Served,
    ),
    case(
        "MUTUAL, trusted client certificate",
        DEMANDING,
        "{mode: MUTUAL, caCertificates: DIR/servers.pem, clientCertificate: DIR/client.pem, privateKey: DIR/client-key.pem}",
        Served,
    ),
    case(
        "MUTUAL, foreign client certificate",
        DEMANDING,
        "{mode: MUTUAL, caCertificates: DIR/servers.pem, clientCertificate: DIR/stranger.pem, privateKey: DIR/stranger-key.pem}",
        RefusedByServer,
    ),
    case(
        "SIMPLE, client certificate asked for",
        DEMANDING,
        "{mode: SIMPLE, caCertificates: DIR/servers.pem}",
        RefusedByServer,
    ),
    case(
        "MUTUAL, trusted again",
        DEMANDING,
        "{mode: MUTUAL, caCertificates: DIR/servers.pem, clientCertificate: DIR/client.pem, privateKey: DIR/client-key.pem}",
        Served,
    ),
    case(
        "MUTUAL, wrong CA of the server",
        DEMANDING,
        "{mode: MUTUAL, caCertificates: DIR/foreign.pem, clientCertificate: DIR/client.pem, privateKey: DIR/client-key.pem}",
        Untrusted,
    ),
];

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_rule_decides_whom_outside_the_mesh_is_called_and_how() -> Result<()> {
    let scene = Scene::start()?;
    let mut wrong = Vec::new();
    for Case { name, server, tls, due } in CASES {
        scene.switch(server, &[(server.host, tls)])?;
        let (seen, told) = scene.observe(server)?;
        println!("{name:<38}{seen:<21}{told}");
        if seen != due {
            wrong.push(format!("{name}: {seen}, not {due}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    the_host_header_names_the_server(&scene)?;
    nothing_was_refused(&scene.mesh, &[&scene.client])?;
    a_missing_file_affects_no_other_host(&scene)
}

/// Without SNI in the rule, the server gets the name that the application called.
fn the_host_header_names_the_server(scene: &Scene) -> Result<()> {
    scene.switch(OPEN, &[(OPEN.host, "{mode: SIMPLE, caCertificates: DIR/servers.pem}")])?;
    let (wire, answer) = scene.mesh.capture(&scene.outside, || scene.call(OPEN))?;
    ensure!(answer.is_ok(), "{answer:?}");
    let names: Vec<_> = wire.client_hellos(OPEN.port)?.into_iter().map(|hello| hello.sni).collect();
    assert_eq!(names, [OPEN.host]);
    Ok(())
}

/// A rule that names a file which is not there: connections to that host fail, none goes out in plaintext, and
/// everything else goes on. The file counts as soon as it is there, and again when it changes.
fn a_missing_file_affects_no_other_host(scene: &Scene) -> Result<()> {
    const LATE: &str =
        "{mode: SIMPLE, caCertificates: DIR/late.pem, subjectAltNames: [external.example.org]}";
    const SKIP: &str = "{mode: SIMPLE, insecureSkipVerify: true}";
    let late = scene.certificates.join("late.pem");
    let write = |from: &str| -> Result<()> {
        let draft = scene.certificates.join("draft.pem");
        fs::copy(scene.certificates.join(from), &draft)?;
        Ok(fs::rename(draft, &late)?)
    };
    let becomes = |due: Outcome| {
        until(&due.to_string(), PATIENCE, || Ok((scene.observe(OPEN)?.0 == due).then_some(())))
    };
    // If the previous setting stayed in force, the call would be plaintext.
    scene.switch(OPEN, &[(OPEN.host, "{mode: DISABLE}")])?;
    assert_eq!(scene.observe(OPEN)?.0, NotTls);
    scene.switch(OPEN, &[(OPEN.host, LATE), (MISNAMED.host, SKIP)])?;
    let answer = scene.call(OPEN)?;
    println!("without its file: {} {}", answer.status, answer.body);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(scene.observe(MISNAMED)?.0, Served, "the rest of the same change is in force");
    assert_eq!(scene.client.call(&LEGACY, 80, "/")?.seen()?["pod"], "legacy-0", "others are called as ever");

    write("servers.pem")?;
    becomes(Served)?;
    write("foreign.pem")?;
    becomes(Untrusted)?;
    write("servers.pem")?;
    becomes(Served)?;
    fs::remove_file(&late)?;
    assert_eq!(scene.observe(OPEN)?.0, Served, "what was good once stays");
    nothing_was_refused(&scene.mesh, &[&scene.client])
}
