//! The client of Istio's agent: its secret manager creates the key and the request, and checks the answer.

use std::{fs, path::Path, process::Command};

use eastwest_tests::{
    process::{Process, run, until},
    programs,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::Value;

use crate::{
    PATIENCE,
    cluster::{Cluster, MESH},
    control_plane::{ControlPlane, eastwest},
};

const REVIEWS: (&str, &str) = ("shop", "reviews");
const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/reviews";

/// Istio's client in `dir`.
fn client(server: &ControlPlane, dir: &Path, flags: &[&str]) -> Process {
    let mut command = Command::new(programs::istio_client().unwrap());
    command.args(["-ca", &server.tls, "-namespace", REVIEWS.0, "-service-account", REVIEWS.1]);
    command.arg("-root").arg(server.root()).args(flags).current_dir(dir);
    Process::spawn("Istio's client", command, &dir.join("istio.log")).unwrap()
}

/// The certificates that it accepted, once it has ended well.
fn accepted(mut client: Process) -> Vec<Value> {
    let status = client.wait(PATIENCE).unwrap_or_else(|error| panic!("{error}: {}", client.output()));
    assert!(status.success(), "{}", client.output());
    certificates(&client)
}

/// The certificates that it accepted so far.
fn certificates(client: &Process) -> Vec<Value> {
    let output = client.output();
    output
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn all_different(certificates: &[Value]) -> bool {
    let mut serials: Vec<_> = certificates.iter().map(|one| one["serial"].as_str().unwrap()).collect();
    serials.sort_unstable();
    serials.dedup();
    serials.len() == certificates.len() && certificates.iter().all(|one| one["uri"] == IDENTITY)
}

#[test]
#[ignore = "needs the programs that cargo xtask tools builds"]
fn istios_client_gets_and_renews_certificates_for_a_token_that_the_api_reviews() {
    let cluster = Cluster::start();
    cluster.let_us_review();
    cluster.account(REVIEWS);
    let pod = cluster.pod(REVIEWS, "reviews-0");
    let dir = cluster.dir();
    fs::create_dir(dir.join("certs")).unwrap();
    let token = dir.join("token");
    fs::write(&token, cluster.api.token(REVIEWS, MESH, Some(&pod)).unwrap()).unwrap();
    let token = token.display().to_string();
    let server =
        ControlPlane::start(dir, &["ca", "serve", "--token-review", "--kubeconfig", &cluster.kubeconfig()]);

    // RSA keys, as istio's agent has them by default, renewed at half of their certificates' life.
    let first = client(&server, dir, &["-token", &token, "-ttl", "10s", "-count", "3", "-out", "certs"]);
    let first = accepted(first);
    assert_eq!(first.len(), 3, "{first:?}");
    assert!(
        all_different(&first) && first.iter().all(|one| one["key"] == "RSA" && one["roots"] == 1),
        "{first:?}"
    );
    // The agent of a virtual machine has the certificate and no token.
    let flags = ["-prov-cert", "certs", "-ttl", "10s", "-count", "2", "-ecc", "ECDSA", "-curve", "P384"];
    let second = accepted(client(&server, dir, &flags));
    assert!(second.len() == 2 && all_different(&[first, second.clone()].concat()), "{second:?}");
    assert!(second.iter().all(|one| one["key"] == "ECDSA"), "{second:?}");
    let ledger = server.ledger("shop/reviews");
    let proofs: Vec<_> =
        ledger.iter().map(|record| (record["proof"].as_str().unwrap(), record["pod"].as_str())).collect();
    let (reviewed, shown) = (("token-review", Some("reviews-0")), ("client-certificate", None));
    assert_eq!(proofs, [reviewed, reviewed, reviewed, shown, shown]);

    fs::write(dir.join("token"), "a.b.c").unwrap();
    let mut stranger = client(&server, dir, &["-token", &token]);
    assert!(!stranger.wait(PATIENCE).unwrap().success());
    assert!(stranger.output().contains("code = Unauthenticated"), "{}", stranger.output());
    assert!(certificates(&stranger).is_empty());
}

/// An intermediate CA and its root, in the folder `ca`.
fn plug_in(dir: &Path) {
    let ca = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.distinguished_name.push(DnType::CommonName, name);
        (params, KeyPair::generate().unwrap())
    };
    let ((root, root_key), (signer, signer_key)) = (ca("root"), ca("signer"));
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let signer_pem = signer.signed_by(&signer_key, &Issuer::new(root, root_key)).unwrap().pem();
    let files = dir.join("ca");
    fs::create_dir(&files).unwrap();
    let chain = format!("{signer_pem}{root_pem}");
    for (file, text) in [
        ("ca-cert.pem", &signer_pem),
        ("ca-key.pem", &signer_key.serialize_pem()),
        ("cert-chain.pem", &chain),
        ("root-cert.pem", &root_pem),
    ] {
        fs::write(files.join(file), text).unwrap();
    }
}

/// A token of the state directory, in the file `token`.
fn mint(dir: &Path) {
    let token = run(eastwest(dir, &["token", "--service-account", "shop/reviews"])).unwrap();
    fs::write(dir.join("token"), token).unwrap();
}

#[test]
#[ignore = "needs the client that cargo xtask tools builds"]
fn istios_client_takes_a_chain_with_an_intermediate() {
    let dir = tempfile::tempdir().unwrap();
    plug_in(dir.path());
    fs::create_dir(dir.path().join("manifests")).unwrap();
    fs::create_dir(dir.path().join("certs")).unwrap();
    let server = ControlPlane::start(dir.path(), &["serve", "--config-dir", "manifests", "--ca-dir", "ca"]);
    mint(dir.path());
    let held = accepted(client(&server, dir.path(), &["-token", "token", "-out", "certs"]));
    assert_eq!((held.len(), &held[0]["uri"], &held[0]["roots"]), (1, &IDENTITY.into(), &1.into()));
    let text = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
    assert_eq!(text("certs/root-cert.pem").trim(), text("ca/root-cert.pem").trim());
    let (chain, above) = (text("certs/cert-chain.pem"), text("ca/cert-chain.pem"));
    assert!(chain.trim().ends_with(above.trim()), "the leaf, its signer, the root: {chain}");
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 3);
}

#[test]
#[ignore = "needs the client that cargo xtask tools builds"]
fn istios_client_follows_a_change_of_roots() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        ControlPlane::start(dir.path(), &["ca", "serve", "--cert-ttl", "10s", "--max-cert-ttl", "10s"]);
    mint(dir.path());
    let client = client(&server, dir.path(), &["-token", "token", "-ttl", "10s", "-count", "1000"]);
    let until_it_has = |roots: u64| {
        until("a certificate with these roots", PATIENCE, || {
            Ok(certificates(&client).last().filter(|one| one["roots"] == roots).cloned())
        })
        .unwrap_or_else(|error| panic!("{error}: {roots} roots: {}", client.output()))
    };
    until_it_has(1);
    for (steps, roots) in [(&["prepare", "publish"][..], 2), (&["activate"], 2), (&["retire"], 1)] {
        for step in steps {
            run(eastwest(dir.path(), &["ca", "rotate", "--wait", "--step", step])).unwrap();
        }
        let held = certificates(&client).len();
        until("a renewal", PATIENCE, || Ok((certificates(&client).len() > held).then_some(()))).unwrap();
        until_it_has(roots);
    }
    let certificates = certificates(&client);
    println!("{} certificates while the root changed", certificates.len());
    assert!(all_different(&certificates), "{certificates:?}");
    assert!(!client.output().contains("failed to sign"), "{}", client.output());
}
