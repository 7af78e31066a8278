//! Nothing is weaker below a constraint of URIs: a path is verified there exactly when webpki verifies the same path without
//! the constraint, and the names are allowed.

use std::sync::Arc;

use der::{Encode as _, asn1::Ia5String};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime, macros::datetime};
use x509_cert::ext::pkix::{constraints::name::GeneralSubtree, name::GeneralName};

use crate::{Revocations, TrustBundle, x509::pem};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00:00 UTC);
const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/reviews";

/// The certificates of a path in the making: root, upper CA, lower CA, leaf.
type Params = [CertificateParams; 4];

fn params() -> Params {
    let mut all = ["root", "upper", "lower", ""].map(|name| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (NOW - Duration::DAY, NOW + Duration::DAY);
        params
    });
    all[3].is_ca = IsCa::ExplicitNoCa;
    all[3].key_usages = vec![KeyUsagePurpose::DigitalSignature];
    all[3].serial_number = Some(SerialNumber::from(7_u64));
    all[3].extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    all[3].subject_alt_names = vec![SanType::URI(IDENTITY.try_into().unwrap())];
    all
}

/// `permitted;URI:HOST` or `excluded;URI:HOST` as an extension.
fn constraint(text: &str) -> CustomExtension {
    let (word, host) = text.split_once(";URI:").unwrap();
    let base = GeneralName::UniformResourceIdentifier(Ia5String::new(host).unwrap());
    let subtrees = Some(vec![GeneralSubtree { base, minimum: 0, maximum: None }]);
    let (permitted_subtrees, excluded_subtrees) =
        if word == "permitted" { (subtrees, None) } else { (None, subtrees) };
    let value = x509_cert::ext::pkix::NameConstraints { permitted_subtrees, excluded_subtrees };
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], value.to_der().unwrap());
    extension.set_criticality(true);
    extension
}

/// A path: what peers trust, and what a peer shows, leaf first.
struct Path {
    roots: TrustBundle,
    shown: Vec<CertificateDer<'static>>,
    lower: rcgen::Issuer<'static, KeyPair>,
}

fn path([root, upper, lower, leaf]: Params) -> Path {
    let [root_key, upper_key, lower_key, key] = [(); 4].map(|()| KeyPair::generate().unwrap());
    let root_der = root.self_signed(&root_key).unwrap().der().clone();
    let root = rcgen::Issuer::new(root, root_key);
    let upper_der = upper.signed_by(&upper_key, &root).unwrap().der().clone();
    let upper = rcgen::Issuer::new(upper, upper_key);
    let lower_der = lower.signed_by(&lower_key, &upper).unwrap().der().clone();
    let lower = rcgen::Issuer::new(lower, lower_key);
    let leaf = leaf.signed_by(&key, &lower).unwrap().der().clone();
    let roots = TrustBundle::new(vec![root_der]).unwrap();
    Path { roots, shown: vec![leaf, lower_der, upper_der], lower }
}

impl Path {
    fn client(&self) -> Result<(), webpki::Error> {
        self.roots.verify_client(&self.shown[0], &self.shown[1..], NOW)
    }

    fn server(&self) -> Result<(), webpki::Error> {
        self.roots.verify_server(&self.shown[0], &self.shown[1..], NOW)
    }
}

type Change = fn(&mut Params);

