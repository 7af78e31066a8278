//! What answers are made of: the certificate held and the bundles that the control plane publishes.

use std::sync::Arc;

use eastwest_identity::TrustDomain;
use rustls_pki_types::{CertificateDer, pem};
use tokio::sync::watch;
use tonic::Status;

use crate::{
    certificate::{
        rotation::{Held, WallClock},
        svid::Svid,
    },
    trust::Bundles,
};

/// Where it is found at every moment.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) held: Held,
    pub(crate) bundles: watch::Receiver<Arc<Bundles>>,
    pub(crate) clock: WallClock,
}

/// What was known at one moment.
pub(super) struct Known {
    pub(super) svid: Arc<Svid>,
    pub(super) bundles: Arc<Bundles>,
}

impl Sources {
    /// What is known now.
    ///
    /// # Errors
    /// Unavailable or PermissionDenied when no certificate is held, or none that is still valid.
    pub(super) fn now(&mut self) -> Result<Known, Status> {
        let svid = self.held.svid.borrow_and_update().clone();
        let bundles = self.bundles.borrow_and_update().clone();
        let why = match svid {
            Some(svid) if !svid.expired((self.clock)()) => return Ok(Known { svid, bundles }),
            Some(_) => "the certificate held has expired",
            None => "there is no certificate yet",
        };
        let trouble = self.held.trouble.borrow();
        let detail = trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
        match &*trouble {
            Some(trouble) if trouble.denied => Err(Status::permission_denied(format!("{why}{detail}"))),
            _ => Err(Status::unavailable(format!("{why}{detail}"))),
        }
    }

    /// Waits until something is different; false if nothing will ever be.
    pub(super) async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.held.svid.changed() => changed.is_ok(),
            changed = self.bundles.changed() => changed.is_ok(),
        }
    }
}

impl Known {
    /// The workload's own trust domain.
    pub(super) fn own(&self) -> TrustDomain {
        self.svid.identity.trust_domain()
    }

    /// The roots of that domain: those that came with the certificate, and those that the same authority has published
    /// since.
    ///
    /// # Errors
    /// Never for a certificate that was accepted.
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
