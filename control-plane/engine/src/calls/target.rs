//! What HOST:PORT means to a client: the addresses that are dialled, and the first bytes.

use std::net::{IpAddr, SocketAddr};

use eastwest_model::{Host, Kind, ObjectRef, service::Protocol};

use super::{Caller, ExplainError, names};
use crate::{
    address::url_host,
    compute::{
        endpoints, listed_ports,
        registry::{self, View},
    },
    listeners::FirstBytes,
    settings::OutboundCluster,
};

/// What HOST:PORT means to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The name or address, as asked for.
    pub(crate) asked: String,
    /// The port.
    pub(crate) port: u16,
    /// The host that the name stands for, after aliases; `None` for addresses, and for what the client does not see.
    pub(crate) host: Option<Host>,
    /// Its addresses; `None` = one that nothing in the mesh has. Empty = the name has no address.
    pub(crate) addresses: Vec<Option<IpAddr>>,
    /// One endpoint is meant, ready or not: an address, or the name of a pod below a headless Service.
    pub(crate) is_exact: bool,
    /// What the application sends first: by the protocol that the port declares.
    pub(crate) first_bytes: FirstBytes,
    /// Why no service is known, where none is.
    pub(crate) stranger: Option<Stranger>,
}

/// A target that no service visible to the client describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// Nothing is known of it.
    Unknown,
    /// The host exists, and the client does not see it.
    Hidden(Host),
    /// An ExternalName alias of a host that no service describes.
    AliasOf(Host),
    /// ExternalName aliases that lead in a circle.
    Circle,
}

/// The address, if it is one; an IPv6 address may stand in brackets.
pub(crate) fn address(asked: &str) -> Option<IpAddr> {
    asked.trim_matches(['[', ']']).parse().ok()
}

