//! Hosts that the clients of two scopes see alike: their settings are computed once.

use eastwest_model::{Host, Name, service::ExportTo};

use super::registry::local_name;
use crate::{ClientScope, Snapshot};

/// Two scopes whose clients differ in their namespace alone, and what that namespace decides.
///
/// It is told of a host only where no question of POLICY.md depends on the client's namespace: nobody but one public
/// owner claims the host (D11), it is at home in neither namespace (O1), it has no aliases, and no rule is searched (D3).
pub(crate) struct Alike<'a> {
    snapshot: &'a Snapshot,
    namespaces: [&'a Name; 2],
}

impl<'a> Alike<'a> {
    /// `None` if more than their namespaces may differ.
    pub(crate) fn of(snapshot: &'a Snapshot, one: &'a ClientScope, other: &'a ClientScope) -> Option<Self> {
        let is_plain = |scope: &ClientScope| {
            let own_rules = &snapshot.namespace(scope.namespace()).destination_rules;
            scope.sidecar().is_none()
                && own_rules.values().next().is_none()
                && *scope.namespace() != snapshot.mesh.root_namespace
        };
        let same = one.certificate() == other.certificate() && one.families() == other.families();
        let root_rules = &snapshot.namespace(&snapshot.mesh.root_namespace).destination_rules;
        let none_of_root = root_rules.values().next().is_none();
        (same && none_of_root && is_plain(one) && is_plain(other))
            .then(|| Self { snapshot, namespaces: [one.namespace(), other.namespace()] })
    }

    /// Whether both see the host alike, or both do not see it.
    pub(crate) fn see(&self, host: &Host) -> bool {
        let Self { snapshot, namespaces } = self;
        let Some(owners) = snapshot.hosts.get(host) else { return true };
        let mut owners = owners.iter();
        let (Some(owner), None) = (owners.next(), owners.next()) else { return false };
        let space = snapshot.namespace(&owner.namespace);
        let service = space.services.get(&owner.name).map(|one| &one.export_to);
        let entry = space.service_entries.get(&owner.name).map(|one| &one.export_to);
        let is_public = |export_to: &ExportTo| match export_to {
            ExportTo::Default => true,
            ExportTo::Set(set) => set.contains("*"),
        };
        let is_at_home = |namespace: &str| namespaces.iter().any(|one| ***one == *namespace);
        service.into_iter().chain(entry).all(is_public)
            && !is_at_home(&owner.namespace)
            && !local_name(snapshot, host).is_some_and(|(_, namespace)| is_at_home(namespace))
            && !snapshot.aliases.contains_key(host)
            && space.destination_rules.values().next().is_none()
    }
}
