//! How the clients of a scope call others: hosts, their clusters and the setting of each.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_model::{
    Host, Name, ObjectRef,
    policy::{ClientTlsMode, Subset, TrafficPolicy},
    service::ServicePort,
    workload::ProxyCertificate,
};

use super::{
    accounts,
    alike::Alike,
    auto_mtls::{self, Verdict},
    credentials::{self, Handout},
    destination_rule::{self, Selection},
    endpoints::{self, Backend},
    merge::Merged,
    originate::{self, Context},
    registry::{self, View, is_visible, local_name},
    traffic_policy::{self, Effective},
};
use crate::{
    ClientScope, Snapshot,
    settings::{
        CertificateSource, ClientTlsSetting, Discovery, Endpoint, OriginatedTls, Outbound, OutboundCluster,
        OutboundService,
    },
    trace::{ClientTlsReason as Reason, Step, Trace},
};

/// The outbound settings of the clients of a scope.
pub fn outbound(snapshot: &Snapshot, scope: &ClientScope) -> Outbound {
    let services = registry::views(snapshot, scope)
        .map(|view| (view.host.clone(), Arc::new(service(snapshot, scope, view))))
        .collect();
    with_services(snapshot, scope, services)
}

fn with_services(
    snapshot: &Snapshot,
    scope: &ClientScope,
    services: BTreeMap<Host, Arc<OutboundService>>,
) -> Outbound {
    Outbound {
        services,
        families: scope.families(),
        unknown_hosts: scope.unknown_hosts(snapshot),
        access_log_file: snapshot.mesh.access_log_file.clone(),
    }
}

/// The same, beside those of another scope: what the clients of both see alike is the same object.
pub fn outbound_beside(
    snapshot: &Snapshot,
    scope: &ClientScope,
    (other, known): (&ClientScope, &Outbound),
) -> Outbound {
    let Some(alike) = Alike::of(snapshot, scope, other) else { return outbound(snapshot, scope) };
    let of_host = |host: &Host| match alike.see(host) {
        true => known.services.get(host).cloned(),
        false => outbound_service(snapshot, scope, host).map(Arc::new),
    };
    let services = snapshot.hosts().filter_map(|host| Some((host.clone(), of_host(host)?))).collect();
    with_services(snapshot, scope, services)
}

/// Whether [`outbound_beside`] finds anything that the clients of both scopes see alike.
pub fn are_beside(snapshot: &Snapshot, scope: &ClientScope, other: &ClientScope) -> bool {
    Alike::of(snapshot, scope, other).is_some()
}

/// One host as the clients of a scope see it, `None` if they do not.
pub fn outbound_service(snapshot: &Snapshot, scope: &ClientScope, host: &Host) -> Option<OutboundService> {
    let (host, _) = snapshot.hosts.get_key_value(host)?;
    registry::view(snapshot, scope, host).map(|view| service(snapshot, scope, view))
}

fn service(snapshot: &Snapshot, scope: &ClientScope, view: View<'_>) -> OutboundService {
    let backends = endpoints::of(snapshot, &view);
    let Selection { rule, steps } = destination_rule::select(snapshot, scope, &view);
    let builder = Builder {
        snapshot,
        client: scope.namespace(),
        own: scope.certificate(),
        view: &view,
        accounts: accounts::of(snapshot, &view, &backends),
        backends,
        rule,
        steps: view.steps.iter().cloned().chain(steps).collect(),
    };
    let mut ports: Vec<&ServicePort> = view.ports.iter().collect();
    ports.sort_by_key(|port| port.number);
    let clusters = ports.into_iter().flat_map(|port| builder.clusters(port)).map(Arc::new).collect();
    OutboundService {
        host: view.host.clone(),
        owner: view.owner.object.clone(),
        addresses: view.addresses.clone(),
        blocks: view.blocks.clone(),
        leaves_addresses: view.leaves_addresses,
        spared: view.spared.clone(),
        aliases: aliases(snapshot, scope.namespace(), &view),
        discovery: view.discovery,
        families: view.families,
        clusters,
    }
}

/// Everything that the clusters of a host have in common.
struct Builder<'a> {
    snapshot: &'a Snapshot,
    /// The clients' namespace.
    client: &'a Name,
    /// The certificate that their proxies bring along.
    own: Option<&'a ProxyCertificate>,
    view: &'a View<'a>,
    backends: Vec<Backend>,
    accounts: Vec<Name>,
    /// The DestinationRule that applies to the host.
    rule: Option<Merged<'a>>,
    /// How owner and rule were found.
    steps: Arc<[Step]>,
}

