//! The workload's private key and the certificate signing request (CSR) for it.

use std::fmt;

use eastwest_ca::ServingName;
use eastwest_identity::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType};
use zeroize::Zeroizing;

/// A P-256 key pair in memory.
pub(crate) struct WorkloadKey(KeyPair);

impl WorkloadKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self)
    }

    /// The CSR for `identity`, in PEM: empty subject and one subjectAltName with the SPIFFE ID and then `names`, which is
    /// critical because the subject is empty (RFC 5280 section 4.2.1.6), as in requests of ztunnel (CA.md C31).
    pub(crate) fn signing_request(
        &self,
        identity: &SpiffeId,
        names: &[ServingName],
    ) -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.as_str().try_into()?)];
        for name in names {
            params.subject_alt_names.push(match name {
                ServingName::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
                ServingName::Ip(address) => SanType::IpAddress(*address),
            });
        }
        params.serialize_request(&self.0)?.pem()
    }

    /// The private key as PKCS #8 in PEM.
    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// The SubjectPublicKeyInfo in DER.
    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

impl fmt::Debug for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkloadKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use eastwest_identity::TrustDomain;
    use x509_parser::{
        certification_request::X509CertificationRequest,
        extensions::{GeneralName, ParsedExtension},
        pem::parse_x509_pem,
        prelude::FromDer,
    };

    use super::*;

    fn identity(service_account: &str) -> SpiffeId {
        SpiffeId::workload(&TrustDomain::parse("cluster.local").unwrap(), "shop", service_account).unwrap()
    }

    #[test]
    fn the_request_names_the_identity_critically_and_nothing_else() {
        let long = ["a"; 120].join(".");
        for identity in [identity("reviews"), identity(&long)] {
            let key = WorkloadKey::generate().unwrap();
            let pem = key.signing_request(&identity, &[]).unwrap();
            let (_, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
            let (_, request) = X509CertificationRequest::from_der(&pem.contents).unwrap();
            request.verify_signature().unwrap();
            let info = &request.certification_request_info;
            assert_eq!(info.subject.iter().count(), 0);
            assert_eq!(info.subject_pki.raw, key.public_key());
            let extensions: Vec<_> = request.requested_extensions().unwrap().collect();
            let [ParsedExtension::SubjectAlternativeName(san)] = extensions[..] else {
                panic!("{extensions:?}")
            };
            assert_eq!(san.general_names, [GeneralName::URI(identity.as_str())]);
            // SEQUENCE { OID, TRUE, … }: the flag directly follows the identifier.
            let critical = [0x06, 0x03, 0x55, 0x1d, 0x11, 0x01, 0x01, 0xff];
            assert!(pem.contents.windows(critical.len()).any(|bytes| bytes == critical));
        }
    }

    #[test]
    fn every_key_is_new_and_never_shown() {
        let (one, other) = (WorkloadKey::generate().unwrap(), WorkloadKey::generate().unwrap());
        assert_ne!(one.public_key(), other.public_key());
        assert_eq!(format!("{one:?}"), "WorkloadKey(..)");
    }
}
