//! The identities that a host's servers may have (POLICY.md O4).

use std::collections::BTreeSet;

use eastwest_model::{Name, SpiffeId, TrustDomain};

use super::{endpoints::Backend, registry::View};
use crate::Snapshot;

/// Annotations of a Service that name further identities: complete ones, and service accounts of its namespace.
const CANONICAL_ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
const KUBERNETES_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";

/// O4: the sorted union over all endpoints of the host, of any port, ready or not, in the mesh or not, with what
/// its owner adds; each SPIFFE name of a workload also in every trust domain alias, other names stay single.
pub(crate) fn of(snapshot: &Snapshot, view: &View<'_>, backends: &[Backend]) -> Vec<Name> {
    let mesh = &snapshot.mesh;
    let identity = |account: &str| SpiffeId::workload(&mesh.trust_domain, view.namespace(), account).ok();
    let accounts = backends.iter().filter_map(|backend| backend.account.as_deref());
    let annotated = annotation(view, KUBERNETES_ACCOUNTS);
    let mut names: BTreeSet<Name> =
        accounts.chain(annotated).filter_map(identity).map(|id| id.as_str().into()).collect();
    names.extend(annotation(view, CANONICAL_ACCOUNTS).map(Name::from));
    names.extend(view.entries.iter().flat_map(|entry| entry.subject_alt_names.iter().cloned()));
    let aliases: Vec<Name> =
        names.iter().flat_map(|name| in_aliases(name, &mesh.trust_domain_aliases)).collect();
    names.extend(aliases);
    names.into_iter().collect()
}

fn annotation<'a>(view: &View<'a>, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let value = view.service.and_then(|service| service.meta.annotations.get(key));
    value.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|one| !one.is_empty())
}

fn in_aliases(name: &str, aliases: &[TrustDomain]) -> Vec<Name> {
    let Ok(id) = SpiffeId::parse(name) else { return Vec::new() };
    let Ok((namespace, account)) = id.as_workload() else { return Vec::new() };
    let renamed = aliases.iter().filter_map(|alias| SpiffeId::workload(alias, namespace, account).ok());
    renamed.map(|id| id.as_str().into()).collect()
}
