//! What is plugged in and what is refused, each refusal with the name of the file.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, SanType};
use time::macros::datetime;

use super::*;
use crate::{NewKey, NewRoot, ServingNames, trust::ca_chain::ChainProblem};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00:00 UTC);
const DAY: time::Duration = time::Duration::DAY;

fn needs() -> Needs {
    let trust_domain = eastwest_identity::TrustDomain::parse("cluster.local").unwrap();
    let usual = ["istiod.istio-system.svc", "localhost", "127.0.0.1"].map(|name| name.parse().unwrap());
    Needs { trust_domain, serving: ServingNames::Usual(usual.to_vec()) }
}

fn load(files: &PluggedFiles) -> Result<PluggedCa, PluggedError> {
    PluggedCa::load(files, &needs(), NOW)
}

/// A CA certificate in the making, valid around [`NOW`].
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (NOW - DAY, NOW + DAY);
    params
}

/// A root, a CA below it and one below that, each changed by the test.
struct Chain {
    root: String,
    middle: String,
    low: String,
    key: PrivateKey,
}

fn chain(changes: [&dyn Fn(&mut CertificateParams); 3]) -> Chain {
    let [mut root, mut middle, mut low] = ["root", "middle", "low"].map(params);
    for (params, change) in [&mut root, &mut middle, &mut low].into_iter().zip(changes) {
        change(params);
    }
    let keys = [NewKey::P384, NewKey::P256, NewKey::P256].map(|kind| PrivateKey::generate_as(kind).unwrap());
    let [root_key, middle_key, key] = keys;
    let root_text = root.self_signed(&root_key).unwrap().pem();
    let root = rcgen::Issuer::new(root, root_key);
    let middle_text = middle.signed_by(&middle_key, &root).unwrap().pem();
    let middle = rcgen::Issuer::new(middle, middle_key);
    let low = low.signed_by(&key, &middle).unwrap().pem();
    Chain { root: root_text, middle: middle_text, low, key }
}

fn files(all: &[(&'static str, &str)]) -> PluggedFiles {
    all.iter().map(|(name, text)| (*name, Zeroizing::new(text.as_bytes().to_vec()))).collect()
}

impl Chain {
    fn usual() -> Self {
        chain([&|_| (), &|_| (), &|_| ()])
    }

    fn files(&self, cert_chain: &str) -> PluggedFiles {
        files(&[
            ("ca-cert.pem", &self.low),
            ("ca-key.pem", &self.key.to_pem()),
            ("cert-chain.pem", cert_chain),
            ("root-cert.pem", &self.root),
        ])
    }

    fn load(&self) -> Result<PluggedCa, PluggedError> {
        load(&self.files(&format!("{}{}", self.low, self.middle)))
    }

    fn refusal(&self) -> String {
        self.load().map(|_| ()).unwrap_err().to_string()
    }
}

fn pems(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|der| pem::encode(pem::CERTIFICATE, der)).collect()
}

#[test]
fn chains_are_read_as_people_write_them() {
    let Chain { root, middle, low, key } = &Chain::usual();
    let normal = |text: &str| pems(&pem::certificates(text).unwrap());
    let wire = normal(&format!("{low}{middle}"));
    for (case, cert_chain) in [
        ("from the signer up", format!("{low}{middle}")),
        ("with the root", format!("{low}{middle}{root}")),
        ("from above the signer", middle.clone()),
        ("from above the signer, with the root", format!("{middle}{root}")),
        ("from the root down", format!("{root}{middle}{low}")),
        ("in no order, with repetitions", format!("{middle}{low}{root}{middle}{root}")),
        ("with a certificate of others", format!("{}{middle}", Chain::usual().middle)),
    ] {
        let ca = load(&Chain::files(&Chain { key: again(key), ..copy(root, middle, low) }, &cert_chain));
        let ca = ca.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(pems(ca.issuer.intermediates()), wire, "{case}");
        assert_eq!(ca.roots.pem(), normal(root), "{case}");
        assert_eq!(ca.issuer.not_after(), NOW + DAY);
    }
    let tls = files(&[("tls.crt", &format!("{low}{middle}")), ("tls.key", &key.to_pem()), ("ca.crt", root)]);
    assert_eq!(pems(load(&tls).unwrap().issuer.intermediates()), wire);
}

fn again(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_pem(&key.to_pem()).unwrap()
}

fn copy(root: &str, middle: &str, low: &str) -> Chain {
    let key = PrivateKey::generate().unwrap();
    Chain { root: root.to_owned(), middle: middle.to_owned(), low: low.to_owned(), key }
}

#[test]
fn a_root_may_sign_itself() {
    let key = PrivateKey::generate().unwrap();
    let domain = eastwest_identity::TrustDomain::parse("td").unwrap();
    let root = pems(&[NewRoot::of(domain).sign(&key, NOW).unwrap()]);
    for cert_chain in ["", "\n", &root] {
        let all = files(&[
            ("ca-cert.pem", &root),
            ("ca-key.pem", &key.to_pem()),
            ("cert-chain.pem", cert_chain),
            ("root-cert.pem", &root),
        ]);
        assert!(load(&all).unwrap().issuer.intermediates().is_empty());
    }
}

#[test]
fn what_is_missing_is_named() {
    let usual = Chain::usual();
    let all = usual.files(&usual.middle);
    assert!(!all.is_empty() && PluggedFiles::default().is_empty());
    assert!(files(&[("ca-crl.pem", "x")]).is_empty(), "lists alone are no CA");
    for name in ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"] {
        let mut rest = all.clone();
        rest.0.remove(name);
        let refused = load(&rest).map(|_| ()).unwrap_err();
        assert!(matches!(&refused, PluggedError::Missing { missing, .. } if *missing == [name]), "{refused}");
        assert!(refused.to_string().starts_with(&format!("{name} is missing although")), "{refused}");
    }
    let one = files(&[("tls.key", "x")]);
    let refused = load(&one).map(|_| ()).unwrap_err().to_string();
    assert!(refused.starts_with("tls.crt, ca.crt are missing although tls.key is there"), "{refused}");
    let both = files(&[("tls.key", "x"), ("ca-key.pem", "x")]);
    assert!(matches!(load(&both), Err(PluggedError::Both(..))));
}

