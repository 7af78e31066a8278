//! CAs as people make them with OpenSSL: what is taken works everywhere, what is refused says why and what to do (CA.md C23
//! and C38).
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test needs files and a clock, and fails where it cannot go on

mod openssl_ca;

use eastwest_ca::{
    Authorizer, Caller, Issuer as _, Lifetimes, Needs, PluggedCa, PrivateKey, Proof, ServingName,
    ServingNames, VerifiedCsr, peer,
};
use eastwest_identity::{SpiffeId, TrustDomain};
use time::OffsetDateTime;

use crate::openssl_ca::{Pki, openssl};

const REVIEWS: &str = "spiffe://cluster.local/ns/shop/sa/reviews";

fn needs(serving: &ServingNames) -> Needs {
    Needs { trust_domain: TrustDomain::parse("cluster.local").unwrap(), serving: serving.clone() }
}

fn names(all: &[&str]) -> Vec<ServingName> {
    all.iter().map(|name| name.parse().unwrap()).collect()
}

fn usual() -> ServingNames {
    ServingNames::Usual(names(&[
        "istiod.istio-system.svc",
        "istiod.istio-system.svc.cluster.local",
        "localhost",
        "127.0.0.1",
    ]))
}

/// That what the CA signs verifies with OpenSSL, and with us: the leaf of a client, for renewal, and the serving
/// certificate.
fn works(case: &str, pki: &Pki, ca: &PluggedCa, serving: &ServingNames) {
    let now = OffsetDateTime::now_utc();
    let domain = TrustDomain::parse("cluster.local").unwrap();
    let caller = Caller::new(SpiffeId::parse(REVIEWS).unwrap(), Proof::Operator);
    let grant = Authorizer::new(domain.clone(), Lifetimes::default()).authorize(&caller, 3600).unwrap();
    let key = PrivateKey::generate().unwrap();
    let leaf = ca.issuer.issue(&grant, &VerifiedCsr::of(&key).unwrap(), now).unwrap();
    let chain: Vec<_> =
        std::iter::once(leaf.der.clone()).chain(ca.issuer.intermediates().iter().cloned()).collect();
    let renewed = peer::identify(&chain, &ca.roots, &domain, now);
    assert_eq!(renewed.unwrap_or_else(|error| panic!("{case}: {error}")).identity.as_str(), REVIEWS);
    pki.verify(&chain, "sslclient", None).unwrap_or_else(|error| panic!("{case}: the leaf: {error}"));

    let (allowed, _) = serving.allowed(&ca.issuer).unwrap();
    let public = key.public().unwrap();
    let served =
        ca.issuer.issue_serving(&allowed, &public, std::time::Duration::from_secs(3600), now).unwrap();
    let chain: Vec<_> =
        std::iter::once(served.der).chain(ca.issuer.intermediates().iter().cloned()).collect();
    for name in &allowed {
        let verified = pki.verify(&chain, "sslserver", Some(name));
        verified.unwrap_or_else(|error| panic!("{case}: the server as {name}: {error}"));
    }
}

/// The outcome of a CA: `Ok`, or what the refusal says.
type Outcome = Result<(), &'static [&'static str]>;

/// Name constraints in the root, in the intermediate, critical or not.
#[test]
fn name_constraints_are_honoured_or_the_ca_is_refused() {
    if openssl(&["version"]).is_err() {
        eprintln!("SKIPPED name_constraints_are_honoured_or_the_ca_is_refused: no openssl command");
        return;
    }
    let refused_uri: Outcome = Err(&[
        "ca-cert.pem: the name constraint",
        "spiffe://cluster.local",
        "permitted;URI:cluster.local or without",
    ]);
    let refused_dns: Outcome = Err(&["does not allow istiod.istio-system.svc", "--serving-name"]);
    let table: &[(&str, Outcome)] = &[
        ("permitted;URI:cluster.local", Ok(())),
        ("permitted;URI:.local", Ok(())),
        ("permitted;URI:corp.example", refused_uri),
        ("permitted;URI:.cluster.local", refused_uri),
        ("permitted;URI:corp.example, permitted;URI:cluster.local", Ok(())),
        ("excluded;URI:evil.example", Ok(())),
        ("excluded;URI:cluster.local", refused_uri),
        (
            "permitted;URI:spiffe://cluster.local",
            Err(&["cannot be read (permitted;URI:spiffe://cluster.local)", "a URI constraint is a host"]),
        ),
        ("permitted;DNS:.example.com", refused_dns),
        ("permitted;DNS:cluster.local", Ok(())),
        ("excluded;DNS:localhost", Ok(())),
        ("excluded;DNS:svc", Ok(())),
        ("permitted;IP:10.0.0.0/255.0.0.0", Ok(())),
        ("excluded;IP:0.0.0.0/0.0.0.0", Ok(())),
        ("permitted;email:.example.com", Ok(())),
        ("permitted;dirName:there", Err(&["constrains directory names (permitted;dirName:O=Example), and"])),
    ];
    for (constraint, outcome) in table {
        for critical in ["critical,", ""] {
            for at_root in [true, false] {
                let extension = format!("nameConstraints={critical}{constraint}");
                let pki = match at_root {
                    true => Pki::new(&[&extension], &[]),
                    false => Pki::new(&[], &[&extension]),
                };
                let case = format!("{extension} in the {}", if at_root { "root" } else { "intermediate" });
                let loaded = PluggedCa::load(&pki.files(), &needs(&usual()), OffsetDateTime::now_utc());
                match (loaded, outcome) {
                    (Ok(ca), Ok(())) => works(&case, &pki, &ca, &usual()),
                    (Err(error), Err(said)) => {
                        let error = error.to_string();
                        assert!(said.iter().all(|said| error.contains(said)), "{case}: {error}");
                    }
                    (Ok(_), Err(_)) => panic!("{case}: taken"),
                    (Err(error), Ok(())) => panic!("{case}: {error}"),
                }
            }
        }
    }
}

