//! The pipeline from end to end, and what must not get through it.

use std::time::Duration;

use eastwest_identity::{SpiffeId, TrustDomain};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use ring::{rand::SystemRandom, signature};
use rustls_pki_types::CertificateDer;
use time::{OffsetDateTime, macros::datetime};

use crate::{
    authn::peer::{self, PeerError},
    issuing::{chain, new_root::self_signed_root},
    trust::ca_chain::ChainProblem,
    x509::{
        self,
        csr::MAX_CSR_BYTES,
        pem,
        public_key::{KeyError, KeyKind},
    },
    *,
};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00:00.5 UTC);
const DAY: time::Duration = time::Duration::DAY;

macro_rules! csr {
    ($name:literal) => {
        ($name, include_str!(concat!("../testdata/csr/", $name, ".pem")))
    };
}

const GOOD: [(&str, &str); 10] = [
    csr!("p256"),
    csr!("p256-sha384"),
    csr!("p384"),
    csr!("p384-sha256"),
    csr!("ed25519"),
    csr!("rsa2048"),
    csr!("rsa3072-sha384"),
    csr!("rsa2048-sha512"),
    csr!("ca-true"),
    csr!("other-names"),
];

fn domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").unwrap()
}

struct Ca {
    roots: TrustBundle,
    issuer: LocalIssuer,
}

impl Ca {
    fn new() -> Self {
        Self::at(NOW)
    }

    fn at(now: OffsetDateTime) -> Self {
        let key = PrivateKey::generate().unwrap();
        let root = self_signed_root(&domain(), &key, now).unwrap();
        let roots = TrustBundle::new(vec![root.clone()]).unwrap();
        Self { issuer: LocalIssuer::new(key, vec![root], &roots, now).unwrap(), roots }
    }

    fn leaf(&self, id: &str, seconds: i64, csr: &str) -> IssuedCertificate {
        let csr = VerifiedCsr::from_pem(csr).unwrap();
        self.issuer.issue(&grant(id, seconds), &csr, NOW).unwrap()
    }

