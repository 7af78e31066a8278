//! A connected proxy.

use std::sync::Arc;

use eastwest_engine::{
    ClientScope, Snapshot, compute, lint,
    settings::{Inbound, WorkloadTls},
};
use eastwest_model::{Diagnostic, IdentityError, SpiffeId, Workload};
use eastwest_xds::View;

use super::{ProxyKey, scope::Scope};
use crate::{Audience, ProxyFacts, Translator, proxy_resources::ProxyResources};

/// What is known of a connected proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    /// Its workload, as long as no Pod of that name is known.
    stand_in: Arc<Workload>,
    pub(super) scope: ClientScope,
    identity: SpiffeId,
    inbound: Arc<Inbound>,
    warnings: Vec<Diagnostic>,
    /// It asked for the settings of its workload.
    pub(super) wants_settings: bool,
    own: ProxyResources,
    pub(super) view: Arc<View>,
}

impl Proxy {
    /// A proxy that has just connected.
    pub(super) fn new(
        snapshot: &Snapshot,
        workload: &Arc<Workload>,
        key: &ProxyKey,
        name: &ClientScope,
        scope: &mut Scope,
        translator: &mut Translator,
    ) -> Result<Self, IdentityError> {
        let settings = WorkloadTls {
            workload: key.workload.clone(),
            identity: compute::identity(snapshot, workload)?,
            inbound: Arc::new(compute::inbound(snapshot, workload)),
            outbound: Arc::clone(&scope.outbound),
            warnings: Vec::new(),
        };
        let resources = scope.resources_of(translator, key.role);
        let own = translator.proxy(&settings, resources, facts(snapshot, key, false), None);
        let view = translator.view_of(&own, resources, None);
        let WorkloadTls { identity, inbound, warnings, .. } = settings;
        let stand_in = Arc::clone(workload);
        Ok(Self {
            stand_in,
            scope: name.clone(),
            identity,
            inbound,
            warnings,
            wants_settings: false,
            own,
            view,
        })
    }

    /// Its workload as it is known now.
    pub(super) fn workload<'a>(&'a self, snapshot: &'a Snapshot, key: &ProxyKey) -> &'a Arc<Workload> {
        snapshot.workload(&key.workload).unwrap_or(&self.stand_in)
    }

    /// Brings the inbound settings up to date.
    pub(super) fn renew_inbound(&mut self, snapshot: &Snapshot, key: &ProxyKey) {
        let workload = self.workload(snapshot, key);
        let inbound = compute::inbound(snapshot, workload);
        // An identity that was valid stays so: only the trust domain may have changed.
        let identity = compute::identity(snapshot, workload);
        self.inbound = Arc::new(inbound);
        if let Ok(identity) = identity {
            self.identity = identity;
        }
    }

    /// Brings the view up to date with `scope`. Returns whether it differs. `own`: what is made of its own settings may
    /// differ as well.
    pub(super) fn renew_view(
        &mut self,
        snapshot: &Snapshot,
        key: &ProxyKey,
        scope: &mut Scope,
        translator: &mut Translator,
        own: bool,
    ) -> bool {
        // The settings of a workload repeat those of all hosts.
        if own || self.wants_settings {
            if self.wants_settings {
                scope.find(snapshot, &self.scope);
                self.renew_warnings(snapshot, key, scope);
            }
            let settings = self.settings(key, scope);
            let facts = facts(snapshot, key, self.wants_settings);
            let resources = scope.resources_of(translator, key.role);
            self.own = translator.proxy(&settings, resources, facts, Some(&self.own));
        }
        let resources = scope.resources_of(translator, key.role);
        let next = translator.view_of(&self.own, resources, Some(&self.view));
        let differs = !Arc::ptr_eq(&self.view, &next);
        self.view = next;
        differs
    }

    fn renew_warnings(&mut self, snapshot: &Snapshot, key: &ProxyKey, scope: &Scope) {
        if let Some(clients) = &scope.findings {
            self.warnings = lint::of_workload(snapshot, self.workload(snapshot, key), &self.inbound, clients);
        }
    }

    /// Both sides, put together for as long as resources are made of them.
    fn settings(&self, key: &ProxyKey, scope: &Scope) -> WorkloadTls {
        WorkloadTls {
            workload: key.workload.clone(),
            identity: self.identity.clone(),
            inbound: Arc::clone(&self.inbound),
            outbound: Arc::clone(&scope.outbound),
            warnings: self.warnings.clone(),
        }
    }
}

/// The facts by which a proxy gets resources. An authenticated proxy counts as such only if its workload is known: the
/// labels of any other workload are a claim of the proxy, and rules select by labels who gets a secret. The settings of
/// its workload are made for a proxy that asked for them.
fn facts(snapshot: &Snapshot, key: &ProxyKey, wants_settings: bool) -> ProxyFacts {
    let known = snapshot.workload(&key.workload);
    let same =
        known.is_some_and(|one| one.service_account.is_some() && one.service_account == key.service_account);
    let audience = if wants_settings { key.facts.audience } else { Audience::Envoy };
    ProxyFacts { proven: key.facts.proven && same, audience, ..key.facts }
}
