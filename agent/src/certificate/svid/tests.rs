use super::*;
use crate::tests::ca::{IDENTITY, TestCa, identity};

const HOUR: Duration = Duration::from_secs(3600);

/// A key, its CSR and a CA.
fn request() -> (WorkloadKey, String, TestCa) {
    let key = WorkloadKey::generate().unwrap();
    let csr = key.signing_request(&identity(), &[]).unwrap();
    (key, csr, TestCa::new("root"))
}

fn accept(answer: &[String], key: &WorkloadKey) -> Result<Svid, AnswerError> {
    let expected = Expected { identity: &identity(), names: &[], any_trust_domain: false };
    Svid::accept(answer, key, &expected, SystemTime::now())
}

#[test]
fn a_good_answer_becomes_chain_key_and_bundle() {
    let (key, csr, ca) = request();
    let svid = accept(&ca.answer(&csr, HOUR), &key).unwrap();
    assert_eq!(svid.identity.as_str(), IDENTITY);
    assert_eq!(CertificateDer::pem_slice_iter(svid.chain_pem.as_bytes()).count(), 1, "the leaf without root");
    assert_eq!(svid.bundle_pem.trim(), ca.root_pem.trim());
    assert!(!svid.expired(svid.not_before) && svid.expired(svid.not_after));
    let (chain, _) = svid.client_identity().unwrap();
    assert_eq!(pem(&chain[0]), svid.chain_pem);
}

#[test]
fn several_roots_become_one_bundle_and_a_repeated_root_is_left_out_of_the_chain() {
    let (key, csr, ca) = request();
    let next = TestCa::new("next root");
    let leaf_and_root = ca.sign(&csr, &[IDENTITY], HOUR) + &ca.root_pem;
    let svid = accept(&[leaf_and_root, format!("{}{}", next.root_pem, ca.root_pem)], &key).unwrap();
    assert_eq!(CertificateDer::pem_slice_iter(svid.chain_pem.as_bytes()).count(), 1);
    assert_eq!(CertificateDer::pem_slice_iter(svid.bundle_pem.as_bytes()).count(), 2);
}

#[test]
fn wrong_answers_are_refused_with_what_is_wrong() {
    let (key, csr, ca) = request();
    let (_, foreign_csr, foreign_ca) = request();
    let now = SystemTime::now();
    let root = ca.root_pem.clone();
    let good = ca.sign(&csr, &[IDENTITY], HOUR);
    let other = "spiffe://cluster.local/ns/shop/sa/other";
    let cases: [(&str, Vec<String>); 12] = [
        ("0 elements", vec![]),
        ("1 elements", vec![good.clone() + &root]),
        ("element 0 is malformed", vec!["nonsense".into(), root.clone()]),
        ("element 1 is malformed", vec![good.clone(), String::new()]),
        ("another key", vec![ca.sign(&foreign_csr, &[IDENTITY], HOUR), root.clone()]),
        (
            "names [spiffe://cluster.local/ns/shop/sa/other]",
            vec![ca.sign(&csr, &[other], HOUR), root.clone()],
        ),
        ("names []", vec![ca.sign(&csr, &[], HOUR), root.clone()]),
        ("names [spiffe://", vec![ca.sign(&csr, &[IDENTITY, other], HOUR), root.clone()]),
        (
            "names [spiffe://other.domain",
            vec![ca.sign(&csr, &["spiffe://other.domain/ns/shop/sa/reviews"], HOUR), root.clone()],
        ),
        ("expired", vec![ca.sign_between(&csr, &[IDENTITY], now - HOUR, now), root.clone()]),
        ("does not lead to the roots", vec![good.clone(), foreign_ca.root_pem.clone()]),
        ("does not lead to the roots", vec![foreign_ca.sign(&csr, &[IDENTITY], HOUR), root]),
    ];
    for (text, answer) in cases {
        let error = accept(&answer, &key).unwrap_err().to_string();
        assert!(error.contains(text), "{text}: {error}");
    }
}

#[test]
fn the_trust_domain_is_the_cas_choice_unless_configured() {
    let (key, csr, ca) = request();
    let elsewhere = "spiffe://corp.example/ns/shop/sa/reviews";
    let answer = [ca.sign(&csr, &[elsewhere], HOUR), ca.root_pem.clone()];
    let expected = Expected { identity: &identity(), names: &[], any_trust_domain: true };
    let svid = Svid::accept(&answer, &key, &expected, SystemTime::now()).unwrap();
    assert_eq!(svid.identity.as_str(), elsewhere);
    assert!(accept(&answer, &key).is_err());
}

#[test]
fn the_key_is_not_shown() {
    let (key, csr, ca) = request();
    let svid = accept(&ca.answer(&csr, HOUR), &key).unwrap();
    assert!(svid.key_pem.contains("PRIVATE KEY"));
    assert!(!format!("{svid:?}").contains("PRIVATE"));
}
