//! The state of the CA that one request sees.

use std::sync::Arc;

use arc_swap::ArcSwap;
use eastwest_ca::{Authorizer, TrustBundle};
use eastwest_identity::TrustDomain;
use tokio::sync::watch;

use crate::trust::{latest_expiry::Signer, serving_certificate::ServingCertificate};

/// All values that must change together. Immutable.
#[derive(Clone)]
pub(crate) struct CaState {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) authorizer: Authorizer,
    pub(crate) issuer: Arc<Signer>,
    /// The trusted roots, with revocations.
    pub(crate) roots: Arc<TrustBundle>,
    pub(crate) serving: ServingCertificate,
}

/// The current state. All clones share it.
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

    /// The current state, to be used for one decision.
    pub(crate) fn load(&self) -> Arc<CaState> {
        self.0.newest.load_full()
    }

    /// Replaces the state by the result of `change`, which is called again if another change came first.
    pub(crate) fn change(&self, change: impl Fn(&CaState) -> CaState) {
        self.0.newest.rcu(|old| change(old));
        self.0.changes.send_replace(());
    }

    /// Notifies of each change after this call.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }
}
