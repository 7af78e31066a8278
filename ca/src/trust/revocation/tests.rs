//! Lists are accepted or refused, and a revoked certificate proves no identity.

use eastwest_identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, KeyIdMethod, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use time::macros::datetime;

use super::*;
use crate::{
    Authorizer, Caller, IssuedCertificate, Issuer as _, Lifetimes, LocalIssuer, NewRoot, PrivateKey, Proof,
    TrustBundle, VerifiedCsr, authn::peer, x509::pem,
};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00:00 UTC);
const DAY: time::Duration = time::Duration::DAY;

/// A CA whose key the test keeps.
struct Ca {
    certificate: CertificateDer<'static>,
    key: rcgen::Issuer<'static, PrivateKey>,
    issuer: LocalIssuer,
    roots: TrustBundle,
}

fn domain() -> TrustDomain {
    TrustDomain::parse("cluster.local").unwrap()
}

fn ca() -> Ca {
    let key = PrivateKey::generate().unwrap();
    let root = NewRoot::of(domain()).sign(&key, NOW).unwrap();
    let roots = TrustBundle::new(vec![root.clone()]).unwrap();
    let twin = PrivateKey::from_pem(&key.to_pem()).unwrap();
    let issuer = LocalIssuer::new(twin, vec![root.clone()], &roots, NOW).unwrap();
    Ca { key: rcgen::Issuer::from_ca_cert_der(&root, key).unwrap(), certificate: root, issuer, roots }
}

fn leaf(issuer: &LocalIssuer) -> IssuedCertificate {
    let identity = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/reviews").unwrap();
    let caller = Caller::new(identity, Proof::Operator);
    let grant = Authorizer::new(domain(), Lifetimes::default()).authorize(&caller, 3600).unwrap();
    issuer.issue(&grant, &VerifiedCsr::of(&PrivateKey::generate().unwrap()).unwrap(), NOW).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A list of these serial numbers, changed by the test.
fn list(ca: &Ca, serials: &[&str], change: impl Fn(&mut CertificateRevocationListParams)) -> String {
    let revoked = |serial: &&str| RevokedCertParams {
        serial_number: SerialNumber::from(bytes(serial)),
        revocation_time: NOW - DAY,
        reason_code: None,
        invalidity_date: None,
    };
    let mut params = CertificateRevocationListParams {
        this_update: NOW - DAY,
        next_update: NOW + DAY,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    change(&mut params);
    params.signed_by(&ca.key).unwrap().pem().unwrap()
}

fn read(ca: &Ca, text: &str) -> Result<Revocations, RevocationError> {
    Revocations::from_pem(text, ca.roots.certificates(), NOW)
}

fn identify(roots: &TrustBundle, chain: &[&CertificateDer<'static>]) -> bool {
    let chain: Vec<_> = chain.iter().copied().cloned().collect();
    peer::identify(&chain, roots, &domain(), NOW).is_ok()
}

#[test]
fn a_revoked_leaf_is_refused_and_other_leaves_stay_valid() {
    let ca = ca();
    // Serial numbers with and without a sign byte.
    for _ in 0..8 {
        let (revoked, other) = (leaf(&ca.issuer), leaf(&ca.issuer));
        let revocations = read(&ca, &list(&ca, &[&revoked.serial], |_| ())).unwrap();
        assert_eq!((revocations.len(), revocations.lists()), (1, 1));
        let kept = Revocations::from_own_pem(revocations.pem(), NOW);
        assert_eq!(kept.as_ref(), Ok(&revocations), "it holds whom it needs to be judged again");
        let roots = ca.roots.clone().with_revocations(revocations.into());
        assert!(identify(&ca.roots, &[&revoked.der]));
        assert!(!identify(&roots, &[&revoked.der]));
        assert!(identify(&roots, &[&other.der]));
    }
}

/// A serial number is its issuer's: lists of one root say nothing about leaves of another, even of the same name.
#[test]
fn a_list_counts_for_the_certificates_of_its_signer() {
    let (one, two) = (ca(), ca());
    let leaf = leaf(&one.issuer);
    let roots = one.roots.clone().and(&two.roots);
    let lists = |ca: &Ca| {
        let list = list(ca, &[&leaf.serial], |_| ());
        roots
            .clone()
            .with_revocations(Revocations::from_pem(&list, roots.certificates(), NOW).unwrap().into())
    };
    assert!(identify(&lists(&two), &[&leaf.der]));
    assert!(!identify(&lists(&one), &[&leaf.der]));
}

#[test]
fn a_revoked_intermediate_takes_its_leaves_along() {
    let ca = ca();
    let key = PrivateKey::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (NOW - DAY, NOW + DAY);
    params.serial_number = Some(SerialNumber::from(bytes("c0ffee")));
    let middle: CertificateDer<'static> = params.signed_by(&key, &ca.key).unwrap().into();
    let issuer = LocalIssuer::new(key, vec![middle.clone()], &ca.roots, NOW).unwrap();
    let (leaf, middle) = (leaf(&issuer).der, middle);
    let chain = [&leaf, &middle];
    let revocations = read(&ca, &list(&ca, &["c0ffee"], |_| ())).unwrap();
    assert!(identify(&ca.roots, &chain));
    assert!(!identify(&ca.roots.clone().with_revocations(revocations.into()), &chain));
}

#[test]
fn lists_that_are_refused() {
    let ca = ca();
    let good = list(&ca, &["01", "02"], |_| ());
    assert_eq!(read(&ca, &format!("{good}{good}")).map(|lists| lists.len()), Ok(4));
    assert_eq!(read(&ca, "nonsense"), Err(RevocationError::NoList));
    assert_eq!(read(&ca, ""), Err(RevocationError::NoList));
    assert_eq!(
        read(&ca, &pem::encode(pem::REVOCATION_LIST, b"\x30\x00")),
        Err(RevocationError::Unreadable(1))
    );
    let stranger = list(&super::tests::ca(), &["01"], |_| ());
    assert_eq!(read(&ca, &format!("{good}{stranger}")), Err(RevocationError::Unsigned(2)));
    let future = list(&ca, &["01"], |p| p.this_update = NOW + DAY / 2);
    assert_eq!(read(&ca, &future), Err(RevocationError::NotYet(1, NOW + DAY / 2)));
    let partial = list(&ca, &["01"], |p| {
        p.issuing_distribution_point = Some(rcgen::CrlIssuingDistributionPoint {
            distribution_point: rcgen::CrlDistributionPoint { uris: vec!["http://a/b".into()] },
            scope: None,
        });
    });
    assert_eq!(read(&ca, &partial), Err(RevocationError::Partial(1)));
    let mut flipped = pem::decode_one(&good, &[pem::REVOCATION_LIST]).unwrap();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    assert!(read(&ca, &pem::encode(pem::REVOCATION_LIST, &flipped)).is_err());
}

#[test]
fn an_overdue_list_counts_and_says_so() {
    let ca = ca();
    let overdue = read(&ca, &list(&ca, &["01"], |p| p.next_update = NOW - DAY / 2)).unwrap();
    assert_eq!(overdue.overdue_since(NOW), Some(NOW - DAY / 2));
    assert_eq!(read(&ca, &list(&ca, &["01"], |_| ())).unwrap().overdue_since(NOW), None);
    assert_eq!((overdue.len(), ca.certificate == *ca.issuer.root()), (1, true));
}
