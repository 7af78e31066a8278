//! What an application is told of its callers, when these write `X-Forwarded-Client-Cert` themselves: on each kind of
//! port, in each mode, in plaintext and inside mutual TLS (ENVOY.md E24, E29; POLICY.md I8).

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use eastwest_tests::{
    app::{Answer, curl_with},
    mesh::nothing_was_refused,
    process::until,
};
use serde_json::Value;

use super::cells::{
    ALWAYS_MUTUAL, CELLS, DECLARED, Declared, MODES, Mode, SERVER, Scene, Shape, whole_namespace,
};

/// Whoever is told of this identity was lied to.
const FORGED: &str = "spiffe://cluster.local/ns/bookshop/sa/forged";
/// Who the caller proves to be.
const PROVEN: &str = "spiffe://cluster.local/ns/bookshop/sa/legacy";

/// Spellings that servers cannot tell apart once they have made variables of them.
const SPELLINGS: [&str; 4] = [
    "X-Forwarded-Client-Cert",
    "X_Forwarded_Client_Cert",
    "x-forwarded_client-cert",
    "X_FORWARDED-CLIENT_CERT",
];

/// What the application was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// Nothing.
    Nothing,
    /// One element, of the proxy, with the identity that the caller has proven.
    TheTruth,
    /// What the caller wrote.
    ALie,
    /// It saw no request.
    NoRequest,
}

/// On ports declared HTTP all is read; on others what is known as HTTP. On a port declared TCP bytes stay what they
/// are, and the proxy never tells an identity. TLS under DISABLE reaches the application as it is.
fn due(mode: Mode, declared: Declared, mutual: bool) -> Told {
    match (mode, declared, mutual) {
        (Mode::Strict, _, false) | (Mode::Disable, _, true) => Told::NoRequest,
        (_, Declared::Tcp, _) => Told::ALie,
        (_, _, true) => Told::TheTruth,
        (_, _, false) => Told::Nothing,
    }
}

fn told(headers: Option<&Value>) -> Result<Told> {
    let Some(headers) = headers else { return Ok(Told::NoRequest) };
    let headers = headers.as_object().context("headers are an object")?;
    let told: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name.to_lowercase().replace('_', "-") == "x-forwarded-client-cert")
        .filter_map(|(_, value)| value.as_str())
        .collect();
    let one_element = |text: &str| !text.contains(',') && text.matches("URI=").count() == 1;
    Ok(match told[..] {
        [] => Told::Nothing,
        [one] if one.contains(&format!("URI={PROVEN}")) && one_element(one) && !one.contains(FORGED) => {
            Told::TheTruth
        }
        _ => Told::ALie,
    })
}

fn plaintext(scene: &Scene, port: u16) -> Result<Told> {
    let lies = SPELLINGS.map(|name| format!("{name}: By=x;URI={FORGED}"));
    let arguments: Vec<&str> = lies.iter().flat_map(|lie| ["--header", lie.as_str()]).collect();
    let address = CELLS.address;
    let answer: Answer = curl_with(&scene.legacy.namespace, address, address, port, "/", &arguments)?;
    told(answer.is_ok().then(|| answer.seen()).transpose()?.map(|seen| seen["headers"].clone()).as_ref())
}

/// A peer with a certificate of the mesh, and without a proxy that would clean what it writes.
fn mutual(scene: &Scene, certificate: &Path, port: u16) -> Result<Told> {
    let request = scene.mesh.dir().join("request");
    let lies: String = SPELLINGS.map(|name| format!("{name}: By=x;URI={FORGED}\r\n")).concat();
    fs::write(&request, format!("GET / HTTP/1.1\r\nHost: cells\r\nConnection: close\r\n{lies}\r\n"))?;
    let mut client: Command = scene.legacy.namespace.command("timeout");
    client.args(["5", "openssl", "s_client", "-quiet", "-ign_eof", "-alpn", "istio-http/1.1", "-connect"]);
    client.arg(format!("{}:{port}", CELLS.address));
    client.arg("-cert").arg(certificate.join("cert-chain.pem"));
    client.arg("-cert_chain").arg(certificate.join("cert-chain.pem"));
    client.arg("-key").arg(certificate.join("key.pem")).stdin(fs::File::open(&request)?);
    let output = client.output().context("cannot run openssl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let body = text.lines().find_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
    told(body.filter(Value::is_object).map(|seen| seen["headers"].clone()).as_ref())
}

/// A method that nobody knows does not hide HTTP on a port of undeclared protocol.
fn unknown_methods_are_http(scene: &Scene) -> Result<()> {
    let (address, port) = (CELLS.address, Declared::Nothing.port());
    let answer = curl_with(&scene.legacy.namespace, address, address, port, "/", &["--request", "FOO"])?;
    assert_eq!(answer.status, 400, "{answer:?}");
    Ok(())
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn nobody_is_told_an_identity_that_a_caller_wrote() -> Result<()> {
    the_cells(Shape::Behind)
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn nobody_is_told_an_identity_that_a_caller_wrote_where_inspection_is_in_line() -> Result<()> {
    the_cells(Shape::InLine)
}

fn the_cells(shape: Shape) -> Result<()> {
    let policy = whole_namespace(Mode::Strict);
    let scene = Scene::start(&format!("{SERVER}{ALWAYS_MUTUAL}"), &policy, shape)?;
    let certificate = scene.mesh.dir().join("legacy");
    scene.mesh.control_plane.issue(PROVEN, &certificate)?;
    let mut wrong = Vec::new();
    for mode in MODES {
        scene.switch(&whole_namespace(mode), 6080, mode)?;
        if mode == Mode::Strict {
            until("the server to know its roots", Duration::from_secs(10), || {
                Ok((mutual(&scene, &certificate, 8080)? == Told::TheTruth).then_some(()))
            })?;
        }
        if mode == Mode::Permissive {
            unknown_methods_are_http(&scene)?;
        }
        for declared in DECLARED {
            for inside in [false, true] {
                let port = declared.port();
                let seen =
                    if inside { mutual(&scene, &certificate, port)? } else { plaintext(&scene, port)? };
                println!("{mode:<11} {declared:?} mutual TLS: {inside:<5}: {seen:?}");
                if seen != due(mode, declared, inside) {
                    wrong.push(format!("{mode} {declared:?} mutual TLS {inside}: {seen:?}"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    nothing_was_refused(&scene.mesh, &[&scene.server, &scene.client])
}
