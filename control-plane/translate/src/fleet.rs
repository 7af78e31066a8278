//! The connected proxies and what each is entitled to see, brought up to date change by change.
//!
//! A change costs what it touched: each client scope in use recomputes its dirty hosts once for all its proxies, each
//! affected proxy its inbound settings. Proxies whose resources stay the same are not reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::{
    ClientScope, DirtySet, Hosts, Snapshot, compute,
    lint::{self, ClientFindings},
    settings::{Inbound, Outbound, WorkloadTls},
};
use eastwest_model::{
    Diagnostic, IdentityError, Name, SpiffeId, Workload, WorkloadKey, workload::ProxyCertificate,
};
use eastwest_xds::View;

use crate::{Audience, OutboundResources, ProxyFacts, ProxyRole, Translator};

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
        }
    }

    /// The key with the certificate that the proxy names in its own metadata. Without one, that of its Pod counts.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<ProxyCertificate>) -> Self {
        Self { certificate: certificate.or(self.certificate), ..self }
    }

    /// The facts by which it gets resources. An authenticated proxy counts as such only if its workload is known: the
    /// labels of any other workload are a claim of the proxy, and rules select by labels who gets a secret.
    fn entitlement(&self, snapshot: &Snapshot) -> ProxyFacts {
        let known = snapshot.workload(&self.workload);
        let same = known
            .is_some_and(|one| one.service_account.is_some() && one.service_account == self.service_account);
        ProxyFacts { proven: self.facts.proven && same, ..self.facts }
    }
}

/// All connected proxies.
#[derive(Debug, Default)]
pub struct Fleet {
    translator: Translator,
    scopes: BTreeMap<ClientScope, Scope>,
    proxies: BTreeMap<ProxyKey, Proxy>,
}

/// What all proxies of a client scope share.
#[derive(Debug)]
struct Scope {
    /// The only `Arc` between changes, so that it is edited in place.
    outbound: Arc<Outbound>,
    /// For each role of its proxies.
    resources: BTreeMap<ProxyRole, OutboundResources>,
    /// What its clients are warned of, if one of its proxies gets warnings: see [`Audience::Other`].
    findings: Option<ClientFindings>,
}

/// A connected proxy.
#[derive(Debug)]
struct Proxy {
    /// Its workload, as long as no Pod of that name is known.
    stand_in: Arc<Workload>,
    scope: ClientScope,
    identity: SpiffeId,
    inbound: Arc<Inbound>,
    warnings: Vec<Diagnostic>,
    view: Arc<View>,
}

impl Fleet {
    /// The view of a proxy, which is followed from now on. `workload` is used as long as no Pod of its name is known.
    ///
    /// # Errors
    /// The workload cannot have an identity.
    pub fn connect(
        &mut self,
        snapshot: &Snapshot,
        workload: &Arc<Workload>,
        key: ProxyKey,
    ) -> Result<Arc<View>, IdentityError> {
        if let Some(proxy) = self.proxies.get(&key) {
            return Ok(Arc::clone(&proxy.view));
        }
        let identity = compute::identity(snapshot, workload)?;
        let scope = compute::client_scope(snapshot, workload).with_certificate(key.certificate.as_ref());
        let translator = &mut self.translator;
        let shared = self.scopes.entry(scope.clone()).or_insert_with(|| Scope::new(snapshot, &scope));
        let mut proxy = Proxy {
            stand_in: Arc::clone(workload),
            scope,
            identity,
            inbound: Arc::new(compute::inbound(snapshot, workload)),
            warnings: Vec::new(),
            view: Arc::default(),
        };
        if key.facts.audience == Audience::Other {
            shared.find(snapshot, &proxy.scope);
            proxy.renew_warnings(snapshot, &key, shared);
        }
        let settings = proxy.settings(&key, shared);
        let resources = shared.resources_of(translator, key.role);
        proxy.view = translator.view(&settings, resources, key.entitlement(snapshot), None);
        let view = Arc::clone(&proxy.view);
        self.proxies.insert(key.clone(), proxy);
        Ok(view)
    }

    /// Forgets a proxy.
    pub fn disconnect(&mut self, key: &ProxyKey) {
        self.proxies.remove(key);
    }

    /// The proxies that were authorized with a service account that their Pod does not have: they must authenticate
    /// again.
    pub fn with_other_service_account(&self, snapshot: &Snapshot) -> Vec<ProxyKey> {
        let differs = |key: &&ProxyKey| {
            let real = snapshot.workload(&key.workload).and_then(|pod| pod.service_account.as_ref());
            real.is_some_and(|real| key.service_account.as_ref().is_some_and(|account| account != real))
        };
        self.proxies.keys().filter(differs).cloned().collect()
    }

    /// Updates every proxy that `dirty` may concern, and returns the views that changed.
    pub fn update(&mut self, snapshot: &Snapshot, dirty: &DirtySet) -> Vec<(ProxyKey, Arc<View>)> {
        let moved = self.move_to_scopes(snapshot, dirty);
        self.forget_unused_scopes();
        let renewed = self.renew_scopes(snapshot, dirty);
        let mut changed = Vec::new();
        for (key, proxy) in &mut self.proxies {
            // A dirty set does not name workloads that are not in the world.
            let inbound = dirty.inbound_of(&key.workload) || snapshot.workload(&key.workload).is_none();
            if !inbound && !moved.contains(key) && !renewed.contains(&proxy.scope) {
                continue;
            }
            let Some(scope) = self.scopes.get_mut(&proxy.scope) else { continue };
            if inbound {
                proxy.renew_inbound(snapshot, key);
            }
            if key.facts.audience == Audience::Other {
                scope.find(snapshot, &proxy.scope);
                proxy.renew_warnings(snapshot, key, scope);
            }
            let settings = proxy.settings(key, scope);
            let facts = key.entitlement(snapshot);
            let resources = scope.resources_of(&mut self.translator, key.role);
            let next = self.translator.view(&settings, resources, facts, Some(&proxy.view));
            if !Arc::ptr_eq(&proxy.view, &next) {
                proxy.view = Arc::clone(&next);
                changed.push((key.clone(), next));
            }
        }
        self.translator.forget_unused();
        changed
    }

