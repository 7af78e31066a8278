//! All that one request is judged by, at one moment.

use std::sync::Arc;

use arc_swap::ArcSwap;
use eastwest_ca::{Authorizer, TrustBundle};
use eastwest_identity::TrustDomain;
use tokio::sync::watch;

use crate::trust::{latest_expiry::Signer, serving_certificate::ServingCertificate};

/// What must change together. Immutable.
#[derive(Clone)]
pub(crate) struct CaState {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) authorizer: Authorizer,
    pub(crate) issuer: Arc<Signer>,
    /// What peers must lead to, and which of them are revoked.
    pub(crate) roots: Arc<TrustBundle>,
    pub(crate) serving: ServingCertificate,
}

/// Where the newest ca_state is found; every clone sees the same one.
#[derive(Clone)]
pub(crate) struct Current(Arc<Shared>);

struct Shared {
    newest: ArcSwap<CaState>,
    changes: watch::Sender<()>,
}

impl Current {
    pub(crate) fn new(first: CaState) -> Self {
        Self(Arc::new(Shared { newest: ArcSwap::from_pointee(first), changes: watch::Sender::default() }))
    }

    /// The newest one, to be held for as long as one decision takes.
    pub(crate) fn load(&self) -> Arc<CaState> {
        self.0.newest.load_full()
    }

    /// Replaces it by what `change` makes of it, which may be called again when others change it meanwhile.
    pub(crate) fn change(&self, change: impl Fn(&CaState) -> CaState) {
        self.0.newest.rcu(|old| change(old));
        self.0.changes.send_replace(());
    }

    /// Tells of every change after this call.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }
}
