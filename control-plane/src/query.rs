//! Questions about the mesh, answered from one snapshot: by a command from a directory, or by the debug pages of a
//! running server. Both return the same JSON.

mod access;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use eastwest_engine::{
    Snapshot,
    compute::has_proxy,
    explain, lint, report,
    route::{self, Request, Scheme},
    settings::WorkloadTls,
};
use eastwest_kubernetes::Progress;
use eastwest_model::{Diagnostic, Families, Host, Workload, WorkloadKey};
use eastwest_proto::json::JsonError;
use eastwest_translate::{
    ResourceType, Source,
    render::{RenderedResource, render, sources},
};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    names::{HostName, TargetName, WorkloadName},
    request, suggest,
};

/// A question.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    /// The effective TLS settings of a workload.
    Tls(WorkloadName),
    /// One client-to-server pair.
    Explain {
        /// The calling workload.
        client: WorkloadName,
        /// What it calls.
        target: TargetName,
    },
    /// Where a request goes, and how.
    Route {
        /// The calling workload.
        client: WorkloadName,
        /// What it sends.
        request: Request,
    },
    /// May a call be made?
    Can(Box<CallQuestion>),
    /// All findings about the configuration.
    Check,
    /// The resources of a workload's proxy.
    Render {
        /// Whose.
        workload: WorkloadName,
        /// Of these types only; empty = all.
        types: Vec<ResourceType>,
        /// Whether the proxy has internal listeners, as that of `eastwest agent` does.
        internal_listeners: bool,
    },
    /// The resources of a workload's proxy with the objects that they come from; of one that is connected, what it may
    /// have now.
    Config {
        /// Whose.
        workload: WorkloadName,
        /// Of these types only; empty = all.
        types: Vec<ResourceType>,
        /// Whether the proxy has internal listeners. That of a connected proxy is known.
        internal_listeners: bool,
        /// Compare with what the connected proxy has accepted.
        diff: bool,
    },
}

/// The resources of one proxy.
#[derive(Serialize)]
pub(crate) struct ProxyConfig {
    /// Its workload.
    pub(crate) workload: WorkloadKey,
    /// The id of its node if it is connected; else the resources are those that it would get.
    pub(crate) proxy: Option<String>,
    /// By type in push order, then by name.
    pub(crate) resources: Vec<ConfiguredResource>,
    /// How they differ from what the proxy has accepted, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changes: Option<Value>,
}

/// A resource and the objects that it comes from.
#[derive(Serialize)]
pub(crate) struct ConfiguredResource {
    #[serde(flatten)]
    resource: RenderedResource,
    sources: Vec<Source>,
}

impl ConfiguredResource {
    /// `settings` are those of the proxy's workload.
    pub(crate) fn new(resource: RenderedResource, settings: &WorkloadTls) -> Self {
        let sources = sources(settings, &resource.resource_type.type_url(), &resource.name);
        Self { resource, sources }
    }
}

pub(crate) use access::{CallQuestion, CallerName};