/// Names of the server that somebody asked for are certified, or the CA is refused; usual ones may be left out.
#[test]
fn chosen_names_must_be_allowed_and_usual_ones_may_be_left_out() {
    if openssl(&["version"]).is_err() {
        eprintln!("SKIPPED chosen_names_must_be_allowed_and_usual_ones_may_be_left_out: no openssl command");
        return;
    }
    let pki =
        Pki::new(&[], &["nameConstraints=critical,permitted;DNS:.example.com,excluded;IP:0.0.0.0/0.0.0.0"]);
    let load =
        |serving: &ServingNames| PluggedCa::load(&pki.files(), &needs(serving), OffsetDateTime::now_utc());
    let chosen = |all: &[&str]| ServingNames::Chosen(names(all));
    let good = chosen(&["mesh.example.com"]);
    works("mesh.example.com", &pki, &load(&good).unwrap(), &good);
    for bad in [&["mesh.example.com", "istiod.istio-system.svc"][..], &["mesh.example.com", "10.0.0.1"]] {
        let refused = load(&chosen(bad)).map(|_| ()).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("does not allow {}", bad[1])) && refused.contains("--serving-name"),
            "{refused}"
        );
    }
    let usual = ServingNames::Usual(names(&["istiod.example.com", "localhost", "127.0.0.1", "::1"]));
    let ca = load(&usual).unwrap();
    let (allowed, left_out) = usual.allowed(&ca.issuer).unwrap();
    assert_eq!((allowed, left_out.len()), (names(&["istiod.example.com", "::1"]), 2));
}

/// What else is in CA certificates, and how people's files look.
#[test]
fn keys_usages_and_signatures_of_cas() {
    if openssl(&["version"]).is_err() {
        eprintln!("SKIPPED keys_usages_and_signatures_of_cas: no openssl command");
        return;
    }
    let load = |pki: &Pki| PluggedCa::load(&pki.files(), &needs(&usual()), OffsetDateTime::now_utc());
    let silent = Pki::with(&["-no-usage"], &["-no-usage"]);
    works("no key usage", &silent, &load(&silent).unwrap(), &usual());
    for (root, intermediate, said) in [
        (
            &[][..],
            &["keyUsage=critical,digitalSignature"][..],
            "ca-cert.pem: the certificate of CN=Mesh CA is not that of a CA: its key usage lacks keyCertSign",
        ),
        (
            &["keyUsage=critical,cRLSign"],
            &[],
            "root-cert.pem: trust bundle: the certificate of CN=Root is not that of a CA: its key usage lacks keyCertSign",
        ),
        (
            &[],
            &["basicConstraints=critical,CA:FALSE"],
            "ca-cert.pem: the certificate of CN=Mesh CA is not that of a CA: its basic constraints say CA:FALSE",
        ),
        (
            &["basicConstraints=critical,CA:TRUE,pathlen:0"],
            &[],
            "root-cert.pem: the certificate of CN=Root allows 0 CAs between itself and a leaf (path length), and there are 1",
        ),
        (
            &[],
            &["extendedKeyUsage=emailProtection"],
            "a CA certificate has an extended key usage without serverAuth and clientAuth",
        ),
        (&[], &["1.2.3.4=critical,ASN1:NULL"], "a critical extension that TLS clients do not know"),
        (
            &[],
            &["-sha1"],
            "ca-cert.pem: the certificate of CN=Mesh CA is signed with ecdsa-with-SHA1, which TLS clients do not accept",
        ),
        (
            &["-rsa", "2048"],
            &["-sha1"],
            "is signed with sha1WithRSAEncryption, which TLS clients do not accept: have it signed again with SHA-256",
        ),
        (
            &["-rsa", "1024"],
            &[],
            "root-cert.pem: the certificate of CN=Root has a key that TLS clients do not accept: an RSA key of 1024 bits",
        ),
        (&[], &["-expired"], "ca-cert.pem: the certificate of CN=Mesh CA has run out at "),
        (&[], &["-future"], "ca-cert.pem: the certificate of CN=Mesh CA is not valid before "),
    ] {
        let refused = load(&Pki::with(root, intermediate)).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains(said), "{root:?} {intermediate:?}: {refused}\nexpected {said}");
    }
}
