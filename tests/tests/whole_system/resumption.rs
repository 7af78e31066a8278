//! A client that keeps TLS sessions (our sidecars do not) cannot use them after its
//! certificate has expired: the server issues no session tickets.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use eastwest_tests::{
    bookshop::{LEGACY, ORDERS, STOREFRONT},
    mesh::{Mesh, Pod},
    process::{run, until},
    programs,
};

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_kept_session_does_not_outlive_its_certificate() -> Result<()> {
    let mesh = Mesh::start()?;
    let orders = mesh.lift(ORDERS)?;
    let outsider = mesh.lift_plain(LEGACY)?;
    let files = mesh.dir().join("issued");
    let mut issue = Command::new(programs::eastwest()?);
    issue.args(["ca", "issue", &STOREFRONT.spiffe_id(), "--ttl", "10s", "--out"]).arg(&files);
    issue.arg("--state-dir").arg(mesh.dir().join("state"));
    run(issue)?;

    for version in VERSIONS {
        let said = ask(&outsider, &files, version, Session::Keep)?;
        assert!(said.contains("HTTP/1.1 200"), "{version}: {said}");
    }
    until("the certificate's expiry", Duration::from_secs(15), || {
        let said = ask(&outsider, &files, VERSIONS[1], Session::None)?;
        Ok((!said.contains("HTTP/1.1 200")).then_some(()))
    })?;
    let mut offered = 0;
    for version in VERSIONS {
        // Without a ticket no file was written, and there is no session to resume.
        if files.join(version).exists() {
            offered += 1;
            let said = ask(&outsider, &files, version, Session::Resume)?;
            assert!(!said.contains("HTTP/1.1 200"), "{version}: {said}");
        }
    }
    assert_eq!(orders.stats("ssl.session_reused")?, 0);
    println!("of {} kept sessions, {offered} could be offered and none was taken", VERSIONS.len());
    Ok(())
}

/// What to do with the session.
#[derive(Clone, Copy)]
enum Session {
    None,
    Keep,
    Resume,
}

/// Sends a request to orders, past all sidecars, with the issued certificate.
fn ask(pod: &Pod, files: &Path, version: &str, session: Session) -> Result<String> {
    let mut openssl = pod.namespace.command("openssl");
    openssl.args(["s_client", version, "-ign_eof", "-alpn", "istio"]);
    openssl.args(["-connect", &format!("{}:8080", ORDERS.address)]);
    openssl.arg("-cert").arg(files.join("cert-chain.pem")).arg("-key").arg(files.join("key.pem"));
    openssl.arg("-CAfile").arg(files.join("root-cert.pem"));
    match session {
        Session::None => {}
        Session::Keep => _ = openssl.arg("-sess_out").arg(files.join(version)),
        Session::Resume => _ = openssl.arg("-sess_in").arg(files.join(version)),
    }
    let piped = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = piped.spawn().context("cannot run openssl")?;
    let mut stdin = child.stdin.take().context("openssl has no input")?;
    // Fails when the server has refused already, which the output tells.
    let _ = stdin.write_all(b"GET / HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n");
    drop(stdin);
    Ok(String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned())
}
