//! Our own type, `eastwest.v1.WorkloadTls`: the settings themselves, for proxies that decide by identity.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_engine::settings::{
    ClientTlsSetting, Endpoint, EndpointAddress, Inbound, OutboundCluster, OutboundService, WorkloadTls,
};
use eastwest_model::{Name, policy::MutualTlsMode};
use eastwest_proto::eastwest::v1 as proto;
use eastwest_xds::{EncodedResource, TypeUrl};
use prost::Message;
use proto::{inbound::Mode as InboundMode, outbound::Mode as OutboundMode};

/// The outbound part, encoded once for all workloads of a client scope: protobuf messages concatenate.
pub(crate) fn encode_outbound<'a>(services: impl Iterator<Item = &'a Arc<OutboundService>>) -> Vec<u8> {
    let clusters = services.flat_map(|service| &service.clusters);
    let outbound = clusters.map(|cluster| destination(cluster)).collect();
    proto::WorkloadTls { outbound, ..Default::default() }.encode_to_vec()
}

/// The resource of a workload.
pub(crate) fn encode(settings: &WorkloadTls, outbound: &[u8]) -> EncodedResource {
    let name = settings.workload.to_string();
    let own = proto::WorkloadTls {
        workload: name.clone(),
        identity: settings.identity.to_string(),
        inbound: Some(inbound(&settings.inbound)),
        ..Default::default()
    };
    let mut body = own.encode_to_vec();
    body.extend_from_slice(outbound);
    EncodedResource::new(TypeUrl::WORKLOAD_TLS, &name, &body)
}

fn inbound(inbound: &Inbound) -> proto::Inbound {
    let printed = inbound.ports.iter().filter(|(_, port)| port.named_by_policy || port.mode != inbound.mode);
    let ports = printed.map(|(number, port)| {
        let policy = port.policy.as_ref().map(ToString::to_string);
        (u32::from(*number), proto::inbound::Port { mode: mode(port.mode) as i32, policy })
    });
    proto::Inbound {
        default_mode: mode(inbound.mode) as i32,
        policy: inbound.policy.as_ref().map(ToString::to_string),
        ports: ports.collect(),
    }
}

fn mode(mode: MutualTlsMode) -> InboundMode {
    match mode {
        MutualTlsMode::Strict => InboundMode::Strict,
        MutualTlsMode::Permissive => InboundMode::Permissive,
        MutualTlsMode::Disable => InboundMode::Disable,
    }
}

fn destination(cluster: &OutboundCluster) -> proto::Outbound {
    let (mode, sni, names): (_, Option<&Name>, &[Name]) = match &cluster.tls {
        ClientTlsSetting::Disable => (OutboundMode::Disable, None, &[]),
        ClientTlsSetting::Auto(tls) => (OutboundMode::Auto, Some(&tls.sni), &tls.subject_alt_names),
        ClientTlsSetting::IstioMutual(tls) => {
            (OutboundMode::IstioMutual, Some(&tls.sni), &tls.subject_alt_names)
        }
        ClientTlsSetting::Simple(tls) => (OutboundMode::Simple, tls.sni.as_ref(), &tls.subject_alt_names),
        ClientTlsSetting::Mutual(tls) => (OutboundMode::Mutual, tls.sni.as_ref(), &tls.subject_alt_names),
    };
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    proto::Outbound {
        host: cluster.host.to_string(),
        port: cluster.port.number.into(),
        subset: cluster.subset.as_deref().map(str::to_owned),
        mode: mode as i32,
        sni: sni.map(ToString::to_string),
        subject_alt_names: (!names.is_empty()).then_some(proto::SubjectAltNames { names }),
        policy: cluster.policy.as_ref().map(ToString::to_string),
        endpoints: if mode == OutboundMode::Auto { endpoints(&cluster.endpoints) } else { BTreeMap::new() },
    }
}

fn endpoints(endpoints: &[Endpoint]) -> BTreeMap<String, i32> {
    let address = |address: &EndpointAddress| match address {
        EndpointAddress::Socket(socket) => socket.to_string(),
        EndpointAddress::Dns { host, port } => format!("{host}:{port}"),
    };
    let mode = |mutual| if mutual { OutboundMode::IstioMutual } else { OutboundMode::Disable };
    endpoints.iter().map(|one| (address(&one.address), mode(one.mutual_tls) as i32)).collect()
}
