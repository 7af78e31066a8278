//! World in, settings out; one file for each concern.

pub(crate) mod access;
mod accounts;
mod alike;
mod auto_mtls;
pub(crate) mod credentials;
mod destination_rule;
pub(crate) mod endpoints;
mod inbound;
pub(crate) mod listed_ports;
mod merge;
pub(crate) mod originate;
mod outbound;
pub(crate) mod peer_authentication;
mod protection;
pub(crate) mod registry;
mod traffic_policy;

use std::sync::Arc;

use eastwest_model::{IdentityError, SpiffeId, Workload, WorkloadKey};

use crate::{
    ClientScope, Snapshot,
    settings::{Outbound, WorkloadTls},
};

pub use inbound::inbound;
pub use outbound::{are_beside, outbound, outbound_beside, outbound_service};
pub use protection::weakened;

/// The identity of a workload: its service account, `default` where it names none.
///
/// # Errors
/// A namespace or service account that Kubernetes would not have let through.
pub fn identity(snapshot: &Snapshot, workload: &Workload) -> Result<SpiffeId, IdentityError> {
    let account = workload.service_account.as_deref().unwrap_or("default");
    SpiffeId::workload(&snapshot.mesh.trust_domain, workload.meta.namespace(), account)
}

/// Whether a workload has a proxy of the mesh, by its label or, for a WorkloadEntry, its service account
/// (POLICY.md A4).
pub fn has_proxy(workload: &Workload) -> bool {
    endpoints::mark_of_workload(workload) != endpoints::Mark::Disabled
}

/// The scope whose outbound settings the workload shares.
pub fn client_scope(snapshot: &Snapshot, workload: &Workload) -> ClientScope {
    ClientScope::of(snapshot, workload)
}

/// Everything about one workload but its warnings; `None` if there is no such workload, or it has no valid identity.
pub fn workload_tls(snapshot: &Snapshot, key: &WorkloadKey) -> Option<WorkloadTls> {
    workload_tls_with(snapshot, key, |scope| Arc::new(outbound(snapshot, &scope)))
}

/// The same, with the outbound settings of its scope from `outbound`.
pub fn workload_tls_with(
    snapshot: &Snapshot,
    key: &WorkloadKey,
    outbound: impl FnOnce(ClientScope) -> Arc<Outbound>,
) -> Option<WorkloadTls> {
    let workload = snapshot.workload(key)?;
    Some(WorkloadTls {
        workload: key.clone(),
        identity: identity(snapshot, workload).ok()?,
        inbound: Arc::new(inbound(snapshot, workload)),
        outbound: outbound(client_scope(snapshot, workload)),
        warnings: Vec::new(),
    })
}
