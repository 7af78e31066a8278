//! The one writer: it owns the index, follows the input, and publishes to every connected proxy its view.
//!
//! A batch of changes costs what it touched: each affected client scope recomputes its dirty hosts once for all its
//! proxies, each affected proxy its inbound settings. A proxy whose bytes stay the same is told nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_engine::{
    ClientScope, DirtySet, Hosts, Index, Snapshot, compute,
    settings::{Outbound, WorkloadTls},
};
use eastwest_model::{Host, MeshConfig, Name, Workload, WorkloadKey, identity::IdentityError};
use eastwest_sources::Batch;
use eastwest_translate::{OutboundResources, ProxyFacts, Translator};
use eastwest_xds::View;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::query::World;

/// How many proxies may be waiting to be taken in.
const WAITING: usize = 1024;

/// A proxy asks for its view.
struct Subscription {
    workload: Arc<Workload>,
    facts: ProxyFacts,
    reply: oneshot::Sender<Result<watch::Receiver<Arc<View>>, IdentityError>>,
}

/// Where proxies get their views.
#[derive(Clone)]
pub(super) struct Subscribers(mpsc::Sender<Subscription>);

impl Subscribers {
    /// The view of a workload, followed as long as the receiver lives. `workload` stands in for a Pod that is not
    /// known.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a workload that cannot have an identity, `UNAVAILABLE` when the publisher has ended.
    pub(super) async fn subscribe(
        &self,
        workload: Arc<Workload>,
        facts: ProxyFacts,
    ) -> Result<watch::Receiver<Arc<View>>, Status> {
        let (reply, answer) = oneshot::channel();
        let stopping = |_| Status::unavailable("the control plane is shutting down; try again");
        self.0.send(Subscription { workload, facts, reply }).await.map_err(|_| stopping(()))?;
        let view = answer.await.map_err(|_| stopping(()))?;
        view.map_err(|error| Status::invalid_argument(format!("node.id: {error}")))
    }
}

/// A proxy is known by its workload, the service account it was admitted with, and the facts of its own.
type ProxyKey = (WorkloadKey, Option<Name>, ProxyFacts);

/// A connected proxy.
struct Proxy {
    /// What it is, if no Pod of that name is known.
    stand_in: Arc<Workload>,
    scope: ClientScope,
    settings: WorkloadTls,
    view: watch::Sender<Arc<View>>,
}

/// What all proxies of a client scope share.
struct Scope {
    outbound: Arc<Outbound>,
    resources: OutboundResources,
}

/// The writer.
pub(super) struct Publisher {
    index: Index,
    translator: Translator,
    world: watch::Sender<World>,
    waiting: mpsc::Receiver<Subscription>,
    scopes: BTreeMap<ClientScope, Scope>,
    proxies: BTreeMap<ProxyKey, Proxy>,
}

impl Publisher {
    /// A publisher that has taken in the first batch; with it where proxies subscribe and where the world is read.
    pub(super) fn new(mesh: MeshConfig, first: Batch) -> (Self, Subscribers, watch::Receiver<World>) {
        let mut index = Index::new(mesh);
        first.changes.into_iter().for_each(|change| drop(index.apply(change)));
        let (world, reader) =
            watch::channel(World { snapshot: index.freeze(), input: Arc::new(first.diagnostics) });
        let (sender, waiting) = mpsc::channel(WAITING);
        let publisher = Self {
            index,
            translator: Translator::default(),
            world,
            waiting,
            scopes: BTreeMap::new(),
            proxies: BTreeMap::new(),
        };
        (publisher, Subscribers(sender), reader)
    }

    /// Runs until the input ends or nobody can subscribe any more.
    pub(super) async fn run(mut self, mut input: mpsc::Receiver<Batch>) {
        loop {
            tokio::select! {
                batch = input.recv() => match batch {
                    Some(batch) => self.take_in(batch),
                    None => return,
                },
                subscription = self.waiting.recv() => match subscription {
                    Some(subscription) => self.admit(subscription),
                    None => return,
                },
            }
        }
    }

    fn take_in(&mut self, batch: Batch) {
        let mut dirty = DirtySet::default();
        dirty.extend(batch.changes.into_iter().map(|change| self.index.apply(change)));
        let snapshot = self.index.freeze();
        self.world
            .send_replace(World { snapshot: Arc::clone(&snapshot), input: Arc::new(batch.diagnostics) });
        if !dirty.is_empty() {
            self.publish(&snapshot, &dirty);
        }
    }

    fn admit(&mut self, Subscription { workload, facts, reply }: Subscription) {
        let snapshot = Arc::clone(&self.world.borrow().snapshot);
        let key = (workload.key(), workload.service_account.clone(), facts);
        let view = match self.proxies.get(&key) {
            Some(proxy) => Ok(proxy.view.subscribe()),
            None => self.connect(&snapshot, workload, facts).map(|proxy| {
                let view = proxy.view.subscribe();
                self.proxies.insert(key, proxy);
                view
            }),
        };
        // A proxy that gave up meanwhile is pruned with the next change.
        let _ = reply.send(view);
    }
}

