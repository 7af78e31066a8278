//! What changes between two meshes, and what breaks.

use super::mesh::{
    DEPOT, Mesh, mesh_config, networking, outsider, policy, rule, service, text, yard_and_rail,
};
use eastwest_engine::{
    diff::{CallChange, Diff},
    explain::Verdict,
};

/// The usual mesh with a client without a proxy, and more.
fn mesh(extra: &[String]) -> Mesh {
    let meter = outsider("yard", "meter", "10.0.1.9", "app: meter");
    Mesh::of(&[&[yard_and_rail(), meter], extra].concat())
}

fn diff(before: &[String], after: &[String]) -> Diff {
    mesh(before).diff(&mesh(after))
}

/// One line for each client and call: `client host:port FROM → TO`, with ` breaks` at the end.
fn calls(diff: &Diff) -> Vec<String> {
    let verdict = |call: &Option<_>| match call {
        Some(eastwest_engine::diff::Call { verdict, .. }) => text(&serde_json::to_value(verdict).unwrap()),
        None => "nothing".to_owned(),
    };
    let line = |client: &_, change: &CallChange| {
        let host = change.host.as_str().replace(".svc.cluster.local", "");
        let fate = format!("{} → {}", verdict(&change.before), verdict(&change.after));
        let breaks = if change.breaks { " breaks" } else { "" };
        format!("{client} {host}:{} {fate}{breaks}", change.port)
    };
    let groups = diff.calls.iter();
    let mut lines: Vec<_> = groups
        .flat_map(|group| group.clients.iter().map(move |client| (client, &group.changes)))
        .flat_map(|(client, changes)| changes.iter().map(move |change| line(client, change)))
        .collect();
    lines.sort();
    lines
}

fn strict() -> String {
    policy("rail", "default", 1, "mtls: {mode: STRICT}")
}

fn block(mode: &str) -> String {
    rule("yard", "depot", 1, &format!("host: {DEPOT}, trafficPolicy: {{tls: {{mode: {mode}}}}}"))
}

#[test]
fn strict_breaks_clients_without_a_proxy_and_no_others() {
    let found = diff(&[], &[strict()]);
    assert_eq!(
        calls(&found),
        [
            "yard/meter depot.rail:80 PLAINTEXT → REFUSED breaks",
            "yard/meter depot.rail:9000 PLAINTEXT → REFUSED breaks"
        ]
    );
    assert_eq!(found.count(|change| change.breaks), 2);
    assert_eq!(found.count(CallChange::is_downgrade), 0);
    let [change] = &found.inbound[..] else { panic!("{:?}", found.inbound) };
    let change = serde_json::to_value(change).unwrap();
    let golden = serde_json::json!({
        "workloads": ["rail/depot-0"], "port": null,
        "before": {"mode": "PERMISSIVE", "policy": null},
        "after": {"mode": "STRICT", "policy": "PeerAuthentication/rail/default"},
    });
    assert_eq!(change, golden);
}

#[test]
fn a_client_that_stops_encrypting_loses_mutual_tls_or_the_connection() {
    let permissive = diff(&[], &[block("DISABLE")]);
    assert_eq!(
        calls(&permissive),
        [
            "yard/client depot.rail:80 MUTUAL_TLS → PLAINTEXT",
            "yard/client depot.rail:9000 MUTUAL_TLS → PLAINTEXT"
        ]
    );
    assert_eq!(permissive.count(CallChange::is_downgrade), 2);
    let refused = diff(&[strict()], &[strict(), block("DISABLE")]);
    assert_eq!(refused.count(|change| change.breaks), 2, "{:?}", calls(&refused));
    let decided = &refused.calls[0].changes[0].after.as_ref().unwrap().decided_by;
    let decided: Vec<_> = decided.iter().map(ToString::to_string).collect();
    assert_eq!(decided, ["PeerAuthentication/rail/default", "DestinationRule/yard/depot"]);
}

#[test]
fn a_mode_that_has_the_same_effect_is_a_change_that_breaks_nothing() {
    let found = diff(&[], &[block("ISTIO_MUTUAL")]);
    assert_eq!(found.count(|change| change.breaks), 0);
    assert_eq!(calls(&found)[0], "yard/client depot.rail:80 MUTUAL_TLS → MUTUAL_TLS");
}

#[test]
fn one_endpoint_of_several_that_refuses_breaks_the_call() {
    let second = outsider("rail", "depot-1", "10.0.2.2", "app: depot");
    let found = diff(std::slice::from_ref(&second), &[second.clone(), strict()]);
    let [group] = &found.calls[..] else { panic!("{:?}", calls(&found)) };
    assert_eq!(
        group.clients.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["rail/depot-1", "yard/meter"]
    );
    let change = &group.changes[0];
    assert!(change.breaks);
    assert_eq!(change.after.as_ref().unwrap().verdict, Verdict::PartlyRefused);
    let moved: Vec<_> = change.endpoints.iter().map(|one| &*one.address).collect();
    assert_eq!(moved, ["10.0.2.1:8080"], "the endpoint without a proxy stays as it is");
}

