//! A certificate authority with as few scruples as a test needs.

use std::time::{Duration, SystemTime};

use eastwest_identity::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate::{
    key::WorkloadKey,
    svid::{Expected, Svid},
};

/// The identity of the workload in tests.
pub(crate) const IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/reviews";

/// The identity of the workload in tests.
pub(crate) fn identity() -> SpiffeId {
    SpiffeId::parse(IDENTITY).unwrap()
}

/// A root that signs what it is given.
pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) root_pem: String,
}

impl TestCa {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let root_pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), root_pem }
    }

    /// A leaf for the key of `csr` that names `uris` and is valid for `life` from now.
    pub(crate) fn sign(&self, csr: &str, uris: &[&str], life: Duration) -> String {
        let now = SystemTime::now();
        self.sign_between(csr, uris, now - Duration::from_secs(120), now + life)
    }

    pub(crate) fn sign_between(&self, csr: &str, uris: &[&str], from: SystemTime, to: SystemTime) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        request.params = leaf(names.collect(), from, to);
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// What a good CA answers to `csr`.
    pub(crate) fn answer(&self, csr: &str, life: Duration) -> Vec<String> {
        vec![self.sign(csr, &[IDENTITY], life), self.root_pem.clone()]
    }

    /// A certificate and key for a server of these names.
    pub(crate) fn serving(&self, names: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let names = names.iter().map(|name| match name.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        });
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        let key = KeyPair::generate().unwrap();
        let certificate =
            leaf(names.collect(), now - hour, now + hour).signed_by(&key, &self.issuer).unwrap();
        (certificate.into(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    /// A certificate as the agent holds it, valid from `now` for `life`.
    pub(crate) fn svid(&self, now: SystemTime, life: Duration) -> Svid {
        let key = WorkloadKey::generate().unwrap();
        let csr = key.signing_request(&identity(), &[]).unwrap();
        let answer = [self.sign_between(&csr, &[IDENTITY], now, now + life), self.root_pem.clone()];
        let expected = Expected { identity: &identity(), names: &[], any_trust_domain: false };
        Svid::accept(&answer, &key, &expected, now).unwrap()
    }
}

fn leaf(names: Vec<SanType>, from: SystemTime, to: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    (params.not_before, params.not_after) = (from.into(), to.into());
    params.serial_number = Some(serial().into());
    params
}

/// Serial numbers count up, so each certificate is told from the one before.
fn serial() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
