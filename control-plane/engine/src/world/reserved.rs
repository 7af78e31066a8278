//! Names and addresses of Kubernetes Services: for clients of other namespaces no ServiceEntry takes them from a Service
//! of another namespace (POLICY.md D12).

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use eastwest_model::{
    Host, Kind, ObjectRef, Workload,
    service::{Service, ServiceEntry},
};
use ipnet::IpNet;

use super::{Namespace, Snapshot};

/// The claims of one ServiceEntry, as clients of other namespaces see them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved<'a> {
    snapshot: &'a Snapshot,
    /// The namespace of the entry: its Services are its own.
    home: &'a str,
}

impl Snapshot {
    /// What an entry of a namespace must leave to Services where the client is of another one; `None` at home, and where
    /// the mesh lets entries take everything.
    pub(crate) fn reserved_from<'a>(&'a self, home: &'a str, client: &str) -> Option<Reserved<'a>> {
        (home != client && !self.mesh.entries_take_services).then_some(self.reserved(home))
    }

    /// What an entry of a namespace must leave to Services, whoever the client is.
    pub(crate) fn reserved<'a>(&'a self, home: &'a str) -> Reserved<'a> {
        Reserved { snapshot: self, home }
    }

    /// Whether an entry claims addresses, as such or as a host.
    pub(super) fn claims_addresses(&self, entry: &ServiceEntry) -> bool {
        let by_host = || entry.hosts.iter().any(|host| address_of(host).is_some());
        !entry.addresses.is_empty() || !entry.blocks.is_empty() || by_host()
    }

    /// The hosts of all entries that claim one of these addresses.
    pub(super) fn hosts_at(&self, addresses: &BTreeSet<IpAddr>) -> Vec<Host> {
        if addresses.is_empty() || self.addressed.is_empty() {
            return Vec::new();
        }
        let claims = |entry: &ServiceEntry| {
            let is_one = |one: &IpAddr| addresses.contains(&one.to_canonical());
            entry.addresses.iter().any(is_one)
                || entry.blocks.iter().any(|block| addresses.iter().any(|one| block.contains(one)))
                || entry.hosts.iter().filter_map(address_of).any(|one| addresses.contains(&one))
        };
        let addressed = self.addressed.iter().filter_map(|one| {
            self.namespace(&one.namespace).service_entries.get(&one.name).map(AsRef::as_ref)
        });
        hosts_of(addressed, claims)
    }

    /// The hosts of all entries that spell the name of a Service, in any way.
    pub(super) fn hosts_spelling(&self, service: &Service) -> Vec<Host> {
        let name = service.meta.name();
        let full = format!("{name}.{}", service.meta.namespace());
        let spells = |host: &Host| self.forms(host).any(|form| form.covers(&full) || form.covers(name));
        // Most hosts differ from it at first sight: neither their first label nor the one behind it is its name.
        let may_spell = |host: &&Host| {
            let mut labels = host.as_str().split('.');
            host.wildcard_suffix().is_some() || labels.next() == Some(name) || labels.next() == Some(name)
        };
        let entries = self.namespaces.values().flat_map(|space| space.service_entries.values());
        hosts_of(entries.map(AsRef::as_ref), |entry| entry.hosts.iter().filter(may_spell).any(spells))
    }

    /// A host as `NAME.NAMESPACE`, `POD.NAME.NAMESPACE` or a wildcard of these: without each domain that DNS tries.
    fn forms<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = Form<'a>> {
        let text = host.as_str().trim_end_matches('.');
        let domain = &*self.mesh.cluster_domain;
        let short = text.strip_suffix(domain).and_then(|text| text.strip_suffix('.')).unwrap_or(text);
        // A wildcard that ends within the domain is one of all Services.
        let cut = text.strip_prefix('*').filter(|suffix| format!(".svc.{domain}").ends_with(*suffix));
        let of_all = cut.map(|_| Form("*"));
        let all = [Some(Form(text)), Some(Form(short)), short.strip_suffix(".svc").map(Form), of_all];
        all.into_iter().flatten()
    }

    /// The headless Services of a namespace that have a Pod behind them.
    fn headless_of<'a>(&'a self, pod: &'a Workload) -> impl Iterator<Item = &'a Service> {
        let space = self.namespace(pod.meta.namespace());
        services_of(space, pod).into_iter().filter(|service| service.headless)
    }
}

/// The hosts of those entries that are wanted.
fn hosts_of<'a>(
    entries: impl Iterator<Item = &'a ServiceEntry>,
    wanted: impl Fn(&ServiceEntry) -> bool,
) -> Vec<Host> {
    entries.filter(|entry| wanted(entry)).flat_map(|entry| entry.hosts.iter().cloned()).collect()
}

/// The Services of a namespace that have a workload behind them, by selector or by slice.
fn services_of<'a>(space: &'a Namespace, workload: &'a Workload) -> Vec<&'a Service> {
    let selecting = space.services.selecting(&workload.meta.labels).map(AsRef::as_ref);
    let named = space.slices.of_pod(workload.meta.name());
    let listed = workload.addresses.iter().flat_map(|address| space.slices.of_address(*address));
    let sliced =
        named.chain(listed).filter_map(|slice| space.services.get(&slice.service)).map(AsRef::as_ref);
    selecting.chain(sliced).collect()
}

