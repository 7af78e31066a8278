//! Addresses of listeners and sources of connections, by the families in which the workload has addresses
//! (POLICY.md L9).

use std::net::IpAddr;

use eastwest_proto::envoy::config::listener::v3::Listener;
use eastwest_translate::{Audience, ProxyFacts};

use crate::{
    wire::sockets,
    world::{Resources, settings, world},
};

/// A world with a Service of both families, an entry without addresses, and a client with these addresses.
fn client(addresses: &[&str]) -> String {
    let ips: Vec<_> = addresses.iter().map(|address| format!("{{ip: '{address}'}}")).collect();
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: client, namespace: yard}}, spec: {{containers: [{{name: app}}]}},
           status: {{phase: Running, podIPs: [{}]}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: depot, namespace: yard}}
spec:
  clusterIPs: [10.96.0.1, 'fd00:96::1']
  selector: {{app: depot}}
  ports: [{{name: tcp, port: 9000}}, {{name: http, port: 80}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: lookup, namespace: yard}}
spec: {{hosts: [one.example], resolution: DNS, ports: [{{number: 443, name: tls, protocol: TLS}}]}}
",
        ips.join(", ")
    )
}

fn resources(addresses: &[&str], internal_listeners: bool) -> Resources {
    let facts = ProxyFacts { internal_listeners, ..ProxyFacts::usual(Audience::Envoy) };
    Resources::for_proxy(&settings(&world(&client(addresses)), "yard/client"), facts)
}

fn addresses(listener: &Listener) -> Vec<String> {
    let text = |(address, port): (IpAddr, u32)| format!("{address} {port}");
    sockets(listener).into_iter().map(text).collect()
}

#[test]
fn listeners_bind_the_families_of_the_workload() {
    let (four, six) = (&["10.0.0.1"][..], &["fd00::1"][..]);
    let both = &["fd00::1", "10.0.0.1"][..];
    for internal_listeners in [false, true] {
        for (of, wildcards, name) in [
            (four, &["0.0.0.0"][..], "0.0.0.0"),
            (six, &["::"], "::"),
            (both, &["0.0.0.0", "::"], "0.0.0.0"),
            // As of a Deployment: either may come.
            (&[], &["0.0.0.0", "::"], "0.0.0.0"),
        ] {
            let found = resources(of, internal_listeners);
            for (listener, port) in [
                ("virtualInbound", 15006),
                ("virtualOutbound", 15001),
                (&format!("{name}_80"), 80),
                (&format!("{name}_443"), 443),
            ] {
                let listener = found.listener(listener).unwrap_or_else(|| panic!("{of:?}: no {listener}"));
                let wanted: Vec<_> = wildcards.iter().map(|address| format!("{address} {port}")).collect();
                assert_eq!(addresses(listener), wanted, "{of:?}");
            }
        }
    }
}

#[test]
fn a_cluster_ip_has_a_listener_for_clients_of_its_family() {
    let own = |of: &[&str]| -> Vec<String> {
        let found = resources(of, false);
        let tcp = found.listeners.iter().filter(|one| one.name.ends_with("_9000"));
        tcp.map(|one| format!("{} at {}", one.name, addresses(one).join(", "))).collect()
    };
    let [four, six] = ["10.96.0.1_9000 at 10.96.0.1 9000", "fd00:96::1_9000 at fd00:96::1 9000"];
    assert_eq!(own(&["10.0.0.1"]), [four]);
    assert_eq!(own(&["fd00::1"]), [six]);
    assert_eq!(own(&["10.0.0.1", "fd00::1"]), [four, six]);
}

#[test]
fn connections_to_the_application_come_from_an_address_that_the_redirection_spares() {
    for (of, wanted) in [
        (&["10.0.0.1"][..], &["127.0.0.6"][..]),
        (&["fd00::1"], &["::6"]),
        (&["fd00::1", "10.0.0.1"], &["127.0.0.6", "::6"]),
    ] {
        let found = resources(of, false);
        let bind = found.cluster("InboundPassthroughCluster").unwrap().upstream_bind_config.clone().unwrap();
        let more = bind.extra_source_addresses.into_iter().filter_map(|one| one.address);
        let sources: Vec<_> = bind.source_address.into_iter().chain(more).map(|one| one.address).collect();
        assert_eq!(sources, wanted, "{of:?}");
    }
}

#[test]
fn names_are_looked_up_in_a_family_that_the_workload_has() {
    let family = |of: &[&str]| {
        let found = resources(of, false);
        found.cluster("outbound|443||one.example").unwrap().dns_lookup_family().as_str_name().to_owned()
    };
    assert_eq!(family(&["10.0.0.1"]), "V4_PREFERRED");
    assert_eq!(family(&["fd00::1"]), "AUTO");
    assert_eq!(family(&["10.0.0.1", "fd00::1"]), "V4_PREFERRED");
}
