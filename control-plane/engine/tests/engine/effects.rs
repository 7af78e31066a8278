//! Which findings mean that a whole object has no effect. Status conditions are made from them.

use eastwest_model::Effect;

use crate::mesh::{Mesh, networking, pod, policy, rule, yard_and_rail};

const ON: &str = "trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}";
const OFF: &str = "trafficPolicy: {tls: {mode: DISABLE}}";

fn with(parts: &[String]) -> Mesh {
    Mesh::of(&[&[yard_and_rail()], parts].concat())
}

fn to_depot(spec: &str) -> String {
    format!("host: depot.rail.svc.cluster.local, {spec}")
}

fn shadowed(winner: &str) -> Vec<(Effect, String)> {
    vec![(Effect::Shadowed, winner.to_owned())]
}

fn none() -> Vec<(Effect, String)> {
    vec![(Effect::None, String::new())]
}

#[test]
fn of_two_policies_of_a_namespace_the_younger_is_shadowed() {
    let mesh = with(&[
        policy("rail", "older", 1, "mtls: {mode: STRICT}"),
        policy("rail", "younger", 2, "mtls: {mode: DISABLE}"),
    ]);
    assert_eq!(mesh.effects("PeerAuthentication/rail/younger"), shadowed("PeerAuthentication/rail/older"));
    assert_eq!(mesh.effects("PeerAuthentication/rail/older"), []);
}

/// A policy that loses for one workload counts while it decides about another one.
#[test]
fn a_policy_is_shadowed_only_if_it_loses_everywhere() {
    let selecting = |name: &str, age, labels: &str| {
        policy("rail", name, age, &format!("selector: {{matchLabels: {{{labels}}}}}, mtls: {{mode: STRICT}}"))
    };
    let parts = [
        selecting("older", 1, "app: depot"),
        selecting("younger", 2, "version: v1"),
        selecting("x", 3, "app: x"),
    ];
    let younger = "PeerAuthentication/rail/younger";
    assert_eq!(with(&parts).effects(younger), shadowed("PeerAuthentication/rail/older"));
    let other = pod("rail", "other", "10.0.2.9", "app: other, version: v1");
    let mesh = with(&[&parts[..], &[other]].concat());
    assert_eq!(mesh.effects(younger), []);
    assert!(!mesh.findings(younger).is_empty(), "the finding about the other workload stays");
    assert_eq!(mesh.effects("PeerAuthentication/rail/x"), none());
}

#[test]
fn a_policy_that_every_namespace_overwrites_is_still_the_default() {
    let mesh = with(&[
        policy("istio-system", "default", 1, "mtls: {mode: STRICT}"),
        policy("rail", "default", 2, "mtls: {mode: DISABLE}"),
        policy("yard", "default", 2, "mtls: {mode: DISABLE}"),
        policy(
            "istio-system",
            "selecting",
            1,
            "selector: {matchLabels: {app: depot}}, mtls: {mode: DISABLE}",
        ),
    ]);
    assert_eq!(mesh.effects("PeerAuthentication/istio-system/default"), []);
    assert_eq!(mesh.effects("PeerAuthentication/istio-system/selecting"), none());
}

#[test]
fn a_rule_is_shadowed_if_it_adds_nothing_and_not_if_a_subset_of_it_is_in_force() {
    let mesh = with(&[
        rule("rail", "older", 1, &to_depot(ON)),
        rule("rail", "younger", 2, &to_depot(OFF)),
        rule("rail", "empty", 3, "host: depot.rail.svc.cluster.local"),
        rule(
            "rail",
            "subset",
            4,
            &to_depot(&format!("{OFF}, subsets: [{{name: v1, labels: {{version: v1}}}}]")),
        ),
    ]);
    let older = shadowed("DestinationRule/rail/older");
    assert_eq!(mesh.effects("DestinationRule/rail/younger"), older);
    assert_eq!(mesh.effects("DestinationRule/rail/empty"), older);
    assert_eq!(mesh.effects("DestinationRule/rail/subset"), []);
    assert!(!mesh.findings("DestinationRule/rail/subset").is_empty(), "its policy is ignored");
    assert_eq!(mesh.effects("DestinationRule/rail/older"), []);
}

#[test]
fn a_rule_that_one_client_uses_has_an_effect() {
    let other =
        rule("yard", "other", 1, &to_depot(&format!("workloadSelector: {{matchLabels: {{app: x}}}}, {ON}")));
    let mesh = with(&[other, rule("rail", "owner", 2, &to_depot(OFF))]);
    assert_eq!(mesh.effects("DestinationRule/rail/owner"), [], "for clients in rail");
    let nowhere =
        with(&[rule("rail", "partial", 1, "host: depot.rail"), rule("rail", "gone", 1, "host: gone")]);
    assert_eq!(nowhere.effects("DestinationRule/rail/partial"), none());
    assert_eq!(nowhere.effects("DestinationRule/rail/gone"), none());
}

#[test]
fn of_two_general_sidecars_the_younger_is_shadowed() {
    let sidecar = |name, age| networking("Sidecar", "yard", name, age, "egress: [{hosts: ['./*']}]");
    let mesh = with(&[sidecar("older", 1), sidecar("younger", 2)]);
    assert_eq!(mesh.effects("Sidecar/yard/younger"), shadowed("Sidecar/yard/older"));
    assert_eq!(mesh.effects("Sidecar/yard/older"), []);
}
