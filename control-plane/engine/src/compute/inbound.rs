//! What a workload accepts from its callers.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_model::{ObjectRef, Workload, policy::PeerAuthentication, service::Protocol};

use super::{access, listed_ports, peer_authentication as policies};
use crate::{
    Snapshot,
    settings::{Inbound, InboundPort},
    trace::{Step, Trace},
};

/// The inbound settings of a workload. They are its own: two workloads of one Service may differ (POLICY.md P9).
pub fn inbound(snapshot: &Snapshot, workload: &Workload) -> Inbound {
    let (namespace, labels) = (workload.meta.namespace(), &workload.meta.labels);
    let chosen = policies::choose(snapshot, namespace, labels);
    let steps = chosen.steps(snapshot, namespace, labels);
    let listed = listed_ports::of(snapshot, workload);
    let (mode, policy) = chosen.mode();
    let numbers = listed.keys().copied().chain(chosen.named_ports());
    let ports: BTreeMap<u16, InboundPort> =
        numbers.map(|number| (number, port(&chosen, number, listed.get(&number).copied(), &steps))).collect();
    let mesh = &snapshot.mesh;
    Inbound {
        mode,
        policy: reference(policy),
        trace: Trace::new(steps, Arc::default()),
        ports,
        trust_domains: mesh.trust_domains().cloned().collect(),
        min_tls_version: mesh.min_tls_version,
        access_log_file: mesh.access_log_file.clone(),
        access: Arc::new(access::access(snapshot, workload)),
    }
}

fn reference(policy: Option<&Arc<PeerAuthentication>>) -> Option<ObjectRef> {
    policy.map(|policy| policy.meta.object.clone())
}

/// P8: entries are keyed by container port and hold for ports of no Service too.
fn port(
    chosen: &policies::Chosen<'_>,
    number: u16,
    listed: Option<Protocol>,
    workload_steps: &Arc<[Step]>,
) -> InboundPort {
    let (mode, policy) = chosen.mode_of_port(number);
    InboundPort {
        mode,
        policy: reference(policy),
        trace: chosen.trace_of_port(number, workload_steps),
        named_by_policy: chosen.named_ports().any(|named| named == number),
        listed,
    }
}