    fn identify(&self, chain: &[CertificateDer<'_>], now: OffsetDateTime) -> Result<Caller, PeerError> {
        peer::identify(chain, &self.roots, &domain(), now)
    }
}

fn grant(id: &str, seconds: i64) -> Grant {
    let identity = SpiffeId::parse(id).unwrap();
    let authorizer = Authorizer::new(identity.trust_domain(), Lifetimes::default());
    authorizer.authorize(&Caller::new(identity, Proof::Operator), seconds).unwrap()
}

const REVIEWS: &str = "spiffe://cluster.local/ns/shop/sa/reviews";

/// CA.md S20, S24 to S29 and A5 to A8: names and extensions asked for never matter.
#[test]
fn a_leaf_is_what_the_profile_says() {
    let ca = Ca::new();
    let mut serials = std::collections::BTreeSet::new();
    for (name, text) in GOOD {
        let csr = VerifiedCsr::from_pem(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let issued = ca.leaf(REVIEWS, 3600, text);
        let leaf = x509::parse(&issued.der).unwrap();
        assert_eq!(leaf.public_key().raw, csr.key().spki(), "{name}: the key is copied");
        assert_eq!(leaf.subject().iter().count(), 0);
        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(san.critical && san.value.general_names.len() == 1);
        assert_eq!(x509::uri_names(&leaf), Some(vec![REVIEWS]));
        let basic = leaf.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && !basic.value.ca);
        let usage = leaf.key_usage().unwrap().unwrap();
        let rsa = matches!(csr.key().kind(), KeyKind::Rsa(_));
        assert!(usage.critical && usage.value.digital_signature() && !usage.value.key_cert_sign());
        assert_eq!(usage.value.key_encipherment(), rsa, "{name}: key encipherment is for RSA alone");
        let eku = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(eku.server_auth && eku.client_auth && eku.other.is_empty());
        assert_eq!(issued.not_before, datetime!(2026-11-24 11:58:00 UTC));
        assert_eq!(issued.not_after, datetime!(2026-11-24 13:00:00 UTC));
        assert_eq!((x509::serial(&leaf), issued.serial.len()), (issued.serial.clone(), 32));
        let root = x509::parse(ca.roots.certificates().next().unwrap()).unwrap();
        assert!(leaf.verify_signature(Some(root.public_key())).is_ok());
        let caller = ca.identify(&[issued.der], NOW).unwrap();
        assert_eq!(caller.identity.as_str(), REVIEWS);
        assert!(serials.insert(issued.serial), "a serial number came twice");
    }
    let again = ca.leaf(REVIEWS, 3600, GOOD[0].1);
    assert!(serials.insert(again.serial), "renewal with the same key gets a new serial number");
}

/// What is known of a path holds from the judgement to the first end on it, and no longer.
#[test]
fn a_valid_path_holds_until_a_part_of_it_runs_out() {
    let ca = Ca::new();
    let leaf = ca.leaf(REVIEWS, 3600, GOOD[0].1);
    let path = peer::verify(std::slice::from_ref(&leaf.der), &ca.roots, NOW).unwrap();
    let second = time::Duration::SECOND;
    assert!(path.holds(NOW) && path.holds(leaf.not_after));
    assert!(!path.holds(NOW - second) && !path.holds(leaf.not_after + second));
    // Another root with less time left: the path may lead there.
    let soon = NOW - time::Duration::days(3650) + time::Duration::minutes(9);
    let both = ca.roots.clone().and(&Ca::at(soon).roots);
    let end =
        both.certificates().map(|der| x509::window(&x509::parse(der).unwrap()).not_after).min().unwrap();
    assert!(NOW < end && end < leaf.not_after, "{end}");
    let path = peer::verify(std::slice::from_ref(&leaf.der), &both, NOW).unwrap();
    assert!(path.holds(end) && !path.holds(end + second));
}

/// ztunnel renews in the middle between both ends; with two minutes before its birth, what lives for one is old at once.
#[test]
fn a_leaf_is_young_at_birth_however_short_its_life() {
    let ca = Ca::new();
    for (seconds, before) in [(10, 5), (61, 30), (239, 119), (240, 120), (241, 120), (86_400, 120)] {
        let leaf = ca.leaf(REVIEWS, seconds, GOOD[0].1);
        assert_eq!((leaf.not_after - leaf.not_before).whole_seconds(), seconds + before, "{seconds} s");
        let middle = leaf.not_before + (leaf.not_after - leaf.not_before) / 2;
        assert!(middle > NOW, "{seconds} s");
    }
}

/// CA.md A4 to A5a.
#[test]
fn keys_that_are_not_allowed() {
    use CsrError::{Key, SignatureAlgorithm};
    for ((name, text), error) in [
        (csr!("bad-rsa1024"), Key(KeyError::RsaBits(1024))),
        (csr!("bad-rsa2048-e3"), Key(KeyError::RsaNumbers)),
        (csr!("bad-rsa2048-sha1"), SignatureAlgorithm),
        (csr!("bad-rsa2048-pss"), SignatureAlgorithm),
        (csr!("bad-p521"), Key(KeyError::Kind)),
        (csr!("bad-p224"), Key(KeyError::Kind)),
        (csr!("bad-secp256k1"), Key(KeyError::Kind)),
        (csr!("bad-p256-sha1"), SignatureAlgorithm),
        (csr!("bad-p256-explicit"), Key(KeyError::Kind)),
        (csr!("bad-p256-compressed"), Key(KeyError::Kind)),
        (csr!("bad-ed448"), Key(KeyError::Kind)),
        (csr!("bad-dsa"), Key(KeyError::Kind)),
    ] {
        assert_eq!(VerifiedCsr::from_pem(text), Err(error), "{name}");
    }
    let text = VerifiedCsr::from_pem(csr!("bad-p521").1).unwrap_err().to_string();
    for allowed in ["P-256", "P-384", "Ed25519", "2048"] {
        assert!(text.contains(allowed), "the message lists what is allowed: {text}");
    }
}

/// DER element.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    #[allow(clippy::cast_possible_truncation)]
    let header = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [header, content.to_vec()].concat()
}

fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let numbers = [tlv(2, modulus), tlv(2, exponent)].concat();
    let key = [&[0][..], &tlv(0x30, &numbers)].concat();
    let rsa = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
    tlv(0x30, &[&rsa[..], &tlv(3, &key)].concat())
}

/// A request by a P-256 key with any version, key and attributes.
fn forge(version: u8, spki: Option<&[u8]>, attributes: &[u8]) -> Vec<u8> {
    let rng = SystemRandom::new();
    let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    let key = signature::EcdsaKeyPair::generate_pkcs8(algorithm, &rng).unwrap();
    let key = signature::EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &rng).unwrap();
    let prefix = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
        \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let own = [&prefix[..], signature::KeyPair::public_key(&key).as_ref()].concat();
    let info = [&[2, 1, version, 0x30, 0], spki.unwrap_or(&own), attributes].concat();
    let info = tlv(0x30, &info);
    let signature = key.sign(&rng, &info).unwrap();
    let signature = tlv(3, &[&[0], signature.as_ref()].concat());
    let sha256 = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    tlv(0x30, &[&info, &sha256[..], &signature].concat())
}

/// CA.md A1 to A3, A5a and A8a.
#[test]
fn forged_requests() {
    let check = |der: &[u8]| VerifiedCsr::from_der(der).map(|_| ());
    assert_eq!(check(&forge(0, None, b"\xa0\x00")), Ok(()));
    assert_eq!(check(&forge(0, None, b"")), Ok(()), "some libraries leave empty attributes out");
    assert_eq!(check(&forge(0, None, b"\xa0\x03abc")), Ok(()), "attributes are not looked at");
    assert_eq!(check(&forge(1, None, b"\xa0\x00")), Err(CsrError::Malformed));
    assert_eq!(check(&forge(0, None, b"\xa0\x00\xa0\x00")), Err(CsrError::Malformed));
    assert_eq!(check(b""), Err(CsrError::Malformed));

    let good = forge(0, None, b"\xa0\x00");
    assert_eq!(check(&[&good[..], b"\0"].concat()), Err(CsrError::Malformed), "trailing byte");
    for at in [good.len() - 1, good.len() / 2] {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        assert_eq!(check(&flipped), Err(CsrError::Signature), "flipped bit at {at}");
    }
    for cut in 0..good.len() {
        assert!(check(&good[..cut]).is_err(), "cut at {cut}");
    }

    let odd = |bytes: usize| [&[0x7f][..], &vec![0x55; bytes - 1]].concat();
    let key = |spki: &[u8]| check(&forge(0, Some(spki), b"\xa0\x00"));
    let f4 = [1, 0, 1];
    assert_eq!(key(&rsa_spki(&odd(257), &[1])), Err(CsrError::Key(KeyError::RsaNumbers)), "e = 1");
    assert_eq!(key(&rsa_spki(&odd(256), &f4)), Err(CsrError::Key(KeyError::RsaBits(2047))));
    assert_eq!(key(&rsa_spki(&odd(2049), &f4)), Err(CsrError::Key(KeyError::RsaBits(16391))));
    assert_eq!(key(&rsa_spki(&odd(257), &[1, 0, 2])), Err(CsrError::Key(KeyError::RsaNumbers)), "even e");
    let mut off_curve = forge(0, None, b"");
    let point = off_curve.windows(3).position(|w| w == [0x42, 0, 4]).unwrap() + 3;
    off_curve[point..point + 64].fill(7);
    assert_eq!(check(&off_curve), Err(CsrError::Signature), "a point off the curve verifies nothing");
}

