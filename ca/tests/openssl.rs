//! OpenSSL reads and verifies, strictly, every kind of certificate that we issue (ca.md section 7 row 5).
#![allow(clippy::disallowed_methods)] // a test needs files and a clock

use std::{fs, path::Path, process::Command, time::Duration};

use eastwest_ca::{
    Authorizer, Caller, Issuer as _, Lifetimes, LocalIssuer, PrivateKey, Proof, TrustBundle, VerifiedCsr,
    issuer::self_signed_root, pem,
};
use eastwest_model::{SpiffeId, TrustDomain};
use time::OffsetDateTime;

const CSRS: [(&str, &str); 8] = [
    ("p256", include_str!("../testdata/csr/p256.pem")),
    ("p256-sha384", include_str!("../testdata/csr/p256-sha384.pem")),
    ("p384", include_str!("../testdata/csr/p384.pem")),
    ("p384-sha256", include_str!("../testdata/csr/p384-sha256.pem")),
    ("ed25519", include_str!("../testdata/csr/ed25519.pem")),
    ("rsa2048", include_str!("../testdata/csr/rsa2048.pem")),
    ("rsa3072", include_str!("../testdata/csr/rsa3072-sha384.pem")),
    ("ca-true", include_str!("../testdata/csr/ca-true.pem")),
];

/// The command's output, if it succeeded.
fn openssl(args: &[&str]) -> Result<String, String> {
    let output = Command::new("openssl").args(args).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text.into_owned()) } else { Err(text.into_owned()) }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have readable names")
}

#[test]
fn openssl_verifies_strictly() {
    if openssl(&["version"]).is_err() {
        eprintln!("SKIPPED openssl_verifies_strictly: no openssl command");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let key = PrivateKey::generate().unwrap();
    let root = self_signed_root(&domain, &key, now).unwrap();
    let roots = TrustBundle::new(vec![root.clone()]).unwrap();
    let issuer = LocalIssuer::new(key, vec![root], &roots, now).unwrap();
    let root_file = dir.path().join("root.pem");
    fs::write(&root_file, roots.pem()).unwrap();
    let verify = |file: &Path, purpose: &str| {
        let root = text(&root_file);
        openssl(&["verify", "-x509_strict", "-purpose", purpose, "-CAfile", root, text(file)])
    };

    let identity = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/reviews").unwrap();
    let caller = Caller::new(identity, Proof::Operator);
    let grant = Authorizer::new(domain, Lifetimes::default()).authorize(&caller, 3600).unwrap();
    for (name, csr) in CSRS {
        let leaf = issuer.issue(&grant, &VerifiedCsr::from_pem(csr).unwrap(), now).unwrap();
        let file = dir.path().join(name);
        fs::write(&file, leaf.pem()).unwrap();
        for purpose in ["sslserver", "sslclient"] {
            verify(&file, purpose).unwrap_or_else(|error| panic!("{name} as {purpose}: {error}"));
        }
        let shown = openssl(&["x509", "-noout", "-text", "-in", text(&file)]).unwrap();
        assert!(!shown.contains("Unable to load Public Key"), "{name}: {shown}");
        assert!(shown.contains("URI:spiffe://cluster.local/ns/shop/sa/reviews"), "{name}: {shown}");
        assert!(shown.contains("CA:FALSE") && !shown.contains("CA:TRUE"), "{name}: {shown}");
        let of_csr = dir.path().join("csr");
        fs::write(&of_csr, csr).unwrap();
        let of_csr = openssl(&["req", "-noout", "-pubkey", "-in", text(&of_csr)]).unwrap();
        let of_leaf = openssl(&["x509", "-noout", "-pubkey", "-in", text(&file)]).unwrap();
        assert_eq!(of_csr, of_leaf, "{name}: the key is the request's");
    }

    let names =
        ["istiod.istio-system.svc", "localhost", "127.0.0.1", "::1"].map(|name| name.parse().unwrap());
    let public = PrivateKey::generate().unwrap().public().unwrap();
    let serving = issuer.issue_serving(&names, &public, Duration::from_secs(3600), now).unwrap();
    let file = dir.path().join("serving");
    fs::write(&file, serving.pem()).unwrap();
    verify(&file, "sslserver").unwrap();
    for check in [["-verify_hostname", "localhost"], ["-verify_ip", "::1"]] {
        let root = text(&root_file);
        openssl(&["verify", "-x509_strict", check[0], check[1], "-CAfile", root, text(&file)]).unwrap();
    }

    let private = dir.path().join("key.pem");
    fs::write(&private, PrivateKey::generate().unwrap().to_pem().as_bytes()).unwrap();
    openssl(&["pkey", "-noout", "-check", "-in", text(&private)]).unwrap();
    assert_eq!(pem::certificates(&roots.pem()).unwrap().len(), 1);
}