/// The address that a host of an entry spells.
fn address_of(host: &Host) -> Option<IpAddr> {
    let text = host.as_str().trim_end_matches('.');
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// A host in one of the forms that [`Snapshot::forms`] tells.
#[derive(Clone, Copy)]
struct Form<'a>(&'a str);

impl Form<'_> {
    /// Whether it spells a name, or one below it as the Pods of a headless Service have.
    fn covers(self, full: &str) -> bool {
        let below = |text: &str| text.strip_suffix(full).is_some_and(|rest| rest.ends_with('.'));
        match self.0.strip_prefix('*') {
            Some(suffix) => full.ends_with(suffix) || below(suffix),
            None => self.0 == full || below(self.0),
        }
    }
}

impl<'a> Reserved<'a> {
    /// The Service whose name the host spells for clients of a namespace, `None` = no client's in particular.
    pub(crate) fn by_name(self, host: &Host, client: Option<&str>) -> Option<&'a Service> {
        if let Some(address) = address_of(host) {
            return self.at(address);
        }
        let forms = self.snapshot.forms(host);
        let full =
            forms.flat_map(|form| self.spaces(form.0)).find_map(|(space, text)| self.among(space, text));
        full.or_else(|| {
            let space = self.snapshot.namespaces.get(client?).filter(|_| client != Some(self.home))?;
            self.among(space, host.as_str().trim_end_matches('.'))
        })
    }

    /// The namespaces that the last label of a host may mean, each with what is left of the host.
    fn spaces<'t>(self, text: &'t str) -> Vec<(&'a Namespace, &'t str)>
    where
        'a: 't,
    {
        let others = |wanted: &dyn Fn(&str) -> bool| -> Vec<&'a Namespace> {
            let all =
                self.snapshot.namespaces.iter().filter(|(name, _)| &***name != self.home && wanted(name));
            all.map(|(_, space)| &**space).collect()
        };
        match (text.rsplit_once('.'), text.strip_prefix('*')) {
            (Some((rest, namespace)), _) if namespace != self.home => {
                let space = self.snapshot.namespaces.get(namespace).map(AsRef::as_ref);
                space.map(|space| (space, rest)).into_iter().collect()
            }
            (None, Some(suffix)) => {
                others(&|name| name.ends_with(suffix)).into_iter().map(|space| (space, "*")).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The Service of a namespace that a host without the namespace spells; below it, the Pods of a headless one.
    fn among(self, space: &'a Namespace, text: &str) -> Option<&'a Service> {
        if !text.starts_with('*') && !text.contains('.') {
            return space.services.get(text).map(AsRef::as_ref);
        }
        if let Some((pod, name)) = text.rsplit_once('.') {
            let service = space.services.get(name).map(AsRef::as_ref);
            return service.filter(|service| service.headless && !pod.contains('.'));
        }
        let mut services = space.services.values().map(AsRef::as_ref);
        services.find(|service: &&Service| Form(text).covers(service.meta.name()))
    }

    /// The Service that has an address: a cluster IP, or that of a Pod behind a headless Service.
    pub(crate) fn at(self, address: IpAddr) -> Option<&'a Service> {
        let address = address.to_canonical();
        let owners = self.snapshot.cluster_ips.get(&address).into_iter().flatten();
        let by_cluster_ip = owners.filter_map(|owner| self.service(owner)).next();
        by_cluster_ip.or_else(|| {
            let spaces = self.snapshot.namespaces.iter().filter(|(name, _)| &***name != self.home);
            let pods = spaces.flat_map(|(_, space)| space.workloads.at_address(address));
            pods.filter(|one| is_pod(one)).find_map(|pod| self.snapshot.headless_of(pod).next())
        })
    }

    /// The addresses in a block that Services have, with each of their ports, and the Service of each.
    pub(crate) fn within(self, block: IpNet) -> impl Iterator<Item = (SocketAddr, &'a Service)> {
        let range = block.network()..=block.broadcast();
        let by_cluster_ip = self.snapshot.cluster_ips.range(range.clone());
        let owned = by_cluster_ip.flat_map(move |(address, owners)| {
            owners.iter().filter_map(move |owner| Some((*address, self.service(owner)?)))
        });
        let spaces = self.snapshot.namespaces.iter().filter(move |(name, _)| &***name != self.home);
        let pods = spaces.flat_map(move |(_, space)| space.workloads.within(range.clone()));
        let headless = pods.filter(|(_, one)| is_pod(one)).flat_map(move |(address, pod)| {
            self.snapshot.headless_of(pod).map(move |service| (address, service))
        });
        owned.chain(headless).flat_map(|(address, service)| {
            service.ports.iter().map(move |port| (SocketAddr::new(address, port.number), service))
        })
    }

    fn service(self, owner: &ObjectRef) -> Option<&'a Service> {
        let space =
            self.snapshot.namespaces.get(&owner.namespace).filter(|_| *owner.namespace != *self.home)?;
        space.services.get(&owner.name).map(AsRef::as_ref)
    }
}

fn is_pod(workload: &Workload) -> bool {
    workload.meta.object.kind == Kind::Pod
}