/// What may be wrong with a path, and what is right; `root` first.
const CHANGES: [(&str, Change); 17] = [
    ("nothing", |_| ()),
    ("an expired leaf", |all| all[3].not_after = NOW - Duration::HOUR),
    ("a leaf of the future", |all| all[3].not_before = NOW + Duration::HOUR),
    ("an expired CA", |all| all[2].not_after = NOW - Duration::HOUR),
    ("an expired CA above", |all| all[1].not_after = NOW - Duration::HOUR),
    ("an expired root", |all| all[0].not_after = NOW - Duration::HOUR),
    ("a leaf for servers alone", |all| {
        all[3].extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]
    }),
    ("a leaf for clients alone", |all| {
        all[3].extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
    }),
    ("a CA for mail alone", |all| {
        all[2].extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection]
    }),
    ("a CA for clients alone", |all| all[1].extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ("a CA that is none", |all| all[2].is_ca = IsCa::ExplicitNoCa),
    ("a CA that may not sign", |all| all[2].key_usages = vec![KeyUsagePurpose::DigitalSignature]),
    ("a CA without key usages", |all| all[2].key_usages = Vec::new()),
    ("a path length that suffices", |all| all[1].is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
    ("a path length that does not", |all| all[1].is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
    ("a leaf that is a CA", |all| all[3].is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
    ("an unknown critical extension", |all| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        all[2].custom_extensions.push(unknown);
    }),
];

/// CA.md C38.
#[test]
fn paths_below_constraints_are_verified_in_everything() {
    for (case, change) in CHANGES {
        let mut plain = params();
        change(&mut plain);
        let by_webpki = path(plain);
        for at in 0..3 {
            for given in ["permitted;URI:cluster.local", "excluded;URI:evil.example"] {
                let mut constrained = params();
                constrained[at].custom_extensions.push(constraint(given));
                change(&mut constrained);
                let path = path(constrained);
                let said = format!("{case}, {given} at {at}");
                assert_eq!(path.client().is_ok(), by_webpki.client().is_ok(), "{said}: {:?}", path.client());
                assert_eq!(path.server().is_ok(), by_webpki.server().is_ok(), "{said}: {:?}", path.server());
            }
            for given in ["permitted;URI:corp.example", "excluded;URI:cluster.local"] {
                let mut constrained = params();
                constrained[at].custom_extensions.push(constraint(given));
                change(&mut constrained);
                let refused = path(constrained);
                assert!(refused.client().is_err() && refused.server().is_err(), "{case}, {given} at {at}");
            }
        }
    }
    let sound = CHANGES.iter().filter(|(_, change)| {
        let mut all = params();
        change(&mut all);
        path(all).client().is_ok()
    });
    assert_eq!(sound.count(), 5, "some of them are right, too");
}

/// What a peer shows may be in any order, with more than is needed; what is missing or of others is refused.
#[test]
fn what_is_shown_may_be_in_any_order_but_must_lead_to_a_root() {
    let constrained = || {
        let mut all = params();
        all[0].custom_extensions.push(constraint("permitted;URI:cluster.local"));
        path(all)
    };
    let (good, other) = (constrained(), constrained());
    let shown = |all: &[&CertificateDer<'static>]| {
        let all: Vec<_> = all.iter().map(|&one| one.clone()).collect();
        good.roots.verify_client(&all[0], &all[1..], NOW).is_ok()
    };
    let (root, [leaf, lower, upper]) =
        (good.roots.certificates().next().unwrap(), [0, 1, 2].map(|at| &good.shown[at]));
    assert!(
        shown(&[leaf, lower, upper]) && shown(&[leaf, upper, lower]) && shown(&[leaf, lower, upper, root])
    );
    assert!(
        shown(&[leaf, &other.shown[1], lower, &other.shown[2], upper]),
        "those of others are passed over"
    );
    assert!(!shown(&[leaf, lower]) && !shown(&[leaf, upper]) && !shown(&[leaf]));
    assert!(!shown(&[&other.shown[0], &other.shown[1], &other.shown[2]]), "another root of the same name");
    assert!(!shown(&[&other.shown[0], lower, upper]), "another signer of the same name");
}

#[test]
fn what_is_revoked_is_refused_there_too() {
    let mut all = params();
    all[1].custom_extensions.push(constraint("permitted;URI:cluster.local"));
    let path = path(all);
    let list = |serial: u64| {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: NOW - Duration::HOUR,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: NOW - Duration::HOUR,
            next_update: NOW + Duration::HOUR,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = pem::encode(pem::REVOCATION_LIST, list.signed_by(&path.lower).unwrap().der());
        let lists = Revocations::from_pem(&list, &path.shown[1..], NOW).unwrap();
        let roots = path.roots.clone().with_revocations(Arc::new(lists));
        roots.verify_client(&path.shown[0], &path.shown[1..], NOW)
    };
    assert_eq!(list(7), Err(webpki::Error::CertRevoked));
    assert_eq!(list(8), Ok(()));
}
