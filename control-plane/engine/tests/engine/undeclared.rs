//! Ports of which nobody says what they carry.

use crate::mesh::{Mesh, outsider, pod};

fn service(ports: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: depot, namespace: rail}},
           spec: {{clusterIP: 10.96.0.1, selector: {{app: depot}}, ports: [{ports}]}}}}"
    )
}

#[test]
fn i8_ports_without_a_protocol_are_named() {
    let ports = "{name: http-web, port: 80}, {name: tcp-db, port: 81}, {name: some, port: 82, targetPort: 8082}, \
                 {name: more, port: 83}, {name: said, port: 84, appProtocol: http}";
    let depot = pod("rail", "depot-0", "10.0.2.1", "app: depot");
    let found = Mesh::of(&[service(ports), depot]).findings("Service/rail/depot");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("ports 82, 83 declare no protocol"), "{found:?}");
    assert!(found[0].contains("X-Forwarded-Client-Cert") && found[0].contains("appProtocol"), "{found:?}");

    let bare = outsider("rail", "depot-0", "10.0.2.1", "app: depot");
    let found = Mesh::of(&[service(ports), bare]).findings("Service/rail/depot");
    assert_eq!(found, [""; 0], "nobody tells an identity to a workload without a proxy");
}