/// Why a question cannot be answered.
#[derive(Debug, Error)]
pub(crate) enum QueryError {
    /// There is no workload of that name.
    #[error("no workload {workload} is known{hint}")]
    NoWorkload {
        /// The name.
        workload: WorkloadName,
        /// The workloads that exist.
        hint: String,
    },
    /// Several workloads have the address, as Pods in the network of their node do.
    #[error("{address} is the address of several workloads: name one of {}", .workloads.join(", "))]
    Ambiguous {
        /// The address.
        address: std::net::IpAddr,
        /// The workloads there.
        workloads: Vec<String>,
    },
    /// The workload has no address that could be called.
    #[error("{0} has no address: call it by the name of a Service")]
    NoAddress(WorkloadKey),
    /// The workload has no valid identity, so nothing is computed for it.
    #[error("workload {0} has no valid identity: its namespace or service account is malformed")]
    NoIdentity(WorkloadKey),
    /// The question is not well formed.
    #[error("{0}")]
    Malformed(String),
    /// The pair cannot be explained.
    #[error(transparent)]
    Explain(#[from] explain::ExplainError),
    /// A resource cannot be shown.
    #[error(transparent)]
    Resource(#[from] JsonError),
    /// There is no proxy to compare with.
    #[error("no proxy of {0} is connected: there is nothing to compare with; leave out --diff")]
    NotConnected(WorkloadKey),
    /// The answer cannot be written as JSON.
    #[error("the answer cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The frozen world, with what was found while reading it.
#[derive(Clone)]
pub(crate) struct World {
    /// The world.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Findings of the sources: what was refused and why.
    pub(crate) input: Arc<Vec<Diagnostic>>,
    /// How far the updates of the Kubernetes API have been taken in.
    pub(crate) progress: Progress,
}

/// The resources of a proxy that is not connected.
pub(crate) fn config(
    settings: WorkloadTls,
    types: &[ResourceType],
    internal_listeners: bool,
    diff: bool,
) -> Result<ProxyConfig, QueryError> {
    if diff {
        return Err(QueryError::NotConnected(settings.workload));
    }
    let rendered = render(&settings, types, internal_listeners)?.resources;
    let resources = rendered.into_iter().map(|one| ConfiguredResource::new(one, &settings)).collect();
    Ok(ProxyConfig { workload: settings.workload, proxy: None, resources, changes: None })
}

impl World {
    /// Answers a question.
    ///
    /// # Errors
    /// An unknown workload, host or port, with the names that come close.
    pub(crate) fn answer(&self, question: &Question) -> Result<Value, QueryError> {
        Ok(match question {
            Question::Tls(name) => {
                let key = self.workload(name)?.key();
                let report = report::tls_report(&self.snapshot.completed(), &key);
                serde_json::to_value(report.ok_or(QueryError::NoIdentity(key))?)?
            }
            Question::Explain { client, target } => {
                let client = self.workload(client)?.key();
                let host = self.host(&target.host, &client)?;
                let snapshot = self.snapshot.completed();
                serde_json::to_value(explain::explain(&snapshot, &client, &host, target.port.clone())?)?
            }
            Question::Route { client, request } => self.route(client, request)?,
            Question::Can(question) => self.can(question)?,
            Question::Check => serde_json::to_value(self.findings())?,
            Question::Render { workload, types, internal_listeners } => {
                let settings = self.settings(workload)?;
                let mut rendering = serde_json::to_value(render(&settings, types, *internal_listeners)?)?;
                rendering.sort_all_objects();
                rendering
            }
            Question::Config { workload, types, internal_listeners, diff } => {
                let settings = self.settings(workload)?;
                serde_json::to_value(config(settings, types, *internal_listeners, *diff)?)?
            }
        })
    }

    /// Where a request goes, what was asked, and which objects that are not in force would change the answer.
    fn route(&self, client: &WorkloadName, request: &Request) -> Result<Value, QueryError> {
        let client = self.workload(client)?.key();
        let answer = route::route(&self.snapshot.completed(), &client, request)?;
        let mut answer = serde_json::to_value(answer)?;
        let headers: BTreeMap<_, _> = request.headers.iter().cloned().collect();
        answer["request"] = json!({
            "method": request.method,
            "url": request::url(request),
            "authority": (request.scheme == Scheme::Http).then(|| request.authority()),
            "headers": headers,
        });
        let idle = |finding: &&Diagnostic| finding.object.starts_with("VirtualService/");
        answer["warnings"] = serde_json::to_value(self.input.iter().filter(idle).collect::<Vec<_>>())?;
        Ok(answer)
    }

    /// The settings of the workload that a name means.
    ///
    /// # Errors
    /// It is unknown, or cannot have an identity.
    pub(crate) fn settings(&self, name: &WorkloadName) -> Result<WorkloadTls, QueryError> {
        let key = self.workload(name)?.key();
        report::workload_tls(&self.snapshot, &key).ok_or(QueryError::NoIdentity(key))
    }

    /// A workload to try a command with: one that runs and has a proxy, if there is any.
    pub(crate) fn example(&self) -> Option<&Arc<Workload>> {
        self.snapshot.workloads().min_by_key(|one| (one.ended, !has_proxy(one)))
    }

    /// The workload that a name means; of the Pods of a Deployment the first that runs.
    fn workload(&self, name: &WorkloadName) -> Result<&Arc<Workload>, QueryError> {
        let found = match name {
            WorkloadName::Key(key) => {
                let replica = || {
                    self.snapshot
                        .workloads()
                        .find(|one| *one.meta.namespace() == key.namespace && one.has_replica(&key.name))
                };
                self.snapshot.workload(key).or_else(replica)
            }
            WorkloadName::Of(controller) => self.snapshot.workloads_of(controller).into_iter().next(),
            WorkloadName::At(address) => match self.snapshot.workloads_at(*address)[..] {
                [] => None,
                [one] => Some(one),
                ref several => {
                    let workloads = several.iter().map(|one| one.key().to_string()).collect();
                    return Err(QueryError::Ambiguous { address: *address, workloads });
                }
            },
        };
        found.ok_or_else(|| QueryError::NoWorkload {
            workload: name.clone(),
            hint: suggest::workloads(&self.snapshot, name),
        })
    }

    /// The name or address that a target means to a client.
    fn host(&self, host: &HostName, client: &WorkloadKey) -> Result<String, QueryError> {
        Ok(match host {
            HostName::Host(host) => host.clone(),
            HostName::Service { namespace, name } => {
                let namespace = namespace.as_ref().unwrap_or(&client.namespace);
                Host::of_service(name, namespace, &self.snapshot.mesh().cluster_domain).to_string()
            }
            HostName::Workload(name) => self.address(name, client)?,
            HostName::Neighbour { kind, name } => {
                let namespace = client.namespace.clone();
                self.address(&WorkloadName::of(*kind, namespace, name.clone()), client)?
            }
        })
    }

    /// The address of a workload.
    fn address(&self, name: &WorkloadName, client: &WorkloadKey) -> Result<String, QueryError> {
        let workload = self.workload(name)?;
        let caller = self.snapshot.workload(client).and_then(|one| Families::of(&one.addresses));
        let can_dial = |address: &&IpAddr| caller.is_none_or(|families| families.contain(**address));
        let address = workload.addresses.iter().find(can_dial).or(workload.addresses.first());
        Ok(address.ok_or_else(|| QueryError::NoAddress(workload.key()))?.to_string())
    }

    /// What is refused, and what has another effect than it seems to have; errors first.
    pub(crate) fn findings(&self) -> Vec<Diagnostic> {
        self.analyse().0
    }

    /// The findings, and which objects win over others that are in force elsewhere.
    pub(crate) fn analyse(&self) -> (Vec<Diagnostic>, lint::Overridden) {
        let (found, overridden) = lint::analyse(&self.snapshot.completed());
        let mut findings: Vec<_> = self.input.iter().cloned().chain(found).collect();
        findings.sort();
        findings.dedup();
        (findings, overridden)
    }
}
