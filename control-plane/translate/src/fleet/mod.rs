//! The connected proxies and what each is entitled to see, brought up to date change by change.
//!
//! A change costs what it touched: each client scope in use recomputes its dirty hosts once for all its proxies, each
//! proxy whose workload is dirty its inbound settings. Indexes by scope and by workload find the proxies concerned; the
//! others are not looked at. Proxies whose resources stay the same are not reported.

mod proxy;
mod scope;
mod services;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::{ClientScope, DirtySet, Snapshot, compute};
use eastwest_model::{Families, IdentityError, Name, Workload, WorkloadKey, workload::ProxyCertificate};
use eastwest_xds::View;
use thiserror::Error;

use self::{
    proxy::Proxy,
    scope::{Renewal, Scope},
    services::SharedServices,
};
use crate::{Audience, ProxyFacts, ProxyRole, Translator};

/// Identifies a connected proxy, with all that its view depends on besides settings. Proxies of one key share their
/// view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProxyKey {
    /// The workload that the proxy serves.
    pub workload: WorkloadKey,
    /// The service account with which it was authorized.
    pub service_account: Option<Name>,
    /// Its role.
    pub role: ProxyRole,
    /// Facts about it.
    pub facts: ProxyFacts,
    /// Its own client certificate, as it was when it connected (POLICY.md O9).
    pub certificate: Option<ProxyCertificate>,
    /// The families of the addresses that it reported when it connected; those of its Pod count as well
    /// (POLICY.md L9).
    pub families: Option<Families>,
}

impl ProxyKey {
    /// The key of a workload's proxy, with the client certificate that its Pod names.
    pub fn of(workload: &Workload, role: ProxyRole, facts: ProxyFacts) -> Self {
        Self {
            workload: workload.key(),
            service_account: workload.service_account.clone(),
            role,
            facts,
            certificate: workload.client_certificate.clone(),
            families: None,
        }
    }

    /// The key with the certificate that the proxy names in its own metadata. Without one, that of its Pod counts.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<ProxyCertificate>) -> Self {
        Self { certificate: certificate.or(self.certificate), ..self }
    }

    /// The key with the families of the addresses that the proxy reports.
    #[must_use]
    pub fn with_families(self, families: Option<Families>) -> Self {
        Self { families, ..self }
    }

    /// The scope of the proxy, whose workload is this one.
    fn scope(&self, snapshot: &Snapshot, workload: &Workload) -> ClientScope {
        let scope = compute::client_scope(snapshot, workload);
        scope.with_certificate(self.certificate.as_ref()).with_families(self.families)
    }

    /// Whether the Pod has another service account than the proxy was authorized with.
    fn is_of_other_account(&self, snapshot: &Snapshot) -> bool {
        let real = snapshot.workload(&self.workload).and_then(|pod| pod.service_account.as_ref());
        real.is_some_and(|real| self.service_account.as_ref().is_some_and(|account| account != real))
    }
}

/// Why a proxy gets no view.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The workload cannot have an identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The Pod has another service account by now than the proxy was authorized with.
    #[error("the service account of the pod is another one than the proxy was authorized with")]
    OtherServiceAccount,
}

/// All connected proxies.
#[derive(Debug, Default)]
pub struct Fleet {
    translator: Translator,
    services: SharedServices,
    scopes: BTreeMap<ClientScope, Scope>,
    proxies: BTreeMap<Arc<ProxyKey>, Proxy>,
    by_workload: BTreeMap<WorkloadKey, BTreeSet<Arc<ProxyKey>>>,
    /// Proxies whose workload is not in the world. A dirty set does not name such workloads.
    strangers: BTreeSet<Arc<ProxyKey>>,
}

/// Proxies to bring up to date; whether what they have of their own may differ as well.
type Concerned = BTreeMap<Arc<ProxyKey>, bool>;