#[test]
fn what_is_wrong_is_named_by_its_file() {
    let usual = Chain::usual();
    for (name, text, said) in [
        ("ca-cert.pem", "nonsense", "ca-cert.pem: there is no readable CERTIFICATE block"),
        ("cert-chain.pem", "nonsense", "cert-chain.pem: there is no readable CERTIFICATE block"),
        ("root-cert.pem", "nonsense", "root-cert.pem: there is no readable CERTIFICATE block"),
        ("ca-key.pem", "nonsense", "ca-key.pem: not a private key in PEM"),
        (
            "ca-key.pem",
            &usual.low,
            "ca-key.pem: not a private key in PEM: there is no block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY, but CERTIFICATE",
        ),
        (
            "ca-cert.pem",
            &usual.key.to_pem(),
            "ca-cert.pem: there is no readable CERTIFICATE block, but PRIVATE KEY",
        ),
        (
            "ca-key.pem",
            &PrivateKey::generate().unwrap().to_pem(),
            "ca-key.pem: the private key does not belong to the signing certificate (CN=low)",
        ),
        (
            "cert-chain.pem",
            &usual.root,
            "ca-cert.pem: the certificate of CN=low is signed by CN=middle, of which there is no certificate",
        ),
        (
            "cert-chain.pem",
            &Chain::usual().middle,
            "ca-cert.pem: the certificate of CN=low names CN=middle as its signer, but the key in the certificate of that \
             name did not sign it",
        ),
        (
            "root-cert.pem",
            &Chain::usual().root,
            "cert-chain.pem: the certificate of CN=middle names CN=root as its signer, but the key in the certificate of",
        ),
    ] {
        let mut all = usual.files(&usual.middle);
        all.0.insert(name, Zeroizing::new(text.as_bytes().to_vec()));
        let refused = load(&all).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains(said), "{name}: {refused}");
    }
    for (content, said) in
        [(&[0xff, 0xfe, b'-', 0][..], "UTF-16"), (&[0x30, 0x82, 1, 2], "openssl x509 -inform DER")]
    {
        let mut all = usual.files(&usual.middle);
        all.0.insert("root-cert.pem", Zeroizing::new(content.to_vec()));
        let refused = load(&all).map(|_| ()).unwrap_err().to_string();
        assert!(refused.starts_with("root-cert.pem: ") && refused.contains(said), "{refused}");
    }
    // A root above that is no root of ours.
    let mut all = usual.files(&format!("{}{}", usual.middle, usual.root));
    all.0.insert("root-cert.pem", Zeroizing::new(Chain::usual().root.into_bytes()));
    let refused = load(&all).map(|_| ()).unwrap_err().to_string();
    assert!(
        refused.contains("CN=middle is signed by CN=root, which does not stand among the roots"),
        "{refused}"
    );
}

