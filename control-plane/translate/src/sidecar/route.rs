//! Routes as data: what becomes of the requests that a virtual host takes.

use eastwest_proto::envoy::config::route::v3::{
    DirectResponseAction, RetryPolicy, Route as EnvoyRoute, RouteAction, RouteMatch, WeightedCluster,
    route::Action as EnvoyAction, route_action::ClusterSpecifier, route_match::PathSpecifier,
    weighted_cluster::ClusterWeight,
};
use prost_types::Duration;

/// What is tried again, because the application cannot have seen it. A renewed certificate or a moved endpoint then
/// costs no request.
const RETRY_ON: &str = "connect-failure,refused-stream,reset-before-request,unavailable,cancelled";

/// A route that takes every request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    action: Action,
}

/// What a route does with a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    /// Forwards it to one of these clusters, without a time limit.
    Forward { destinations: Vec<Destination>, retry: bool },
    /// Answers it with a status and no body.
    Respond { status: u32 },
}

/// A cluster that gets a share of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) cluster: String,
    /// The share, relative to the sum of all weights of the route. The weight of an only destination makes no
    /// difference.
    pub(crate) weight: u32,
}

impl Route {
    /// Forwards all requests to one cluster.
    pub(crate) fn to_cluster(cluster: impl Into<String>) -> Self {
        Self::to(vec![Destination { cluster: cluster.into(), weight: 1 }])
    }

    /// Forwards requests to several clusters by weight.
    pub(crate) fn to(destinations: Vec<Destination>) -> Self {
        Self { action: Action::Forward { destinations, retry: true } }
    }

    /// Answers all requests with a status.
    pub(crate) fn respond(status: u32) -> Self {
        Self { action: Action::Respond { status } }
    }

    /// The same route, without retries.
    #[must_use]
    pub(crate) fn without_retries(mut self) -> Self {
        if let Action::Forward { retry, .. } = &mut self.action {
            *retry = false;
        }
        self
    }

    /// As Envoy has it.
    pub(crate) fn encode(&self) -> EnvoyRoute {
        let action = match &self.action {
            Action::Forward { destinations, retry } => EnvoyAction::Route(forward(destinations, *retry)),
            Action::Respond { status } => {
                EnvoyAction::DirectResponse(DirectResponseAction { status: *status, ..Default::default() })
            }
        };
        let everything =
            RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
        EnvoyRoute { r#match: Some(everything), action: Some(action), ..Default::default() }
    }
}

fn forward(destinations: &[Destination], retry: bool) -> RouteAction {
    let cluster = match destinations {
        [only] => ClusterSpecifier::Cluster(only.cluster.clone()),
        several => ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: several.iter().map(weighted).collect(),
            ..Default::default()
        }),
    };
    let policy = || RetryPolicy { retry_on: RETRY_ON.to_owned(), num_retries: Some(2), ..Default::default() };
    RouteAction {
        timeout: Some(Duration::default()),
        retry_policy: retry.then(policy),
        cluster_specifier: Some(cluster),
        ..Default::default()
    }
}

fn weighted(destination: &Destination) -> ClusterWeight {
    let Destination { cluster, weight } = destination;
    ClusterWeight { name: cluster.clone(), weight: Some(*weight), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specifier(route: &Route) -> Option<ClusterSpecifier> {
        match route.encode().action {
            Some(EnvoyAction::Route(action)) => action.cluster_specifier,
            _ => None,
        }
    }

    #[test]
    fn one_destination_is_a_cluster_and_several_are_weighted() {
        assert_eq!(specifier(&Route::to_cluster("a")), Some(ClusterSpecifier::Cluster("a".to_owned())));
        let destination = |cluster: &str, weight| Destination { cluster: cluster.to_owned(), weight };
        let Some(ClusterSpecifier::WeightedClusters(split)) =
            specifier(&Route::to(vec![destination("a", 90), destination("b", 10)]))
        else {
            panic!("no weighted clusters")
        };
        let found: Vec<_> = split.clusters.iter().map(|one| (one.name.as_str(), one.weight)).collect();
        assert_eq!(found, [("a", Some(90)), ("b", Some(10))]);
    }
}