impl Fleet {
    /// The view of a proxy, which is followed from now on. `workload` is used as long as no Pod of its name is known.
    ///
    /// # Errors
    /// The workload cannot have an identity, or has another one by now.
    pub fn connect(
        &mut self,
        snapshot: &Snapshot,
        workload: &Arc<Workload>,
        key: ProxyKey,
    ) -> Result<Arc<View>, ConnectError> {
        if let Some(proxy) = self.proxies.get(&key) {
            return Ok(Arc::clone(&proxy.view));
        }
        if key.is_of_other_account(snapshot) {
            return Err(ConnectError::OtherServiceAccount);
        }
        let workload = snapshot.workload(&key.workload).unwrap_or(workload);
        let name = key.scope(snapshot, workload);
        let shared = (&mut self.translator, &mut self.services);
        let scope = open_scope(&mut self.scopes, shared, snapshot, &name);
        let proxy = Proxy::new(snapshot, workload, &key, &name, scope, &mut self.translator);
        let proxy = match proxy {
            Ok(proxy) => proxy,
            Err(error) => {
                self.forget_unused(&name);
                return Err(error.into());
            }
        };
        let (key, view) = (Arc::new(key), Arc::clone(&proxy.view));
        scope.proxies.insert(Arc::clone(&key));
        self.by_workload.entry(key.workload.clone()).or_default().insert(Arc::clone(&key));
        self.note_stranger(snapshot, &key);
        self.proxies.insert(key, proxy);
        Ok(view)
    }

    /// Adds the settings of its workload ([`TypeUrl::WORKLOAD_TLS`](eastwest_xds::TypeUrl::WORKLOAD_TLS)) to the view of a
    /// proxy that asks for them, and keeps them up to date from now on. `None` if the view stays the same: it has them,
    /// the proxy may not have them, or it is not connected.
    pub fn add_settings(&mut self, snapshot: &Snapshot, key: &ProxyKey) -> Option<Arc<View>> {
        let proxy = self.proxies.get_mut(key).filter(|proxy| !proxy.wants_settings)?;
        if key.facts.audience == Audience::Envoy {
            return None;
        }
        proxy.wants_settings = true;
        let scope = self.scopes.get_mut(&proxy.scope)?;
        let differs = proxy.renew_view(snapshot, key, scope, &mut self.translator, true);
        differs.then(|| Arc::clone(&proxy.view))
    }

    /// Forgets a proxy.
    pub fn disconnect(&mut self, key: &ProxyKey) {
        let Some(proxy) = self.proxies.remove(key) else { return };
        if let Some(proxies) = self.by_workload.get_mut(&key.workload) {
            proxies.remove(key);
            if proxies.is_empty() {
                self.by_workload.remove(&key.workload);
            }
        }
        self.strangers.remove(key);
        if let Some(scope) = self.scopes.get_mut(&proxy.scope) {
            scope.proxies.remove(key);
        }
        self.forget_unused(&proxy.scope);
        drop(proxy);
        self.translator.forget_unused();
        self.services.forget_unused();
    }

    /// The proxies that must authenticate again since the change: their Pod has another service account than they were
    /// authorized with, or is gone.
    pub fn not_entitled(&self, snapshot: &Snapshot, dirty: &DirtySet) -> Vec<Arc<ProxyKey>> {
        let is_gone =
            |key: &Arc<ProxyKey>| !self.strangers.contains(key) && snapshot.workload(&key.workload).is_none();
        let clients = dirty.clients_among(&self.by_workload).into_iter().flatten();
        clients.filter(|key| is_gone(key) || key.is_of_other_account(snapshot)).cloned().collect()
    }

