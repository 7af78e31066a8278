//! OpenSSL reads and verifies, strictly, every kind of certificate that we issue (CA.md A5).
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test needs files and a clock, and fails where it cannot go on

use std::{fs, path::Path, process::Command, time::Duration};

use eastwest_ca::{
    Authorizer, Caller, Issuer as _, Lifetimes, LocalIssuer, Needs, NewKey, NewRoot, PluggedCa, PrivateKey,
    Proof, ServingNames, TrustBundle, VerifiedCsr, chain, new_root::self_signed_root, pem, plugged,
};
use eastwest_identity::{SpiffeId, TrustDomain};
use time::OffsetDateTime;
use zeroize::Zeroizing;

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

/// Runs openssl in a folder; its output, if it succeeded.
fn openssl_in(dir: &Path, line: &str) -> Result<String, String> {
    let output = Command::new("openssl").current_dir(dir).args(line.split(' ')).output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text.into_owned()) } else { Err(format!("openssl {line}: {text}")) }
}

/// A root and CAs below it as people make them, by openssl, all with keys of one kind.
fn plugged(dir: &Path, key: &str, intermediates: usize) {
    let extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
                      subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n";
    fs::write(dir.join("extensions"), extensions).unwrap();
    let run = |line: &str| openssl_in(dir, line).unwrap();
    run(&format!("genpkey {key} -out key-0.pem"));
    run("req -new -key key-0.pem -subj /O=example/CN=root -out csr-0.pem");
    run("x509 -req -in csr-0.pem -signkey key-0.pem -days 30 -extfile extensions -out cert-0.pem");
    for level in 1..=intermediates {
        let above = level - 1;
        run(&format!("genpkey {key} -out key-{level}.pem"));
        run(&format!(
            "req -new -key key-{level}.pem -subj /DC=com/DC=example/OU=a/OU=b/CN=level-{level} -out csr-{level}.pem"
        ));
        run(&format!(
            "x509 -req -in csr-{level}.pem -CA cert-{above}.pem -CAkey key-{above}.pem -CAcreateserial -days 20 -extfile \
             extensions -out cert-{level}.pem"
        ));
    }
    let read = |name: String| fs::read_to_string(dir.join(name)).unwrap();
    let chain: String = (0..=intermediates).rev().map(|level| read(format!("cert-{level}.pem"))).collect();
    fs::write(dir.join("ca-cert.pem"), read(format!("cert-{intermediates}.pem"))).unwrap();
    fs::write(dir.join("ca-key.pem"), read(format!("key-{intermediates}.pem"))).unwrap();
    fs::write(dir.join("cert-chain.pem"), chain).unwrap();
    fs::write(dir.join("root-cert.pem"), read("cert-0.pem".to_owned())).unwrap();
}

/// What the elements of an answer must be for istio's agent and for ztunnel, whatever the CA: one certificate in each
/// but the last, each signed by the one behind it, and strictly verified by OpenSSL with the last alone as trust.
fn verify_elements(dir: &Path, elements: &[String], intermediates: usize) {
    assert_eq!(elements.len(), intermediates + 2);
    for element in &elements[..=intermediates] {
        assert_eq!(
            pem::certificates(element).unwrap().len(),
            1,
            "one block an element: ztunnel reads the first alone"
        );
    }
    fs::write(dir.join("leaf"), &elements[0]).unwrap();
    fs::write(dir.join("above"), elements[1..=intermediates].concat()).unwrap();
    fs::write(dir.join("roots"), &elements[intermediates + 1]).unwrap();
    let above = if intermediates == 0 { "" } else { " -untrusted above" };
    for purpose in ["sslserver", "sslclient"] {
        openssl_in(dir, &format!("verify -x509_strict -purpose {purpose} -CAfile roots{above} leaf"))
            .unwrap();
    }
    for pair in elements[..=intermediates].windows(2) {
        fs::write(dir.join("one"), &pair[0]).unwrap();
        fs::write(dir.join("next"), &pair[1]).unwrap();
        openssl_in(dir, "verify -partial_chain -no_check_time -trusted next one").unwrap();
    }
}

#[test]
fn openssl_verifies_the_answers_of_every_kind_of_ca() {
    if openssl(&["version"]).is_err() {
        eprintln!("SKIPPED openssl_verifies_the_answers_of_every_kind_of_ca: no openssl command");
        return;
    }
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let identity = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/reviews").unwrap();
    let caller = Caller::new(identity, Proof::Operator);
    let grant = Authorizer::new(domain.clone(), Lifetimes::default()).authorize(&caller, 0).unwrap();
    let csr = VerifiedCsr::from_pem(CSRS[0].1).unwrap();
    let elements = |issuer: &LocalIssuer, roots: &TrustBundle| {
        let leaf = issuer.issue(&grant, &csr, OffsetDateTime::now_utc()).unwrap();
        chain::elements(&leaf, issuer, roots)
    };

    let rsa = tempfile::tempdir().unwrap();
    openssl_in(rsa.path(), "genrsa -traditional -out key 2048").unwrap();
    let imported = PrivateKey::from_pem(&fs::read_to_string(rsa.path().join("key")).unwrap()).unwrap();
    let own = [NewKey::P256, NewKey::P384].map(|kind| PrivateKey::generate_as(kind).unwrap());
    for key in own.into_iter().chain([imported]) {
        let (dir, now) = (tempfile::tempdir().unwrap(), OffsetDateTime::now_utc());
        let root = NewRoot::of(domain.clone()).sign(&key, now).unwrap();
        // While one root follows another, both are in the last element.
        let next = NewRoot { generation: 2, ..NewRoot::of(domain.clone()) };
        let next = next.sign(&PrivateKey::generate().unwrap(), now).unwrap();
        let roots = TrustBundle::new(vec![root.clone(), next]).unwrap();
        let issuer = LocalIssuer::new(key, vec![root], &roots, now).unwrap();
        verify_elements(dir.path(), &elements(&issuer, &roots), 0);
    }

    let kinds = [
        "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    ];
    for (kind, intermediates) in kinds.into_iter().flat_map(|kind| [(kind, 1), (kind, 2)]) {
        let dir = tempfile::tempdir().unwrap();
        plugged(dir.path(), kind, intermediates);
        let files = plugged::FILES.into_iter().filter_map(|name| {
            fs::read(dir.path().join(name)).ok().map(|content| (name, Zeroizing::new(content)))
        });
        let serving = ServingNames::Usual(vec!["localhost".parse().unwrap()]);
        let needs = Needs { trust_domain: TrustDomain::parse("cluster.local").unwrap(), serving };
        let ca = PluggedCa::load(&files.collect(), &needs, OffsetDateTime::now_utc())
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        verify_elements(dir.path(), &elements(&ca.issuer, &ca.roots), intermediates);
    }
}
