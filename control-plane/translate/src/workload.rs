//! Our own type, `eastwest.v1.WorkloadTls`: the settings themselves, for proxies that decide by identity. The same
//! content as the report that users see.

use std::sync::Arc;

use eastwest_engine::{
    report::{self, InboundReport, Warning},
    settings::{Inbound, Mode, OutboundCluster, OutboundService, WorkloadTls},
};
use eastwest_model::{Name, policy::MutualTlsMode};
use eastwest_proto::eastwest::v1 as proto;
use eastwest_xds::{EncodedResource, TypeUrl};
use prost::Message;
use proto::{inbound::Mode as InboundMode, outbound::Mode as OutboundMode};

use crate::{
    facts::{Audience, ProxyFacts},
    origins::{self, Source},
    resource::Cache,
    type_builder::{Access, ProxyInputs, TypeBuilder},
};

/// The settings of each workload. A proxy gets those of its own, if it is not stock Envoy.
#[derive(Debug)]
pub(crate) struct WorkloadSettings;

impl TypeBuilder for WorkloadSettings {
    fn type_url(&self) -> TypeUrl {
        TypeUrl::WORKLOAD_TLS
    }

    fn sources(&self, settings: &WorkloadTls, _: &str) -> Vec<Source> {
        origins::of_inbound(settings, None)
    }

    fn of_proxy(&self, _: &mut Cache, proxy: &ProxyInputs<'_>) -> Vec<Arc<EncodedResource>> {
        let services = proxy.settings.outbound.services.values();
        let outbound = proxy.encoded_settings.get_or_init(|| encode_outbound(services));
        vec![Arc::new(encode(proxy.settings, outbound))]
    }

    fn access(&self, facts: ProxyFacts) -> Access {
        match facts.audience {
            Audience::Envoy => Access::None,
            Audience::Other => Access::Own,
        }
    }
}

/// The outbound part, encoded once for all workloads of a client scope: protobuf messages concatenate.
fn encode_outbound<'a>(services: impl Iterator<Item = &'a Arc<OutboundService>>) -> Vec<u8> {
    let clusters = services.flat_map(|service| &service.clusters);
    let outbound = clusters.map(|cluster| outbound(cluster)).collect();
    proto::WorkloadTls { outbound, ..Default::default() }.encode_to_vec()
}

/// The resource of a workload.
fn encode(settings: &WorkloadTls, outbound: &[u8]) -> EncodedResource {
    let name = settings.workload.to_string();
    let own = proto::WorkloadTls {
        workload: name.clone(),
        identity: settings.identity.to_string(),
        inbound: Some(inbound(&settings.inbound)),
        warnings: settings.warnings.iter().cloned().map(Warning::from).map(warning).collect(),
        ..Default::default()
    };
    let mut body = own.encode_to_vec();
    body.extend_from_slice(outbound);
    EncodedResource::new(TypeUrl::WORKLOAD_TLS, &name, &body)
}

fn warning(warning: Warning) -> proto::Warning {
    let Warning { object, message, beaten_by } = warning;
    proto::Warning { object, message, beaten_by: beaten_by.map(|winner| winner.to_string()) }
}

fn inbound(settings: &Inbound) -> proto::Inbound {
    let InboundReport { default, policy, ports, mut port_policies } = report::inbound(settings);
    let mut port = |number, mode| {
        let policy = port_policies.remove(&number).map(|policy| policy.to_string());
        proto::inbound::Port { mode: inbound_mode(mode) as i32, policy }
    };
    proto::Inbound {
        default_mode: inbound_mode(default) as i32,
        policy: policy.map(|policy| policy.to_string()),
        ports: ports.into_iter().map(|(number, mode)| (number.into(), port(number, mode))).collect(),
    }
}

fn outbound(cluster: &OutboundCluster) -> proto::Outbound {
    let report = report::outbound(cluster);
    let names = |names: Vec<Name>| names.iter().map(ToString::to_string).collect();
    let endpoints = report.endpoints.into_iter().flatten();
    proto::Outbound {
        host: report.host,
        port: report.port.into(),
        subset: report.subset.as_deref().map(str::to_owned),
        mode: outbound_mode(report.mode) as i32,
        sni: report.sni.as_deref().map(str::to_owned),
        subject_alt_names: report.subject_alt_names.map(|list| proto::SubjectAltNames { names: names(list) }),
        policy: report.policy.map(|policy| policy.to_string()),
        endpoints: endpoints.map(|(address, mode)| (address, outbound_mode(mode) as i32)).collect(),
    }
}

fn inbound_mode(mode: MutualTlsMode) -> InboundMode {
    match mode {
        MutualTlsMode::Strict => InboundMode::Strict,
        MutualTlsMode::Permissive => InboundMode::Permissive,
        MutualTlsMode::Disable => InboundMode::Disable,
    }
}

fn outbound_mode(mode: Mode) -> OutboundMode {
    match mode {
        Mode::Disable => OutboundMode::Disable,
        Mode::Simple => OutboundMode::Simple,
        Mode::Mutual => OutboundMode::Mutual,
        Mode::IstioMutual => OutboundMode::IstioMutual,
        Mode::Auto => OutboundMode::Auto,
    }
}