impl Caller<'_> {
    /// What HOST:PORT means: a service's short or full name, a pod's name below a headless Service, a wildcard's
    /// instance, or an address.
    pub(crate) fn target(&self, asked: &str, port: u16) -> Result<Target, ExplainError> {
        if let Some(address) = address(asked) {
            return Ok(self.at_address(address, port));
        }
        let name = asked.trim_end_matches('.').to_ascii_lowercase();
        let candidates = names::candidates(self.snapshot, self.scope.namespace(), &name);
        if let Some(host) = candidates.iter().find(|one| self.exists(one)) {
            return self.of_host(host, &name, port);
        }
        if let Some(target) = candidates.iter().find_map(|one| self.of_pod(one, &name, port)) {
            return Ok(target);
        }
        if let Some(target) = self.of_wildcard(&name, port) {
            return Ok(target);
        }
        let below = candidates.iter().find_map(|one| names::below_headless(self.snapshot, one));
        if let Some((pod, host, known)) = below {
            return Err(ExplainError::UnknownPod { pod: pod.to_owned(), host, known });
        }
        if names::is_outside(self.snapshot, &name) {
            return Ok(outsider(&name, port, Stranger::Unknown));
        }
        let similar = names::similar(self.snapshot, self.scope, &name);
        let namespace = self.scope.namespace().clone();
        Err(ExplainError::UnknownHost { asked: asked.to_owned(), namespace, similar })
    }

    /// The target that the name and port of a cluster mean, from its settings alone; `None` if several objects claim the
    /// name, or an alias has it.
    pub(super) fn own_target(&self, cluster: &OutboundCluster) -> Option<Target> {
        let host = &cluster.host;
        let service = self.outbound.services.get(host)?;
        let alias = || self.snapshot.service_of(host).is_some_and(|one| one.external_name.is_some());
        if self.snapshot.hosts.get(host).is_none_or(|owners| owners.len() > 1) || alias() {
            return None;
        }
        let addresses = match (service.owner.kind, service.addresses.is_empty()) {
            (Kind::Service, false) => service.addresses.iter().copied().map(Some).collect(),
            (Kind::Service, true) => {
                let clusters = service.whole().flat_map(|cluster| &cluster.endpoints);
                names::of_pods(clusters.map(|one| (one.ready, one.address.ip())), self.outbound.families)
            }
            _ => names::of_entry(&service.addresses, &service.blocks),
        };
        let (name, port) = (host.as_str(), cluster.port.number);
        Some(Target {
            asked: name.to_owned(),
            port,
            host: Some(host.clone()),
            addresses,
            is_exact: false,
            first_bytes: first_bytes(Some(name), port, Some(cluster.port.protocol)),
            stranger: None,
        })
    }

    /// A host that some object describes, or an alias.
    fn exists(&self, host: &Host) -> bool {
        self.is_claimed(host) || self.snapshot.service_of(host).is_some_and(|one| one.external_name.is_some())
    }

    /// A host that a Service describes, or an entry that does not leave it to one (POLICY.md D12).
    fn is_claimed(&self, host: &Host) -> bool {
        let client = self.scope.namespace();
        let left = |owner: &ObjectRef| {
            let reserved = self.snapshot.reserved_from(&owner.namespace, client);
            owner.kind == Kind::ServiceEntry
                && reserved.is_some_and(|reserved| reserved.by_name(host, Some(client)).is_some())
        };
        self.snapshot.hosts.get(host).is_some_and(|owners| !owners.iter().all(left))
    }

    pub(super) fn view(&self, host: &Host) -> Option<View<'_>> {
        let (host, _) = self.snapshot.hosts.get_key_value(host)?;
        registry::view(self.snapshot, self.scope, host)
    }

    /// A host by its own name, or an alias of it.
    fn of_host(&self, named: &Host, name: &str, port: u16) -> Result<Target, ExplainError> {
        let alias = self.snapshot.service_of(named).filter(|service| service.external_name.is_some());
        let led_on = alias.and_then(|alias| self.snapshot.alias_chain(alias).pop());
        let host = led_on.as_ref().unwrap_or(named);
        let view = self.view(host);
        let stranger = match (&view, alias) {
            (Some(_), _) => None,
            (None, Some(_))
                if self.snapshot.service_of(host).is_some_and(|it| it.external_name.is_some()) =>
            {
                Some(Stranger::Circle)
            }
            (None, _) if self.snapshot.hosts.contains_key(host) => Some(Stranger::Hidden(host.clone())),
            (None, _) => return Ok(outsider(name, port, Stranger::AliasOf(host.clone()))),
        };
        let declared = self.declared(host, view.as_ref(), port)?;
        Ok(Target {
            asked: name.to_owned(),
            port,
            addresses: names::addresses(self.snapshot, host, view.as_ref(), self.outbound.families),
            host: view.map(|view| view.host.clone()),
            is_exact: false,
            first_bytes: first_bytes(Some(name), port, declared),
            stranger,
        })
    }

    /// A pod by its name below a headless Service.
    fn of_pod(&self, candidate: &Host, name: &str, port: u16) -> Option<Target> {
        let (service, addresses) = names::pod(self.snapshot, candidate)?;
        let host = self.snapshot.host_of(&service.meta.object);
        let seen = self.view(&host).map(|view| view.host.clone());
        let declared = service.ports.iter().find(|one| one.number == port).map(|one| one.protocol);
        Some(Target {
            asked: name.to_owned(),
            port,
            stranger: seen.is_none().then_some(Stranger::Hidden(host)),
            host: seen,
            addresses: addresses.into_iter().map(Some).collect(),
            is_exact: true,
            first_bytes: first_bytes(Some(name), port, declared),
        })
    }

    /// A name that a wildcard covers; the longest one counts.
    fn of_wildcard(&self, name: &str, port: u16) -> Option<Target> {
        let host = Host::new(name);
        let mut covering: Vec<&Host> = self
            .outbound
            .services
            .keys()
            .filter(|known| known.wildcard_suffix().is_some() && known.covers(&host))
            .collect();
        covering.sort_by_key(|host| std::cmp::Reverse(host.as_str().len()));
        let view = covering.into_iter().find_map(|host| self.view(host))?;
        let declared = view.ports.iter().find(|one| one.number == port).map(|one| one.protocol);
        Some(Target {
            asked: name.to_owned(),
            port,
            addresses: names::addresses(self.snapshot, view.host, Some(&view), self.outbound.families),
            host: Some(view.host.clone()),
            is_exact: false,
            first_bytes: first_bytes(Some(name), port, declared),
            stranger: None,
        })
    }

    fn at_address(&self, address: IpAddr, port: u16) -> Target {
        let services = self.outbound.services.values();
        let mut owners = services.filter(|service| {
            service.addresses.contains(&address)
                || service.blocks.iter().any(|block| block.contains(&address))
                    && !service.spared.contains(&SocketAddr::new(address, port))
        });
        let by_owner = owners.find_map(|service| service.on_port(port).map(|cluster| cluster.port.protocol));
        let by_pod = || {
            let workload = self.snapshot.workload_by_address(None, address)?;
            listed_ports::of(self.snapshot, workload).get(&port).copied()
        };
        let declared = by_owner.or_else(by_pod);
        let first_bytes = match declared {
            Some(Protocol::Http | Protocol::Http2 | Protocol::Undeclared) => {
                FirstBytes::Http { authority: authority(&url_host(address), port) }
            }
            Some(Protocol::Tls) => FirstBytes::Tls { server_name: None },
            Some(Protocol::Tcp) | None => FirstBytes::Other,
        };
        Target {
            asked: address.to_string(),
            port,
            host: None,
            addresses: vec![Some(address)],
            is_exact: true,
            first_bytes,
            stranger: Some(Stranger::Unknown),
        }
    }

    /// What the port of a host carries, `None` if it has no such port and may still be called there. A Service with an
    /// address of its own answers on its ports alone.
    fn declared(
        &self,
        host: &Host,
        view: Option<&View<'_>>,
        port: u16,
    ) -> Result<Option<Protocol>, ExplainError> {
        let service = self.snapshot.service_of(host).filter(|service| service.external_name.is_none());
        let seen = view.map(|view| view.ports.iter()).into_iter().flatten();
        let written = service.map(|service| service.ports.iter()).into_iter().flatten();
        let found = seen.chain(written).find(|one| one.number == port).map(|one| one.protocol);
        match service {
            Some(service) if found.is_none() && !service.headless => {
                let backends = endpoints::of_kubernetes(self.snapshot, service);
                let behind = backends.iter().find(|backend| backend.port() == port);
                let meant =
                    behind.and_then(|one| service.ports.iter().find(|port| port.name == one.port_name));
                let hint = meant
                    .map(|one| format!("; {port} is the container port behind service port {}", one.number));
                let known = service.ports.iter().map(|port| port.number).collect();
                Err(ExplainError::UnknownPort {
                    host: host.clone(),
                    port,
                    known,
                    hint: hint.unwrap_or_default(),
                })
            }
            _ => Ok(found),
        }
    }
}

/// A host that no object describes.
fn outsider(name: &str, port: u16, stranger: Stranger) -> Target {
    // Nothing says what is sent; these are what clients usually send.
    let declared = match port {
        80 => Some(Protocol::Http),
        443 => Some(Protocol::Tls),
        _ => None,
    };
    Target {
        asked: name.to_owned(),
        port,
        host: None,
        addresses: vec![None],
        is_exact: false,
        first_bytes: first_bytes(Some(name), port, declared),
        stranger: Some(stranger),
    }
}

fn first_bytes(name: Option<&str>, port: u16, declared: Option<Protocol>) -> FirstBytes {
    match (declared, name) {
        (Some(Protocol::Http | Protocol::Http2 | Protocol::Undeclared), Some(name)) => {
            FirstBytes::Http { authority: authority(name, port) }
        }
        (Some(Protocol::Tls), name) => FirstBytes::Tls { server_name: name.map(str::to_owned) },
        _ => FirstBytes::Other,
    }
}

/// A Host header: clients leave the port of HTTP out.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if port == 80 { host.to_owned() } else { format!("{host}:{port}") }
}
