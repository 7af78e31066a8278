//! Ports of undeclared protocol, on which nobody can promise that an application is told true identities.

use std::collections::{BTreeMap, BTreeSet};

use eastwest_model::{
    Diagnostic, Meta, ObjectRef, Origin, Workload,
    service::{Protocol, ServicePort},
};

use super::warning;
use crate::{
    Snapshot,
    compute::{self, listed_ports},
    settings::Inbound,
};

/// Objects that list such ports, and the numbers of these ports.
#[derive(Debug, Default)]
pub(super) struct Undeclared<'a>(BTreeMap<&'a ObjectRef, (&'a Origin, BTreeSet<u16>)>);

impl<'a> Undeclared<'a> {
    /// Notes what is listed for a workload. One without a proxy is told no identity by anybody.
    pub(super) fn note(&mut self, snapshot: &'a Snapshot, workload: &'a Workload, inbound: &Inbound) {
        if !compute::has_proxy(workload) {
            return;
        }
        let carried_as_either = |container_port: u16| {
            inbound.ports.get(&container_port).is_some_and(|port| port.listed == Some(Protocol::Undeclared))
        };
        let space = snapshot.namespace(workload.meta.namespace());
        for service in space.services.selecting(&workload.meta.labels) {
            let target = |port: &ServicePort| listed_ports::target_port(workload, port);
            self.note_ports(&service.meta, &service.ports, |port| {
                target(port).is_some_and(carried_as_either)
            });
        }
        for entry in space.service_entries.selecting(&workload.meta.labels) {
            let target = |port: &ServicePort| listed_ports::entry_port(workload, port);
            self.note_ports(&entry.meta, &entry.ports, |port| carried_as_either(target(port)));
        }
    }

    fn note_ports(
        &mut self,
        meta: &'a Meta,
        ports: &[ServicePort],
        concerned: impl Fn(&ServicePort) -> bool,
    ) {
        let found = ports.iter().filter(|port| port.protocol == Protocol::Undeclared && concerned(port));
        for port in found {
            let (_, numbers) = self.0.entry(&meta.object).or_insert((&meta.origin, BTreeSet::new()));
            numbers.insert(port.number);
        }
    }

    /// One finding for each object.
    pub(super) fn findings(self) -> impl Iterator<Item = Diagnostic> {
        self.0.into_iter().map(|(object, (origin, numbers))| {
            let listed = numbers.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            let (ports, declare) = if numbers.len() == 1 { ("port", "declares") } else { ("ports", "declare") };
            let message = format!(
                "{ports} {listed} {declare} no protocol: a caller whose HTTP the proxy does not recognise reaches the \
                 application unread and may write any X-Forwarded-Client-Cert: name the port http-…, grpc-… or tcp-…, \
                 or set appProtocol (rule I8)"
            );
            warning(object, origin, "spec.ports", message)
        })
    }
}