/// One cluster before its setting is known.
struct Draft<'a> {
    port: &'a ServicePort,
    subset: Option<&'a Subset>,
    effective: Effective<'a>,
    discovery: Discovery,
    /// The policy whose general load balancer the membership test reads (A5), and whose blocks mark endpoints (A6).
    own_policy: Option<&'a TrafficPolicy>,
}

impl<'a> Builder<'a> {
    /// The whole host, then its subsets by name; DNS clusters without an endpoint are left out (O1).
    fn clusters(&self, port: &'a ServicePort) -> Vec<OutboundCluster> {
        let rule = self.rule.as_ref();
        let effective = Effective::of_host(rule, port.number);
        let own_policy = rule.and_then(|rule| rule.traffic_policy).map(|(policy, _)| policy);
        if self.is_unresolvable(self.view.discovery, port, None) {
            return Vec::new();
        }
        let discovery = passed_through(self.view.discovery, effective.is_passthrough());
        let whole = Draft { port, subset: None, effective, discovery, own_policy };
        let mut clusters = vec![self.cluster(&whole)];
        if discovery != Discovery::DynamicForwardProxy {
            let subsets = rule.into_iter().flat_map(|rule| &rule.subsets);
            clusters.extend(subsets.filter_map(|(subset, source)| {
                let effective = effective.of_subset(subset, source, port.number);
                self.subset_cluster(&whole, subset, effective)
            }));
            clusters.sort_by(|a, b| a.subset.cmp(&b.subset));
        }
        clusters
    }

    fn subset_cluster(
        &self,
        whole: &Draft<'a>,
        subset: &'a Subset,
        effective: Effective<'a>,
    ) -> Option<OutboundCluster> {
        let own_policy = subset.traffic_policy.as_ref();
        let own_passthrough = is_passthrough(own_policy);
        let discovery = passed_through(whole.discovery, own_passthrough);
        if self.is_unresolvable(discovery, whole.port, Some(subset)) {
            return None;
        }
        let discovery = passed_through(discovery, effective.is_passthrough());
        let draft = Draft { port: whole.port, subset: Some(subset), effective, discovery, own_policy };
        Some(self.cluster(&draft))
    }

    fn is_unresolvable(&self, discovery: Discovery, port: &ServicePort, subset: Option<&Subset>) -> bool {
        matches!(discovery, Discovery::StrictDns | Discovery::LogicalDns)
            && self.backends(port, subset).next().is_none()
    }

    fn backends(&self, port: &ServicePort, subset: Option<&Subset>) -> impl Iterator<Item = &Backend> {
        self.backends.iter().filter(move |backend| {
            let in_subset = |subset: &Subset| {
                subset.labels.iter().all(|(key, value)| backend.labels.get(key) == Some(value))
            };
            backend.port_name == port.name && subset.is_none_or(in_subset)
        })
    }

    fn cluster(&self, draft: &Draft<'a>) -> OutboundCluster {
        let (tls, policy, last) = self.setting(draft);
        let marking = traffic_policy::marking_mode(draft.own_policy, draft.port.number);
        let lingering =
            marking.filter(|_| draft.effective.tls.is_none()).and_then(|mode| self.lingering(draft, mode));
        let Handout { secrets, steps: credentials } = match draft.effective.tls {
            Some((block, place)) => credentials::of(self.snapshot, self.client, (block, place.rule), &tls),
            None => Handout::default(),
        };
        let own = lingering.into_iter().chain(credentials).chain([last]).collect();
        let endpoint = |backend: &Backend| Endpoint {
            address: backend.address.clone(),
            // O1: the proxy looks names up itself, and what it finds carries no mark.
            mutual_tls: draft.discovery != Discovery::DynamicForwardProxy
                && auto_mtls::is_marked(self.snapshot, self.view.namespace(), backend, marking),
            ready: backend.ready,
            weight: backend.weight,
            workload: backend.workload.clone(),
        };
        let dialled = endpoints::within(self.backends(draft.port, draft.subset), self.view.families);
        OutboundCluster {
            host: self.view.host.clone(),
            port: draft.port.clone(),
            subset: draft.subset.map(|subset| subset.name.clone()),
            discovery: draft.discovery,
            tls,
            policy,
            traffic: draft.effective.settings(
                self.rule.as_ref(),
                (draft.subset.map(|subset| &subset.name), draft.port.number),
                &self.snapshot.mesh.traffic,
            ),
            trace: Trace::new(Arc::clone(&self.steps), own),
            endpoints: dialled.into_iter().map(endpoint).collect(),
            secrets,
        }
    }

    /// A6: the port entry took the block away, and the endpoints are still marked by it.
    fn lingering(&self, draft: &Draft<'a>, mode: ClientTlsMode) -> Option<Step> {
        let merged = self.rule.as_ref()?;
        let source = match draft.subset {
            Some(subset) => merged.subset(&subset.name)?.1,
            None => merged.traffic_policy?.1,
        };
        Some(Step::of(&source.meta, Reason::MarkedByReplacedBlock { port: draft.port.number, mode }))
    }

