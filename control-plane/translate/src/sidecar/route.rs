//! Routes as data: what becomes of the requests that a virtual host takes.

use eastwest_engine::traffic::Sending;
use eastwest_model::policy::{HashKey, RetryPolicy};
use eastwest_proto::{
    Any,
    envoy::{
        config::route::v3::{
            DirectResponseAction, RetryPolicy as EnvoyRetryPolicy, Route as EnvoyRoute, RouteAction,
            RouteMatch,
            retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate::ConfigType},
            route::Action as EnvoyAction,
            route_action::{
                ClusterSpecifier, HashPolicy,
                hash_policy::{
                    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
                },
            },
            route_match::PathSpecifier,
        },
        extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate,
    },
};
use prost_types::Duration;

use crate::resource::envoy_duration;

/// How often a host is chosen again because it was tried already.
const HOST_CHOICES: i64 = 5;

/// A route that takes every request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route<'a> {
    action: Action<'a>,
}

/// What a route does with a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action<'a> {
    /// Forwards it to a cluster, without a time limit; `None` = as it is, once.
    Forward { cluster: String, sending: Option<Sending<'a>> },
    /// Answers it with a status and no body.
    Respond { status: u32 },
}

impl<'a> Route<'a> {
    /// Forwards all requests to one cluster.
    pub(crate) fn to_cluster(cluster: impl Into<String>, sending: Sending<'a>) -> Self {
        Self { action: Action::Forward { cluster: cluster.into(), sending: Some(sending) } }
    }

    /// Forwards all requests to where they wanted to go.
    pub(crate) fn pass_through(cluster: impl Into<String>) -> Self {
        Self { action: Action::Forward { cluster: cluster.into(), sending: None } }
    }

    /// Answers all requests with a status.
    pub(crate) fn respond(status: u32) -> Self {
        Self { action: Action::Respond { status } }
    }

    /// As Envoy has it.
    pub(crate) fn encode(&self) -> EnvoyRoute {
        let action = match &self.action {
            Action::Forward { cluster, sending } => EnvoyAction::Route(forward(cluster, *sending)),
            Action::Respond { status } => {
                EnvoyAction::DirectResponse(DirectResponseAction { status: *status, ..Default::default() })
            }
        };
        let everything =
            RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
        EnvoyRoute { r#match: Some(everything), action: Some(action), ..Default::default() }
    }
}

fn forward(cluster: &str, sending: Option<Sending<'_>>) -> RouteAction {
    let hash = sending.and_then(|sending| sending.hash);
    RouteAction {
        timeout: Some(Duration::default()),
        retry_policy: sending.and_then(|sending| retry_policy(sending.retries)),
        hash_policy: hash.map(hash_policy).into_iter().collect(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    }
}

/// TRAFFIC.md R1. `None` = nothing is tried again.
fn retry_policy(retries: &RetryPolicy) -> Option<EnvoyRetryPolicy> {
    let previous_hosts = || RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(ConfigType::TypedConfig(Any::pack(&PreviousHostsPredicate::default()))),
    };
    (retries.attempts > 0).then(|| EnvoyRetryPolicy {
        retry_on: retries.on.to_string(),
        num_retries: Some(retries.attempts),
        per_try_timeout: retries.per_try_timeout.map(envoy_duration),
        retry_host_predicate: retries
            .ignore_previous_hosts
            .unwrap_or(true)
            .then(previous_hosts)
            .into_iter()
            .collect(),
        host_selection_retry_max_attempts: HOST_CHOICES,
        retriable_status_codes: retries.codes.clone(),
        retry_back_off: retries
            .backoff
            .map(|base| RetryBackOff { base_interval: Some(envoy_duration(base)), ..Default::default() }),
        ..Default::default()
    })
}

/// TRAFFIC.md B7.
fn hash_policy(key: &HashKey) -> HashPolicy {
    let specifier = match key {
        HashKey::Header(name) => {
            PolicySpecifier::Header(Header { header_name: name.to_string(), ..Default::default() })
        }
        HashKey::Cookie { name, path, ttl, attributes } => PolicySpecifier::Cookie(Cookie {
            name: name.to_string(),
            ttl: ttl.map(envoy_duration),
            path: path.as_deref().unwrap_or_default().to_owned(),
            attributes: attributes
                .iter()
                .map(|(name, value)| CookieAttribute { name: name.to_string(), value: value.to_string() })
                .collect(),
        }),
        HashKey::SourceIp => PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
        HashKey::QueryParameter(name) => {
            PolicySpecifier::QueryParameter(QueryParameter { name: name.to_string() })
        }
    };
    HashPolicy { terminal: false, policy_specifier: Some(specifier) }
}
