//! The whole traffic policy of a rule: its levels are merged block by block, and each block names its rule.

use eastwest_engine::{compute, settings::OutboundCluster, traffic::Sourced};
use eastwest_model::{Host, policy::SimpleLoadBalancer};

use super::mesh::{DEPOT, Mesh, rule, yard_and_rail};

/// The blocks of a cluster, short: the load balancer, the limits of TCP connections and of HTTP retries, the errors that
/// eject an endpoint, and the retry budget.
type Blocks = (Option<SimpleLoadBalancer>, Option<u32>, Option<u32>, Option<u32>, Option<String>);

fn cluster(rules: &[String], port: u16, subset: Option<&str>) -> OutboundCluster {
    let mesh = Mesh::of(&[&[yard_and_rail()], rules].concat());
    let client = mesh.snapshot().workload(&"yard/client".parse().unwrap()).unwrap();
    let scope = compute::client_scope(mesh.snapshot(), client);
    let service = compute::outbound_service(mesh.snapshot(), &scope, &Host::new(DEPOT)).unwrap();
    let found =
        service.clusters.iter().find(|one| one.port.number == port && one.subset.as_deref() == subset);
    (**found.unwrap()).clone()
}

fn blocks(cluster: &OutboundCluster) -> Blocks {
    let traffic = &cluster.traffic;
    let pool = traffic.connection_pool.as_ref().map(|one| &one.value);
    (
        traffic.load_balancer.as_ref().and_then(|one| one.value.simple),
        pool.and_then(|pool| pool.tcp.as_ref()?.max_connections),
        pool.and_then(|pool| pool.http.as_ref()?.max_retries),
        traffic.outlier_detection.as_ref().and_then(|one| one.value.consecutive_5xx_errors),
        traffic.retry_budget.as_ref().and_then(|one| one.value.percent.as_deref().map(str::to_owned)),
    )
}

const GENERAL: &str = "trafficPolicy: {
    loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {maxConnections: 5}},
    outlierDetection: {consecutive5xxErrors: 3}, retryBudget: {percent: 20},
    portLevelSettings: [{port: {number: 9000}, connectionPool: {http: {maxRetries: 2}}}]}";
const SUBSETS: &str = "subsets: [
    {name: v1, labels: {version: v1}, trafficPolicy: {connectionPool: {http: {maxRetries: 1}}}},
    {name: v2, labels: {version: v2}, trafficPolicy: {
        portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}}]";

#[test]
fn levels_of_a_traffic_policy_are_merged_block_by_block() {
    let rules = [rule("rail", "depot", 1, &format!("host: depot, {GENERAL}, {SUBSETS}"))];
    let (random, round_robin) = (Some(SimpleLoadBalancer::Random), Some(SimpleLoadBalancer::RoundRobin));
    let budget = || Some("20".to_owned());
    for (port, subset, expected) in [
        (80, None, (random, Some(5), None, Some(3), budget())),
        // A port entry replaces the whole policy.
        (9000, None, (None, None, Some(2), None, None)),
        // A block of a subset replaces the block, not its fields.
        (80, Some("v1"), (random, None, Some(1), Some(3), budget())),
        (9000, Some("v1"), (None, None, Some(1), None, None)),
        // A port entry of a subset wipes what the subset inherits.
        (80, Some("v2"), (round_robin, None, None, None, None)),
        (9000, Some("v2"), (None, None, Some(2), None, None)),
    ] {
        assert_eq!(blocks(&cluster(&rules, port, subset)), expected, "{port} {subset:?}");
    }
}

#[test]
fn each_block_names_the_rule_that_wrote_it() {
    let older = rule("rail", "older", 1, &format!("host: depot, {SUBSETS}"));
    let younger = rule("rail", "younger", 2, &format!("host: depot, {GENERAL}"));
    let found = cluster(&[older, younger], 80, Some("v1"));
    fn rule_of<T>(block: &Option<Sourced<T>>) -> Option<&str> {
        Some(&*block.as_ref()?.rule.name)
    }
    assert_eq!(rule_of(&found.traffic.load_balancer), Some("younger"));
    assert_eq!(rule_of(&found.traffic.connection_pool), Some("older"));
    assert_eq!(rule_of(&found.traffic.tunnel), None);
}