#[test]
fn a_service_that_is_gone_breaks_what_worked_and_one_that_is_new_breaks_nothing() {
    let shed = service("rail", "shed", "clusterIP: 10.96.0.2");
    let servant = outsider("rail", "shed-0", "10.0.2.3", "app: shed");
    let without = [servant.clone()];
    let with = [servant, shed];
    let gone = diff(&with, &without);
    assert!(calls(&gone).contains(&"yard/client shed.rail:80 PLAINTEXT → nothing breaks".to_owned()));
    let new = diff(&without, &with);
    assert_eq!(new.count(|change| change.breaks), 0);
    assert!(calls(&new).contains(&"yard/client shed.rail:80 nothing → PLAINTEXT".to_owned()));
}

#[test]
fn an_outside_host_that_is_no_longer_declared_passes_through_unless_the_registry_is_closed() {
    let entry = networking(
        "ServiceEntry",
        "yard",
        "api",
        1,
        "hosts: [api.example.com], resolution: DNS, location: MESH_EXTERNAL, ports: [{number: 443, name: tls, protocol: TLS}]",
    );
    let closed = mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    let open = diff(std::slice::from_ref(&entry), &[]);
    assert_eq!(open.count(|change| change.breaks), 0, "{:?}", calls(&open));
    let found = diff(&[entry, closed.clone()], &[closed]);
    assert!(
        calls(&found).contains(&"yard/client api.example.com:443 PLAINTEXT → BLACK_HOLE breaks".to_owned()),
        "{:?}",
        calls(&found)
    );
}

#[test]
fn workloads_that_come_and_go_are_named_and_not_compared() {
    let guard = outsider("yard", "guard", "10.0.1.8", "app: guard");
    let found = diff(&[], &[guard, strict()]);
    assert_eq!(found.workloads.added.iter().map(ToString::to_string).collect::<Vec<_>>(), ["yard/guard"]);
    assert!(found.calls.iter().flat_map(|group| &group.clients).all(|client| &*client.name != "guard"));
    assert!(diff(&[strict()], &[strict()]).calls.is_empty());
}

/// An alias whose name a ServiceEntry claims too stays as it is, and so does its namespace: what it leads to differs.
#[test]
fn an_alias_changes_with_what_it_leads_to() {
    let alias = service("yard", "store", "type: ExternalName, externalName: depot.rail.svc.cluster.local");
    let claim = "hosts: [store.yard.svc.cluster.local], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]";
    let claim = networking("ServiceEntry", "yard", "store", 1, claim);
    let (before, after) = Mesh::grown(&[yard_and_rail(), block("DISABLE"), alias, claim], &[strict()]);
    let found = calls(&before.diff(&after));
    assert!(found.contains(&"yard/client store.yard:80 PLAINTEXT → REFUSED breaks".to_owned()), "{found:?}");
}

/// The client's settings stay as they are, and so does its namespace: only the server's side differs.
#[test]
fn a_policy_alone_is_not_missed_among_what_snapshots_of_one_index_share() {
    for namespace in ["rail", "istio-system"] {
        let strict = [policy(namespace, "default", 1, "mtls: {mode: STRICT}")];
        let parts = [yard_and_rail(), block("DISABLE")];
        let (before, after) = Mesh::grown(&parts, &strict);
        let found = before.diff(&after);
        assert_eq!(calls(&found)[0], "yard/client depot.rail:80 PLAINTEXT → REFUSED breaks", "{namespace}");
    }
}

/// Its own settings stay as they are: only where calls to it go differs.
#[test]
fn a_host_that_shares_the_port_of_another_changes_its_calls() {
    let entry = |name: &str| {
        let spec = format!(
            "hosts: [{name}.example], resolution: DNS, ports: [{{number: 5432, name: tcp, protocol: TCP}}]"
        );
        networking("ServiceEntry", "yard", name, 1, &spec)
    };
    let simple = rule("yard", "one", 1, "host: one.example, trafficPolicy: {tls: {mode: SIMPLE}}");
    let present = [yard_and_rail(), entry("one"), simple];
    let (before, after) = Mesh::grown(&present, &[entry("two")]);
    let found = calls(&before.diff(&after));
    assert!(found.contains(&"yard/client one.example:5432 TLS → PASSTHROUGH".to_owned()), "{found:?}");
    let closed = mesh_config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    let (before, after) = Mesh::grown(&[&present[..], &[closed]].concat(), &[entry("two")]);
    let found = calls(&before.diff(&after));
    assert!(found.contains(&"yard/client one.example:5432 TLS → BLACK_HOLE breaks".to_owned()), "{found:?}");
}
