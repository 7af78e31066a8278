//! The state that responses are made of: the certificate held and the bundles that the control plane publishes.

use std::sync::Arc;

use eastwest_identity::TrustDomain;
use rustls_pki_types::{CertificateDer, pem};
use tokio::sync::watch;
use tonic::Status;

use crate::{
    certificate::{
        rotation::{HeldCertificate, WallClock},
        svid::Svid,
    },
    trust_bundles::Bundles,
};

/// Where the state comes from.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) held: HeldCertificate,
    pub(crate) bundles: watch::Receiver<Arc<Bundles>>,
    pub(crate) clock: WallClock,
}

/// The state at one moment.
pub(super) struct WorkloadState {
    pub(super) svid: Arc<Svid>,
    pub(super) bundles: Arc<Bundles>,
}

impl Sources {
    /// The state now.
    ///
    /// # Errors
    /// Unavailable or PermissionDenied when no certificate is held, or none that is still valid.
    pub(super) fn now(&mut self) -> Result<WorkloadState, Status> {
        let svid = self.held.svid.borrow_and_update().clone();
        let bundles = self.bundles.borrow_and_update().clone();
        let why = match svid {
            Some(svid) if !svid.expired((self.clock)()) => return Ok(WorkloadState { svid, bundles }),
            Some(_) => "the certificate held has expired",
            None => "there is no certificate yet",
        };
        let failure = self.held.failure.borrow();
        let detail = failure.as_ref().map_or_else(String::new, |failure| format!(": {failure}"));
        match &*failure {
            Some(failure) if failure.denied => Err(Status::permission_denied(format!("{why}{detail}"))),
            _ => Err(Status::unavailable(format!("{why}{detail}"))),
        }
    }

    /// Waits for a change; false if there will be none.
    pub(super) async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.held.svid.changed() => changed.is_ok(),
            changed = self.bundles.changed() => changed.is_ok(),
        }
    }
}

impl WorkloadState {
    /// The workload's own trust domain.
    pub(super) fn own(&self) -> TrustDomain {
        self.svid.identity.trust_domain()
    }

    /// The roots of that domain: those that came with the certificate, and those that the same CA has published since.
    ///
    /// # Errors
    /// None for a certificate that was accepted.
    pub(super) fn own_roots(&self) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
        let mut roots = self.svid.roots()?;
        for root in self.bundles.get(&self.own()).into_iter().flat_map(|bundle| bundle.certificates()) {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        Ok(roots)
    }
}
