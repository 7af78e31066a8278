//! Settings of hosts that are the same for several client scopes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use eastwest_engine::settings::{Outbound, OutboundService};
use eastwest_model::Host;

use crate::sweep::Sweep;

/// The settings of each host that some scope has: most scopes have the same ones, which are kept once.
#[derive(Debug, Default)]
pub(super) struct SharedServices {
    known: BTreeMap<Host, Vec<Weak<OutboundService>>>,
    sweep: Sweep,
}

impl SharedServices {
    /// The settings of one host: the same object as those of another scope that are equal.
    pub(super) fn share(&mut self, service: Arc<OutboundService>) -> Arc<OutboundService> {
        let known = self.known.entry(service.host.clone()).or_default();
        known.retain(|one| one.strong_count() > 0);
        if known.iter().any(|one| one.as_ptr() == Arc::as_ptr(&service)) {
            return service;
        }
        if let Some(same) = known.iter().filter_map(Weak::upgrade).find(|one| *one == service) {
            return same;
        }
        known.push(Arc::downgrade(&service));
        service
    }

    /// The same for all hosts of a scope.
    pub(super) fn share_all(&mut self, outbound: &mut Outbound) {
        for service in outbound.services.values_mut() {
            *service = self.share(Arc::clone(service));
        }
    }

    /// Forgets hosts that no scope has.
    pub(super) fn forget_unused(&mut self) {
        self.sweep.retain(&mut self.known, |known| known.iter().any(|one| one.strong_count() > 0));
    }
}