/// CA.md S31 and S35, and what else TLS clients would not accept.
#[test]
fn certificates_that_may_not_sign_for_us() {
    let uri = |id: &'static str| {
        move |p: &mut CertificateParams| p.subject_alt_names.push(SanType::URI(id.try_into().unwrap()))
    };
    let path_len = |n| move |p: &mut CertificateParams| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(n));
    let none = |_: &mut CertificateParams| ();
    let with_path = uri("spiffe://cluster.local/ca");
    for (at, changes) in [
        [&with_path as &dyn Fn(&mut _), &none, &none],
        [&none, &with_path, &none],
        [&none, &none, &with_path],
    ]
    .into_iter()
    .enumerate()
    {
        let said = chain(changes).refusal();
        assert!(said.contains("its SPIFFE ID has a path"), "{at}: {said}");
    }
    let domain = uri("spiffe://cluster.local");
    assert!(chain([&domain, &domain, &domain]).load().is_ok(), "its trust domain it may name");
    let two = |p: &mut CertificateParams| {
        domain(p);
        domain(p);
    };
    assert!(chain([&none, &none, &two]).refusal().contains("more than one SPIFFE ID"));

    assert!(chain([&path_len(2), &path_len(1), &path_len(0)]).load().is_ok());
    for (lengths, said) in [
        ([1, 1, 0], "root-cert.pem: the certificate of CN=root allows 1 CAs"),
        ([9, 0, 0], "cert-chain.pem: the certificate of CN=middle allows 0 CAs"),
    ] {
        let refused = chain([&path_len(lengths[0]), &path_len(lengths[1]), &path_len(lengths[2])]).refusal();
        assert!(refused.contains(said), "{refused}");
    }

    let no_ca = |p: &mut CertificateParams| p.is_ca = IsCa::ExplicitNoCa;
    assert!(
        chain([&none, &none, &no_ca])
            .refusal()
            .contains("CN=low is not that of a CA: its basic constraints say CA:FALSE")
    );
    let encrypts = |p: &mut CertificateParams| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    assert!(chain([&none, &encrypts, &none]).refusal().contains("its key usage lacks keyCertSign"));
    let silent = |p: &mut CertificateParams| p.key_usages = Vec::new();
    assert!(chain([&silent, &silent, &silent]).load().is_ok(), "without a key usage a key is for everything");
    let mail = |p: &mut CertificateParams| {
        p.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::EmailProtection];
    };
    assert!(chain([&none, &mail, &none]).refusal().contains("clients would refuse what this chain signs"));
    let expired = |p: &mut CertificateParams| p.not_after = NOW - time::Duration::HOUR;
    for changes in
        [[&expired as &dyn Fn(&mut _), &none, &none], [&none, &expired, &none], [&none, &none, &expired]]
    {
        let refused = chain(changes).load().map(|_| ()).unwrap_err();
        let is_expired = |e: &PluggedError| match e {
            PluggedError::Chain { source: LoadError::Chain(error), .. } => {
                matches!(error.problem(), ChainProblem::Expired(_))
            }
            _ => false,
        };
        assert!(is_expired(&refused) && refused.to_string().contains("2026-11-24T11:00:00Z"), "{refused}");
    }
}

#[test]
fn a_key_that_envoy_does_not_verify_is_refused() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let root = params("root").self_signed(&key).unwrap().pem();
    let all = files(&[
        ("ca-cert.pem", &root),
        ("ca-key.pem", &key.serialize_pem()),
        ("cert-chain.pem", ""),
        ("root-cert.pem", &root),
    ]);
    let refused = load(&all).map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("the CA key is Ed25519, which Envoy does not verify"), "{refused}");
}

#[test]
fn revocation_lists_do_not_touch_the_ca() {
    let usual = Chain::usual();
    let plain = usual.files(&usual.middle);
    let mut with_list = plain.clone();
    with_list.0.insert(REVOCATION_FILE, Zeroizing::new(b"nonsense".to_vec()));
    assert!(plain.same_ca(&with_list) && plain != with_list);
    let ca = load(&with_list).unwrap();
    let lists = |files| PluggedCa::revocations(&ca.issuer, &ca.roots, files, NOW);
    assert_eq!(lists(&with_list), Err(RevocationError::NoList));
    assert!(lists(&plain).unwrap().is_empty());
}
