//! By the certificate shown in the handshake: a workload renews with the one it has.

use std::sync::Arc;

use eastwest_ca::Caller;
use time::OffsetDateTime;

use super::{AuthnError, Evidence, Method, oidc::RulesFile};
use crate::trust::ca_state::Current;

/// Recognises the holders of our own certificates.
pub(super) struct ClientCertificates {
    current: Current,
    jobs: Option<Arc<RulesFile>>,
}

impl ClientCertificates {
    /// Judges by the roots and the trust domain that `current` has at that moment.
    pub(super) fn new(current: Current) -> Self {
        Self { current, jobs: None }
    }

    /// The same, but not for identities of jobs: with their certificates they could renew them beyond any bound.
    pub(super) fn without_jobs(self, jobs: Option<Arc<RulesFile>>) -> Self {
        Self { jobs, ..self }
    }
}

#[tonic::async_trait]
impl Method for ClientCertificates {
    async fn authenticate(&self, evidence: &Evidence<'_>, now: OffsetDateTime) -> Result<Caller, AuthnError> {
        let certificates = &evidence.connection.certificates;
        let ca_state = self.current.load();
        let caller = certificates.identify(&ca_state.roots, &ca_state.trust_domain, now)?;
        if self.jobs.as_ref().is_some_and(|jobs| jobs.may_grant(&caller.identity)) {
            return Err(AuthnError::JobCertificate(caller.identity));
        }
        Ok(caller)
    }
}
