//! The port of a call, by its number or by its name.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use eastwest_model::{
    Host, Name,
    names::is_dns_label,
    service::{ServicePort, TargetPort},
};

use super::{Caller, ExplainError, target};

/// A port as somebody names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// The number that is dialled, 1 to 65535.
    Number(u16),
    /// The name that the Service, ServiceEntry or container gives to it.
    Named(Name),
}

impl From<u16> for Port {
    fn from(number: u16) -> Self {
        Self::Number(number)
    }
}

impl FromStr for Port {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.parse() {
            Ok(0) => Err(()),
            Ok(number) => Ok(Self::Number(number)),
            Err(_) if is_dns_label(text) && text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                Ok(Self::Named(text.into()))
            }
            Err(_) => Err(()),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// Ports with their names, empty for a port that has none.
type Known = BTreeSet<(u16, Name)>;

impl Caller<'_> {
    /// The number of a port of what `asked` names.
    pub(crate) fn port_number(&self, asked: &str, port: &Port) -> Result<u16, ExplainError> {
        let name = match port {
            Port::Number(number) => return Ok(*number),
            Port::Named(name) => name,
        };
        let (known, host) = match target::address(asked) {
            Some(address) => (self.ports_at(address), None),
            None => {
                let host = self.host_of(asked)?;
                (host.as_ref().map(|host| self.ports_of_host(host)).unwrap_or_default(), host)
            }
        };
        let found = known.iter().find(|(_, one)| one == name).map(|(number, _)| *number);
        found.ok_or_else(|| ExplainError::UnknownPortName {
            asked: asked.to_owned(),
            name: name.clone(),
            known: known.into_iter().collect(),
            hint: host.and_then(|host| self.by_target_port(&host, name)).unwrap_or_default(),
        })
    }

    /// The port of a Service that leads to the container port of that name.
    fn by_target_port(&self, host: &Host, name: &Name) -> Option<String> {
        let service = self.snapshot.service_of(host)?;
        let leads = |port: &&ServicePort| matches!(&port.target, TargetPort::Named(one) if one == name);
        let port = service.ports.iter().find(leads)?.number;
        Some(format!("; the container port {name:?} is behind port {port}"))
    }

    /// The ports behind an address: those of the hosts that have it, and of the workload there.
    fn ports_at(&self, address: IpAddr) -> Known {
        let owners = self.outbound.services.values().filter(|one| one.addresses.contains(&address));
        let clusters = owners.flat_map(|service| service.whole());
        let of_hosts = clusters.map(|cluster| (cluster.port.number, cluster.port.name.clone()));
        let workload = self.snapshot.workload_by_address(None, address);
        let ports = workload.into_iter().flat_map(|one| &one.container_ports);
        let of_workload = ports.map(|one| (one.port, one.name.clone().unwrap_or_default()));
        of_hosts.chain(of_workload).collect()
    }

    /// The host that a name stands for.
    fn host_of(&self, asked: &str) -> Result<Option<Host>, ExplainError> {
        // Any port will do to find out whom the name means.
        match self.target(asked, 1) {
            Ok(target) => Ok(target.host),
            Err(ExplainError::UnknownPort { host, .. }) => Ok(Some(host)),
            Err(error) => Err(error),
        }
    }

    fn ports_of_host(&self, host: &Host) -> Known {
        let seen = self.view(host).map(|view| view.ports).unwrap_or_default();
        let written = self.snapshot.service_of(host).map(|service| service.ports.clone()).unwrap_or_default();
        seen.into_iter().chain(written).map(|port| (port.number, port.name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_or_names() {
        assert_eq!("80".parse(), Ok(Port::Number(80)));
        assert_eq!("grpc-web".parse(), Ok(Port::Named("grpc-web".into())));
        for wrong in ["", "0", "65536", "-1", "http_", "a b", "HTTP", "1-2"] {
            assert_eq!(wrong.parse::<Port>(), Err(()), "{wrong}");
        }
    }
}