/// CA.md A1 and A3.
#[test]
fn one_pem_block_of_bounded_size() {
    let good = GOOD[0].1;
    assert!(VerifiedCsr::from_pem(&good.replace("CERTIFICATE REQ", "NEW CERTIFICATE REQ")).is_ok());
    for bad in [
        "hello".to_owned(),
        good.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        format!("{good}{good}"),
        format!("{good}x"),
        format!("x{good}"),
    ] {
        assert!(matches!(VerifiedCsr::from_pem(&bad), Err(CsrError::Pem(_))), "{bad}");
    }
    let big = pem::encode("CERTIFICATE REQUEST", &vec![0x30; MAX_CSR_BYTES]);
    assert_eq!(VerifiedCsr::from_pem(&big), Err(CsrError::TooLarge(big.len())));
}

/// Any single damaged byte is refused or leaves the key and its proof intact; nothing panics.
#[test]
fn damaged_requests_never_panic() {
    let good = pem::decode_one(GOOD[0].1, &["CERTIFICATE REQUEST"]).unwrap();
    for at in 0..good.len() {
        for value in [0, 1, 0x30, 0x7f, 0x80, 0x82, 0xff] {
            let mut damaged = good.clone();
            damaged[at] = value;
            assert!(damaged == good || VerifiedCsr::from_der(&damaged).is_err(), "byte {at} = {value}");
        }
    }
}

/// Leaves end with the chain (CA.md C7), and none is made outside of its life.
#[test]
fn lifetimes_end_with_the_chain() {
    let ca = Ca::at(NOW - 3640 * DAY);
    let left = ca.leaf(REVIEWS, 90 * 24 * 3600, GOOD[0].1);
    assert_eq!(left.not_after, ca.issuer.not_after());
    let csr = VerifiedCsr::from_pem(GOOD[0].1).unwrap();
    for later in [NOW + 20 * DAY, NOW - 3700 * DAY] {
        let refused = ca.issuer.issue(&grant(REVIEWS, 0), &csr, later);
        assert!(matches!(refused, Err(IssueError::SignerExpired { .. })), "{refused:?}");
    }
}

/// CA.md S30.
#[test]
fn a_root_is_a_ca_and_backdated() {
    let ca = Ca::new();
    let root = x509::parse(ca.roots.certificates().next().unwrap()).unwrap();
    let basic = root.basic_constraints().unwrap().unwrap();
    let usage = root.key_usage().unwrap().unwrap();
    assert!(basic.critical && basic.value.ca && usage.critical);
    assert!(usage.value.key_cert_sign() && usage.value.crl_sign() && !usage.value.digital_signature());
    assert!(x509::window(&root).not_before < NOW - time::Duration::minutes(2));
    assert_eq!(root.subject().to_string(), "O=cluster.local");
    let long = TrustDomain::parse(&"a".repeat(255)).unwrap();
    assert!(self_signed_root(&long, &PrivateKey::generate().unwrap(), NOW).is_ok());
}

/// An intermediate between root and leaf, made by the test.
fn intermediate() -> (Ca, CertificateDer<'static>) {
    let (root_key, key) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let root = self_signed_root(&domain(), &root_key, NOW).unwrap();
    let above = rcgen::Issuer::from_ca_cert_der(&root, root_key).unwrap();
    let certificate: CertificateDer<'static> =
        ca_params("intermediate").signed_by(&key, &above).unwrap().into();
    let roots = TrustBundle::new(vec![root.clone()]).unwrap();
    // istio's own tool appends the root
    let issuer = LocalIssuer::new(key, vec![certificate.clone(), root], &roots, NOW).unwrap();
    (Ca { roots, issuer }, certificate)
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = NOW - DAY;
    params.not_after = NOW + DAY;
    params
}

#[test]
fn chain_order() {
    let ca = Ca::new();
    let leaf = ca.leaf(REVIEWS, 0, GOOD[0].1);
    assert_eq!(chain::elements(&leaf, &ca.issuer, &ca.roots), [leaf.pem(), ca.roots.pem()]);

    let (ca, certificate) = intermediate();
    let leaf = ca.leaf(REVIEWS, 90 * 24 * 3600, GOOD[0].1);
    assert_eq!(leaf.not_after, (NOW + DAY).replace_nanosecond(0).unwrap(), "cut at the intermediate");
    let elements = chain::elements(&leaf, &ca.issuer, &ca.roots);
    assert_eq!(elements, [leaf.pem(), pem::encode("CERTIFICATE", &certificate), ca.roots.pem()]);
    assert!(ca.identify(&[leaf.der.clone(), certificate], NOW).is_ok());
    assert!(matches!(ca.identify(&[leaf.der], NOW), Err(PeerError::Path(_))), "unknown intermediate");
}

