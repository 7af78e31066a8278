//! By the certificate shown in the handshake: a workload renews with the one it has.

use std::sync::Arc;

use eastwest_ca::{Caller, peer};
use time::OffsetDateTime;

use super::{Authenticator, AuthnError, Credentials};
use crate::authority::CertificateAuthority;

/// Recognises the holders of our own certificates.
pub struct ClientCertificates {
    ca: Arc<CertificateAuthority>,
}

impl ClientCertificates {
    /// Judges by the roots and the trust domain that `ca` has at that moment.
    pub fn new(ca: Arc<CertificateAuthority>) -> Self {
        Self { ca }
    }
}

#[tonic::async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: OffsetDateTime,
    ) -> Result<Caller, AuthnError> {
        let certificates = &credentials.encrypted()?.certificates;
        let snapshot = self.ca.snapshot();
        Ok(peer::identify(certificates, &snapshot.roots, &snapshot.trust_domain, now)?)
    }
}