    /// Updates every proxy that `dirty` may concern, and returns the views that changed.
    pub fn update(&mut self, snapshot: &Snapshot, dirty: &DirtySet) -> Vec<(Arc<ProxyKey>, Arc<View>)> {
        let mut concerned = Concerned::new();
        self.renew_scopes(snapshot, dirty, &mut concerned);
        self.move_to_scopes(snapshot, dirty, &mut concerned);
        self.renew_inbound(snapshot, dirty, &mut concerned);
        let mut changed = Vec::new();
        for (key, own) in concerned {
            let Some(proxy) = self.proxies.get_mut(&key) else { continue };
            let Some(scope) = self.scopes.get_mut(&proxy.scope) else { continue };
            if proxy.renew_view(snapshot, &key, scope, &mut self.translator, own) {
                let view = Arc::clone(&proxy.view);
                changed.push((key, view));
            }
        }
        self.translator.forget_unused();
        self.services.forget_unused();
        changed
    }

    /// Recomputes the dirty hosts of every scope in use. Its proxies are concerned if it has other resources now.
    fn renew_scopes(&mut self, snapshot: &Snapshot, dirty: &DirtySet, concerned: &mut Concerned) {
        for (name, scope) in &mut self.scopes {
            let renewal = scope.renew((&mut self.translator, &mut self.services), snapshot, name, dirty);
            if renewal != Renewal::Same {
                let own = renewal == Renewal::All;
                concerned.extend(scope.proxies.iter().map(|key| (Arc::clone(key), own)));
            }
        }
    }

    /// Finds the scope of every proxy that may have another one now.
    fn move_to_scopes(&mut self, snapshot: &Snapshot, dirty: &DirtySet, concerned: &mut Concerned) {
        let clients = dirty.clients_among(&self.by_workload).into_iter().flatten();
        for key in clients.cloned().collect::<Vec<_>>() {
            let Some(proxy) = self.proxies.get_mut(&key) else { continue };
            let next = key.scope(snapshot, proxy.workload(snapshot, &key));
            if next == proxy.scope {
                continue;
            }
            let before = std::mem::replace(&mut proxy.scope, next.clone());
            if let Some(scope) = self.scopes.get_mut(&before) {
                scope.proxies.remove(&key);
            }
            let shared = (&mut self.translator, &mut self.services);
            open_scope(&mut self.scopes, shared, snapshot, &next).proxies.insert(Arc::clone(&key));
            self.forget_unused(&before);
            concerned.insert(key, true);
        }
    }

    /// Recomputes the inbound settings of every proxy whose workload is dirty or is not in the world.
    fn renew_inbound(&mut self, snapshot: &Snapshot, dirty: &DirtySet, concerned: &mut Concerned) {
        let named = dirty.inbound_among(&self.by_workload).into_iter().flatten();
        let keys: BTreeSet<_> = named.chain(&self.strangers).cloned().collect();
        for key in keys {
            if let Some(proxy) = self.proxies.get_mut(&key) {
                proxy.renew_inbound(snapshot, &key);
            }
            self.note_stranger(snapshot, &key);
            concerned.insert(key, true);
        }
    }

    /// Notes whether the workload of a proxy is in the world.
    fn note_stranger(&mut self, snapshot: &Snapshot, key: &Arc<ProxyKey>) {
        if snapshot.workload(&key.workload).is_none() {
            self.strangers.insert(Arc::clone(key));
        } else {
            self.strangers.remove(key);
        }
    }

    fn forget_unused(&mut self, name: &ClientScope) {
        if self.scopes.get(name).is_some_and(|scope| scope.proxies.is_empty()) {
            self.scopes.remove(name);
        }
    }
}

/// A scope, made beside another one if it was not in use.
fn open_scope<'a>(
    scopes: &'a mut BTreeMap<ClientScope, Scope>,
    shared: (&mut Translator, &mut SharedServices),
    snapshot: &Snapshot,
    name: &ClientScope,
) -> &'a mut Scope {
    let scope = scopes.remove(name).unwrap_or_else(|| {
        let beside = scopes.iter().find(|(other, _)| compute::are_beside(snapshot, name, other));
        Scope::new(shared, snapshot, name, beside)
    });
    scopes.entry(name.clone()).or_insert(scope)
}