#[test]
fn keys_and_chains_that_do_not_belong_together() {
    let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let root = self_signed_root(&domain(), &key, NOW).unwrap();
    let foreign = self_signed_root(&domain(), &other, NOW).unwrap();
    let roots = TrustBundle::new(vec![root.clone()]).unwrap();
    let load = |key: PrivateKey, chain: &[&CertificateDer<'static>], now| {
        let chain = chain.iter().map(|&der| der.clone()).collect();
        LocalIssuer::new(key, chain, &roots, now).err()
    };
    let again = |key: &PrivateKey| PrivateKey::from_pem(&key.to_pem()).unwrap();
    let problem = |key, chain: &[&CertificateDer<'static>], now| match load(key, chain, now) {
        Some(LoadError::Chain(error)) => error.problem().clone(),
        other => panic!("{other:?}"),
    };
    let mismatch = Some(LoadError::KeyMismatch("O=cluster.local".to_owned()));
    assert_eq!(load(again(&other), &[&root], NOW), mismatch);
    // A root of the same name whose key did not sign it.
    assert!(matches!(problem(other, &[&foreign], NOW), ChainProblem::Untrusted(_)));
    assert_eq!(problem(again(&key), &[], NOW), ChainProblem::NoCertificate);
    let half = CertificateDer::from(root[..100].to_vec());
    assert_eq!(problem(again(&key), &[&half], NOW), ChainProblem::Unreadable);
    assert!(matches!(problem(again(&key), &[&root], NOW + 4000 * DAY), ChainProblem::Expired(_)));
    assert!(matches!(problem(key, &[&root], NOW - DAY), ChainProblem::NotYet(_)));
    let leaf = Ca::new().leaf(REVIEWS, 0, GOOD[0].1);
    assert!(matches!(TrustBundle::new(vec![leaf.der]), Err(bundle::BundleError::NotACa(..))));
}

