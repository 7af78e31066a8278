//! rcgen, told the same, writes the same bytes.

use std::net::IpAddr;

use eastwest_identity::SpiffeId;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType,
};
use time::macros::datetime;
use x509_parser::prelude::FromDer as _;

use super::*;
use crate::{NewKey, VerifiedCsr, issuing::profile, names::ServingName, x509};

const SERIALS: [[u8; 16]; 2] = [[0x4f; 16], [0xcf; 16]];
const UNTIL_2049: Window =
    Window { not_before: datetime!(2026-11-24 11:58:00 UTC), not_after: datetime!(2049-12-31 23:59:59 UTC) };
const UNTIL_2050: Window =
    Window { not_before: datetime!(2050-01-01 00:00:00 UTC), not_after: datetime!(9999-12-31 23:59:59 UTC) };

const CSRS: [&str; 4] = [
    include_str!("../../../testdata/csr/p256.pem"),
    include_str!("../../../testdata/csr/p384.pem"),
    include_str!("../../../testdata/csr/ed25519.pem"),
    include_str!("../../../testdata/csr/rsa2048.pem"),
];

fn ca(kind: NewKey) -> (PrivateKey, CertificateDer<'static>) {
    let key = PrivateKey::generate_as(kind).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "example");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![7; 8]);
    let root = params.self_signed(&key).unwrap().der().clone();
    (key, root)
}

/// A CA certificate without a subject key identifier: rcgen makes such a one if it is no CA.
fn without_key_id() -> (PrivateKey, CertificateDer<'static>) {
    let key = PrivateKey::generate().unwrap();
    let root = CertificateParams::default().self_signed(&key).unwrap().der().clone();
    (key, root)
}

/// What is signed.
fn tbs(certificate: &[u8]) -> Vec<u8> {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    assert_eq!(parsed.tbs_certificate.signature, parsed.signature_algorithm);
    parsed.tbs_certificate.as_ref().to_vec()
}

fn end_entity(serial: [u8; 16], window: Window) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial.to_vec().into());
    params.not_before = window.not_before;
    params.not_after = window.not_after;
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// The same certificate of all three profiles, from us and from rcgen.
fn profiles(key: KeyKind, serial: [u8; 16], window: Window) -> [(Contents, CertificateParams); 3] {
    let identity = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/reviews").unwrap();
    let mut leaf = end_entity(serial, window);
    leaf.subject_alt_names = vec![SanType::URI(identity.as_str().try_into().unwrap())];
    leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    if matches!(key, KeyKind::Rsa(_)) {
        leaf.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }

    let names = ["localhost", "127.0.0.1", "::1"].map(|name| name.parse::<ServingName>().unwrap());
    let mut serving = end_entity(serial, window);
    serving.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into().unwrap()),
        SanType::IpAddress(IpAddr::from([127, 0, 0, 1])),
        SanType::IpAddress("::1".parse().unwrap()),
    ];

    let mut ledger = end_entity(serial, window);
    ledger.distinguished_name.push(DnType::CommonName, "eastwest ledger");
    ledger.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 36])];
    [
        (profile::leaf(profile::leaf_names(&identity, &[]).unwrap(), key, serial, window), leaf),
        (profile::serving(&names, serial, window).unwrap(), serving),
        (profile::ledger(serial, window).unwrap(), ledger),
    ]
}

#[test]
fn rcgen_writes_the_same_bytes() {
    for (key, root) in [ca(NewKey::P256), ca(NewKey::P384), without_key_id()] {
        let kind = key.public().unwrap().kind();
        let copy = PrivateKey::from_pem(&key.to_pem()).unwrap();
        let signer = Signer::new(key, kind, &x509::parse(&root).unwrap()).unwrap();
        let rcgen = rcgen::Issuer::from_ca_cert_der(&root, copy).unwrap();
        for csr in CSRS {
            let csr = VerifiedCsr::from_pem(csr).unwrap();
            let public = rcgen::SubjectPublicKeyInfo::from_der(csr.key().spki()).unwrap();
            for (serial, window) in SERIALS.into_iter().zip([UNTIL_2049, UNTIL_2050]) {
                for (contents, params) in profiles(csr.key().kind(), serial, window) {
                    let ours = signer.sign(&contents, csr.key()).unwrap();
                    let theirs = params.signed_by(&public, &rcgen).unwrap();
                    assert_eq!(tbs(&ours), tbs(theirs.der()), "{}", csr.key().kind());
                }
            }
        }
    }
}
