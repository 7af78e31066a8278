//! By the certificate shown in the handshake: a workload renews with the one it has.

use eastwest_ca::{Caller, peer};
use time::OffsetDateTime;

use super::{Authenticator, AuthnError, Credentials};
use crate::snapshot::Current;

/// Recognises the holders of our own certificates.
pub struct ClientCertificates {
    current: Current,
}

impl ClientCertificates {
    /// Judges by the roots and the trust domain that `current` has at that moment.
    pub(crate) fn new(current: Current) -> Self {
        Self { current }
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
        let snapshot = self.current.load();
        Ok(peer::identify(certificates, &snapshot.roots, &snapshot.trust_domain, now)?)
    }
}
