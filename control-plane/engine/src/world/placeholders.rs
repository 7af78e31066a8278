//! What a cluster adds to manifests as they lie in git: the cluster IPs of Services, the Pods of a template, and their
//! sidecars.
//!
//! Questions are answered about a snapshot that is completed so. Nothing of it is ever sent to a proxy.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use eastwest_model::{Family, Workload, service::Service};

use super::{Namespace, Snapshot, objects::Store as _};

/// The first half of all IPv6 placeholders: the block of RFC 6666, of which every packet is dropped.
const DISCARD: u128 = 0x0100 << 112;

/// What is not known to have one family may have both.
const FAMILIES: [Family; 2] = [Family::IPv4, Family::IPv6];

impl Snapshot {
    /// The same mesh as a cluster would complete it: a Service without a cluster IP has one, and a template without Pods has
    /// addresses. Both are placeholders, which [`is_placeholder`] tells from addresses that are known.
    pub fn completed(&self) -> Self {
        let mut completed = self.clone();
        let mut next = 1..;
        let mut free = move || next.next().unwrap_or(u32::MAX);
        for (name, space) in &self.namespaces {
            if let Some(space) = complete(space, self.injecting.contains(name), &mut free) {
                completed.namespaces.insert(name.clone(), Arc::new(space));
            }
        }
        completed
    }
}

/// The namespace with placeholders, and with sidecars if its labels ask for them; `None` if nothing needs any.
fn complete(space: &Namespace, injects: bool, free: &mut impl FnMut() -> u32) -> Option<Namespace> {
    let services: Vec<&Arc<Service>> = space.services.values().filter(|one| one.lacks_cluster_ip()).collect();
    let templates: Vec<&Arc<Workload>> = space.workloads.values().filter(|one| one.lacks_pods()).collect();
    if services.is_empty() && templates.is_empty() {
        return None;
    }
    let mut completed = space.clone();
    for service in services {
        let number = free();
        let families = if service.families.is_empty() { &FAMILIES[..] } else { &service.families };
        let cluster_ips = families.iter().map(|family| placeholder(number, *family)).collect();
        let new = Service { cluster_ips, ..(**service).clone() };
        Arc::make_mut(&mut completed.services).insert(&service.meta.object, Arc::new(new));
    }
    for template in templates {
        let number = free();
        let addresses = FAMILIES.map(|family| placeholder(number, family)).to_vec();
        let sidecar = template.sidecar || injects && template.injection.is_none();
        let new = Workload { addresses, sidecar, ..(**template).clone() };
        Arc::make_mut(&mut completed.workloads).insert(&template.meta.object, Arc::new(new));
    }
    Some(completed)
}

/// An address that no host can have.
fn placeholder(number: u32, family: Family) -> IpAddr {
    match family {
        Family::IPv6 => Ipv6Addr::from(DISCARD | u128::from(number)).into(),
        // A network of its own, 0.0.0.0/8, which is never a destination (RFC 1122).
        Family::IPv4 => Ipv4Addr::from(number & 0x00ff_ffff).into(),
    }
}

/// Whether an address stands for one that is not known.
pub(crate) fn is_placeholder(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 0 && !address.is_unspecified(),
        IpAddr::V6(address) => u128::from(address) & !u128::from(u32::MAX) == DISCARD,
    }
}