    /// Finds the scope of every proxy that may have another one now; returns those that do.
    fn move_to_scopes(&mut self, snapshot: &Snapshot, dirty: &DirtySet) -> BTreeSet<ProxyKey> {
        let mut moved = BTreeSet::new();
        for (key, proxy) in &mut self.proxies {
            if !dirty.scope_of(&key.workload) {
                continue;
            }
            let workload = snapshot.workload(&key.workload).unwrap_or(&proxy.stand_in);
            let scope = compute::client_scope(snapshot, workload).with_certificate(key.certificate.as_ref());
            if scope != proxy.scope {
                proxy.scope = scope;
                moved.insert(key.clone());
            }
        }
        moved
    }

    fn forget_unused_scopes(&mut self) {
        let used: BTreeSet<_> = self.proxies.iter().map(|(key, proxy)| (&proxy.scope, key.role)).collect();
        self.scopes.retain(|name, scope| {
            scope.resources.retain(|role, _| used.contains(&(name, *role)));
            !scope.resources.is_empty()
        });
    }

    /// Recomputes the dirty hosts of every scope in use; returns the scopes that have other resources now.
    fn renew_scopes(&mut self, snapshot: &Snapshot, dirty: &DirtySet) -> BTreeSet<ClientScope> {
        let mut renewed = BTreeSet::new();
        for (name, scope) in &mut self.scopes {
            let hosts = dirty.outbound_hosts_of(name);
            let differs = scope.renew(&mut self.translator, snapshot, name, &hosts);
            // The servers' side may differ where the clients' settings stay the same.
            let found = scope.findings.as_mut();
            let warned = found.is_some_and(|found| found.renew(snapshot, name, &scope.outbound, &hosts));
            if differs || warned {
                renewed.insert(name.clone());
            }
        }
        for proxy in self.proxies.values() {
            self.scopes.entry(proxy.scope.clone()).or_insert_with(|| Scope::new(snapshot, &proxy.scope));
        }
        renewed
    }
}

impl Scope {
    fn new(snapshot: &Snapshot, scope: &ClientScope) -> Self {
        let outbound = Arc::new(compute::outbound(snapshot, scope));
        Self { outbound, resources: BTreeMap::new(), findings: None }
    }

    /// The resources for proxies of a role, made for the first of them.
    fn resources_of(&mut self, translator: &mut Translator, role: ProxyRole) -> &OutboundResources {
        let Self { outbound, resources, .. } = self;
        resources.entry(role).or_insert_with(|| translator.outbound(role, outbound, None))
    }

    /// Finds what the clients are warned of, for the first proxy that gets warnings.
    fn find(&mut self, snapshot: &Snapshot, scope: &ClientScope) {
        let Self { findings, outbound, .. } = self;
        findings.get_or_insert_with(|| ClientFindings::of(snapshot, scope, outbound));
    }

    /// Whether anything differs after the hosts were computed anew.
    fn renew(
        &mut self,
        translator: &mut Translator,
        snapshot: &Snapshot,
        scope: &ClientScope,
        hosts: &Hosts,
    ) -> bool {
        let Hosts::Some(hosts) = hosts else { return self.renew_all(translator, snapshot, scope) };
        let mut changed = BTreeSet::new();
        for host in hosts {
            let next = compute::outbound_service(snapshot, scope, host);
            if next.as_ref() == self.outbound.services.get(host).map(AsRef::as_ref) {
                continue;
            }
            changed.insert(host.clone());
            let services = &mut Arc::make_mut(&mut self.outbound).services;
            match next {
                Some(service) => services.insert(host.clone(), Arc::new(service)),
                None => services.remove(host),
            };
        }
        if !changed.is_empty() {
            for resources in self.resources.values_mut() {
                translator.renew(resources, &self.outbound, &changed);
            }
        }
        !changed.is_empty()
    }

    fn renew_all(&mut self, translator: &mut Translator, snapshot: &Snapshot, scope: &ClientScope) -> bool {
        let mut next = compute::outbound(snapshot, scope);
        for (host, service) in &mut next.services {
            // The same object tells the translator that nothing differs.
            if let Some(before) = self.outbound.services.get(host).filter(|before| *before == service) {
                *service = Arc::clone(before);
            }
        }
        if next == *self.outbound {
            return false;
        }
        self.outbound = Arc::new(next);
        for (role, resources) in &mut self.resources {
            *resources = translator.outbound(*role, &self.outbound, Some(resources));
        }
        true
    }
}

impl Proxy {
    fn renew_inbound(&mut self, snapshot: &Snapshot, key: &ProxyKey) {
        let workload = snapshot.workload(&key.workload).unwrap_or(&self.stand_in);
        self.inbound = Arc::new(compute::inbound(snapshot, workload));
        // An identity that was valid stays so: only the trust domain may have changed.
        if let Ok(identity) = compute::identity(snapshot, workload) {
            self.identity = identity;
        }
    }

    fn renew_warnings(&mut self, snapshot: &Snapshot, key: &ProxyKey, scope: &Scope) {
        let workload = snapshot.workload(&key.workload).unwrap_or(&self.stand_in);
        if let Some(clients) = &scope.findings {
            self.warnings = lint::of_workload(snapshot, workload, &self.inbound, clients);
        }
    }

    /// Both sides, put together for as long as a view is made of them.
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