    /// T4: a block decides; without one, auto mutual TLS.
    fn setting(&self, draft: &Draft<'a>) -> (ClientTlsSetting, Option<ObjectRef>, Step) {
        let context = self.context(draft);
        if let Some((tls, place)) = draft.effective.tls {
            let source = place.rule;
            let setting = originate::by_block(&context, tls);
            let reason = match originate::is_withheld(&context, tls) {
                true => Reason::CredentialNeedsSelector { mode: tls.mode },
                false => {
                    Reason::Block { mode: tls.mode, own_certificate: own_certificate(&setting, self.own) }
                }
            };
            return (setting, Some(source.meta.object.clone()), Step::of(&source.meta, reason));
        }
        let members: Vec<&Backend> = self.backends(draft.port, None).collect();
        let verdict =
            auto_mtls::verdict(self.snapshot, self.view, is_passthrough(draft.own_policy), &members);
        let namespace = self.view.namespace().clone();
        match (verdict, self.own) {
            (Verdict::Plaintext(step), _) => (ClientTlsSetting::Disable, step.object.clone(), step),
            (Verdict::Mutual, Some(own)) => {
                let reason = Reason::NamespaceAcceptsOwnCertificate { namespace, chain: own.chain.clone() };
                (originate::by_own_certificate(&context, own), None, Step::inferred(reason))
            }
            (Verdict::Mutual, None) => {
                let tls = originate::automatic(&context);
                let setting = match draft.discovery {
                    // A5: no fallback for single endpoints where the caller's address is dialled.
                    Discovery::OriginalDst => ClientTlsSetting::IstioMutual(tls),
                    _ => ClientTlsSetting::Auto(tls),
                };
                (setting, None, Step::inferred(Reason::NamespaceAccepts { namespace }))
            }
        }
    }

    fn context<'b>(&'b self, draft: &Draft<'b>) -> Context<'b> {
        let rule = self.rule.as_ref();
        Context {
            mesh: &self.snapshot.mesh,
            host: self.view.host,
            port: draft.port.number,
            subset: draft.subset.map(|subset| &subset.name),
            discovery: draft.discovery,
            is_entry: self.view.service.is_none(),
            has_selector: rule.is_some_and(|rule: &Merged<'_>| rule.base.workload_selector.is_some()),
            accounts: &self.accounts,
            external: self.view.external,
            own: self.own,
        }
    }
}

/// O9: the chain of the proxy's own certificate, if the setting uses it.
fn own_certificate(setting: &ClientTlsSetting, own: Option<&ProxyCertificate>) -> Option<Name> {
    let ClientTlsSetting::Mutual(OriginatedTls { certificate: Some(source), .. }) = setting else {
        return None;
    };
    let CertificateSource::Files { certificate, .. } = source else { return None };
    own.map(|own| &own.chain).filter(|chain| *chain == certificate).cloned()
}

/// O1: PASSTHROUGH dials the caller's address, whatever the discovery of the host is.
fn passed_through(discovery: Discovery, passthrough: bool) -> Discovery {
    match discovery {
        Discovery::DynamicForwardProxy => discovery,
        _ if passthrough => Discovery::OriginalDst,
        _ => discovery,
    }
}

fn is_passthrough(policy: Option<&TrafficPolicy>) -> bool {
    policy.is_some_and(|policy| policy.blocks.is_passthrough())
}

/// The names by which the clients of a namespace may call the host, besides the host itself.
fn aliases(snapshot: &Snapshot, client: &Name, view: &View<'_>) -> Vec<Name> {
    let mut names = local_name(snapshot, view.host)
        .map(|(name, namespace)| short_names(name, namespace, client))
        .unwrap_or_default();
    for alias in snapshot.aliases_of(view.host) {
        let space = snapshot.namespace(&alias.namespace);
        let visible = space.services.get(&alias.name);
        if visible.is_some_and(|service| is_visible(&service.export_to, &alias.namespace, client)) {
            names.extend(short_names(&alias.name, &alias.namespace, client));
            names.push(snapshot.host_of(&alias).as_str().into());
        }
    }
    names
}

/// `reviews` at home, `reviews.shop` and `reviews.shop.svc` everywhere.
fn short_names(name: &str, namespace: &str, client: &Name) -> Vec<Name> {
    let longer = [format!("{name}.{namespace}").into(), format!("{name}.{namespace}.svc").into()];
    (*namespace == **client).then(|| name.into()).into_iter().chain(longer).collect()
}
