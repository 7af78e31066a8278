//! The order of the certificates in an answer (CA.md C8).

use crate::{
    issuing::issuer::{IssuedCertificate, Issuer},
    trust::bundle::TrustBundle,
    x509::pem,
};

/// The elements of an answer: the leaf; each intermediate on its own, since ztunnel reads one block of each; and
/// all roots in the last element, which becomes the trust bundle of istio's agent and of ztunnel.
pub fn elements(leaf: &IssuedCertificate, issuer: &dyn Issuer, roots: &TrustBundle) -> Vec<String> {
    let intermediates = issuer.intermediates().iter().map(|der| pem::encode(pem::CERTIFICATE, der));
    std::iter::once(leaf.pem()).chain(intermediates).chain(std::iter::once(roots.pem())).collect()
}