impl Publisher {
    /// Takes in a proxy that nobody of the same key is connected as.
    fn connect(
        &mut self,
        snapshot: &Snapshot,
        workload: Arc<Workload>,
        facts: ProxyFacts,
    ) -> Result<Proxy, IdentityError> {
        let identity = compute::identity(snapshot, &workload)?;
        let scope = compute::client_scope(snapshot, &workload);
        let outbound = self.scopes.entry(scope.clone()).or_insert_with(|| {
            let outbound = Arc::new(compute::outbound(snapshot, &scope));
            Scope { resources: self.translator.outbound(&outbound, None), outbound }
        });
        let settings = WorkloadTls {
            workload: workload.key(),
            identity,
            inbound: Arc::new(compute::inbound(snapshot, &workload)),
            outbound: Arc::clone(&outbound.outbound),
        };
        let view = self.translator.view(&settings, &outbound.resources, facts, None);
        Ok(Proxy { stand_in: workload, scope, settings, view: watch::Sender::new(view) })
    }

    /// Brings every proxy that `dirty` may concern up to date.
    fn publish(&mut self, snapshot: &Snapshot, dirty: &DirtySet) {
        self.prune(snapshot);
        let moved = self.move_to_scopes(snapshot, dirty);
        let renewed = self.renew_scopes(snapshot, dirty);
        for ((key, _, facts), proxy) in &mut self.proxies {
            let inbound = dirty.inbound_of(key);
            if !inbound && !moved.contains(key) && !renewed.contains(&proxy.scope) {
                continue;
            }
            let Some(scope) = self.scopes.get(&proxy.scope) else { continue };
            if inbound {
                proxy.renew_inbound(snapshot);
            }
            proxy.settings.outbound = Arc::clone(&scope.outbound);
            let current = proxy.view.borrow().clone();
            let next = self.translator.view(&proxy.settings, &scope.resources, *facts, Some(&current));
            if !Arc::ptr_eq(&current, &next) {
                proxy.view.send_replace(next);
            }
        }
        self.translator.forget_unused();
    }

    /// Forgets proxies that went away, and ends the streams of those whose Pod turns out to have another service
    /// account: they must prove themselves anew.
    fn prune(&mut self, snapshot: &Snapshot) {
        self.proxies.retain(|(key, account, _), proxy| {
            let pod = snapshot.workload(key).and_then(|pod| pod.service_account.as_ref());
            let impostor = pod.is_some_and(|real| account.as_ref().is_some_and(|account| account != real));
            !impostor && !proxy.view.is_closed()
        });
        let used: BTreeSet<_> = self.proxies.values().map(|proxy| &proxy.scope).collect();
        self.scopes.retain(|scope, _| used.contains(scope));
    }

    /// Finds the scope of every proxy that may have another one now; returns those that do.
    fn move_to_scopes(&mut self, snapshot: &Snapshot, dirty: &DirtySet) -> BTreeSet<WorkloadKey> {
        let mut moved = BTreeSet::new();
        for ((key, ..), proxy) in &mut self.proxies {
            if !dirty.scope_of(key) {
                continue;
            }
            let scope = compute::client_scope(snapshot, snapshot.workload(key).unwrap_or(&proxy.stand_in));
            if scope != proxy.scope {
                proxy.scope = scope;
                moved.insert(key.clone());
            }
        }
        moved
    }

    /// Recomputes the dirty hosts of every scope in use; returns the scopes that have other resources now.
    fn renew_scopes(&mut self, snapshot: &Snapshot, dirty: &DirtySet) -> BTreeSet<ClientScope> {
        let mut renewed = BTreeSet::new();
        for proxy in self.proxies.values() {
            if renewed.contains(&proxy.scope) {
                continue;
            }
            let before = self.scopes.get(&proxy.scope);
            let outbound = match before {
                None => Arc::new(compute::outbound(snapshot, &proxy.scope)),
                Some(before) => match dirty.outbound_hosts_of(&proxy.scope) {
                    hosts if hosts.is_empty() => continue,
                    Hosts::All => Arc::new(compute::outbound(snapshot, &proxy.scope)),
                    Hosts::Some(hosts) => renew_hosts(snapshot, &proxy.scope, &before.outbound, &hosts),
                },
            };
            if before.is_some_and(|before| before.outbound == outbound) {
                continue;
            }
            let resources = self.translator.outbound(&outbound, before.map(|before| &before.resources));
            self.scopes.insert(proxy.scope.clone(), Scope { outbound, resources });
            renewed.insert(proxy.scope.clone());
        }
        renewed
    }
}

impl Proxy {
    fn renew_inbound(&mut self, snapshot: &Snapshot) {
        let workload = snapshot.workload(&self.settings.workload).unwrap_or(&self.stand_in);
        self.settings.inbound = Arc::new(compute::inbound(snapshot, workload));
        // An identity that was valid stays so: only the trust domain may have changed.
        if let Ok(identity) = compute::identity(snapshot, workload) {
            self.settings.identity = identity;
        }
    }
}

/// The same settings but for some hosts.
fn renew_hosts(
    snapshot: &Snapshot,
    scope: &ClientScope,
    before: &Arc<Outbound>,
    hosts: &BTreeSet<Host>,
) -> Arc<Outbound> {
    let mut outbound = Outbound::clone(before);
    for host in hosts {
        match compute::outbound_service(snapshot, scope, host) {
            Some(service) => outbound.services.insert(host.clone(), Arc::new(service)),
            None => outbound.services.remove(host),
        };
    }
    Arc::new(outbound)
}