/// CA.md S21, S22, S32 to S36 and A22.
#[test]
fn client_certificates() {
    let root_key = PrivateKey::generate().unwrap();
    let root = self_signed_root(&domain(), &root_key, NOW).unwrap();
    let roots = TrustBundle::new(vec![root.clone()]).unwrap();
    let signer = rcgen::Issuer::from_ca_cert_der(&root, root_key).unwrap();
    let uri = |id: &str| SanType::URI(id.try_into().unwrap());
    let certify = |names: Vec<SanType>, change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (NOW - DAY, NOW + DAY);
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = PrivateKey::generate().unwrap();
        CertificateDer::from(params.signed_by(&key, &signer).unwrap())
    };
    let identify = |der: &CertificateDer<'_>, now| {
        peer::identify(std::slice::from_ref(der), &roots, &domain(), now)
            .map(|caller| caller.identity.to_string())
    };

    let good = certify(vec![uri(REVIEWS)], &|_| ());
    assert_eq!(identify(&good, NOW).as_deref(), Ok(REVIEWS));
    let with_dns = certify(vec![uri(REVIEWS), SanType::DnsName("a.b".try_into().unwrap())], &|_| ());
    assert_eq!(identify(&with_dns, NOW).as_deref(), Ok(REVIEWS));

    assert!(matches!(identify(&good, NOW + 2 * DAY), Err(PeerError::Path(_))), "expired");
    assert!(matches!(identify(&good, NOW - 2 * DAY), Err(PeerError::Path(_))), "not yet valid");
    assert!(matches!(identify(&root, NOW), Err(PeerError::Path(_))), "a CA is no client");
    let two = certify(vec![uri(REVIEWS), uri("spiffe://cluster.local/ns/a/sa/b")], &|_| ());
    assert_eq!(identify(&two, NOW), Err(PeerError::Names(2)));
    let none = certify(vec![SanType::DnsName("a.b".try_into().unwrap())], &|_| ());
    assert_eq!(identify(&none, NOW), Err(PeerError::Names(0)));
    let foreign = certify(vec![uri("spiffe://other/ns/shop/sa/reviews")], &|_| ());
    assert!(matches!(identify(&foreign, NOW), Err(PeerError::TrustDomain(_))));
    let web = certify(vec![uri("https://a/b")], &|_| ());
    assert!(matches!(identify(&web, NOW), Err(PeerError::Identity(_))));
    let signs = certify(vec![uri(REVIEWS)], &|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert_eq!(identify(&signs, NOW), Err(PeerError::Signs));
    let server = certify(vec![uri(REVIEWS)], &|p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(matches!(identify(&server, NOW), Err(PeerError::Path(_))), "not for clients");
    let ca = certify(vec![uri(REVIEWS)], &|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(matches!(identify(&ca, NOW), Err(PeerError::Path(_))), "a CA is no client");
    let stranger = Ca::new().leaf(REVIEWS, 0, GOOD[0].1).der;
    assert!(matches!(identify(&stranger, NOW), Err(PeerError::Path(_))), "another CA of the same name");
    assert_eq!(peer::identify(&[], &roots, &domain(), NOW), Err(PeerError::None));
    let many = vec![good; 11];
    assert_eq!(peer::identify(&many, &roots, &domain(), NOW), Err(PeerError::TooMany(11)));
}

/// An expired root verifies no leaf, even one that has not expired.
#[test]
fn an_expired_root_verifies_no_certificate() {
    let (root_key, leaf_key) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let params = ca_params("root");
    let root = CertificateDer::from(params.self_signed(&root_key).unwrap());
    let signer = rcgen::Issuer::new(params, root_key);
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (NOW - DAY, NOW + 9 * DAY);
    params.subject_alt_names = vec![SanType::URI(REVIEWS.try_into().unwrap())];
    let leaf = [CertificateDer::from(params.signed_by(&leaf_key, &signer).unwrap())];
    let roots = TrustBundle::new(vec![root]).unwrap();
    assert!(peer::identify(&leaf, &roots, &domain(), NOW).is_ok());
    assert!(matches!(peer::identify(&leaf, &roots, &domain(), NOW + 2 * DAY), Err(PeerError::Path(_))));
}

/// CA.md S35.
#[test]
fn no_ca_below_path_length_zero() {
    for (path_len, good) in [(1, true), (0, false)] {
        let keys = [(); 4].map(|()| PrivateKey::generate().unwrap());
        let [root_key, middle_key, sub_key, leaf_key] = keys;
        let root = self_signed_root(&domain(), &root_key, NOW).unwrap();
        let mut params = ca_params("middle");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
        let signer = rcgen::Issuer::from_ca_cert_der(&root, root_key).unwrap();
        let middle = params.signed_by(&middle_key, &signer).unwrap();
        let signer = rcgen::Issuer::new(params, middle_key);
        let sub = ca_params("sub").signed_by(&sub_key, &signer).unwrap();
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (NOW - DAY, NOW + DAY);
        params.subject_alt_names = vec![SanType::URI(REVIEWS.try_into().unwrap())];
        let leaf = params.signed_by(&leaf_key, &rcgen::Issuer::new(ca_params("sub"), sub_key)).unwrap();
        let roots = TrustBundle::new(vec![root]).unwrap();
        let caller = peer::identify(&[leaf.into(), sub.into(), middle.into()], &roots, &domain(), NOW);
        assert_eq!(caller.is_ok(), good, "pathLen {path_len}: {caller:?}");
    }
}

/// CA.md A7: our own serving certificate proves no identity.
#[test]
fn serving_certificates_carry_no_identity() {
    let ca = Ca::new();
    let key = PrivateKey::generate().unwrap().public().unwrap();
    let names = ["localhost".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let serving = ca.issuer.issue_serving(&names, &key, Duration::from_secs(60), NOW).unwrap();
    assert!(ca.identify(&[serving.der], NOW).is_err());
}
