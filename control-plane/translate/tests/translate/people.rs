//! What people are shown: the resources of a proxy as text, and what a change of the world changes for whom.

use eastwest_engine::Snapshot;
use eastwest_proto::{
    Message,
    envoy::config::{cluster::v3::Cluster, listener::v3::Listener},
    json::from_json,
};
use eastwest_translate::{
    ResourceType,
    compare::{ProxyChanges, compare},
    render::{Rendering, render},
};
use eastwest_xds::TypeUrl;
use serde_json::Value;

use crate::world::{Resources, of_type, path, read, settings, world};

const WEB: &str = "shop/web-0";

fn rendering(world: &Snapshot, types: &[ResourceType]) -> Rendering {
    render(&settings(world, WEB), types, false).unwrap()
}

/// The shop with more manifests.
fn shop_and(more: &str) -> std::sync::Arc<Snapshot> {
    world(&format!("{}\n---\n{more}", std::fs::read_to_string(path("worlds/shop.yaml")).unwrap()))
}

#[test]
fn everything_that_a_proxy_is_sent_is_rendered_and_reads_back() {
    let shop = read("shop.yaml");
    let sent = Resources::of(&shop, WEB);
    let rendering = rendering(&shop, &[]);
    let names = |of: ResourceType| -> Vec<String> {
        let found = rendering.resources.iter().filter(|one| one.resource_type == of);
        found.map(|one| one.name.clone()).collect()
    };
    for of in [of_type("cds"), of_type("eds"), of_type("lds"), of_type("rds")] {
        let set = sent.view.get(&of.type_url()).unwrap();
        assert_eq!(names(of), set.iter().map(|one| one.name().to_string()).collect::<Vec<_>>(), "{of}");
        assert!(!set.is_empty());
    }
    assert_eq!(names(of_type("workload")), [WEB]);
    for one in &rendering.resources {
        let mut json = one.resource.clone();
        let url = json.as_object_mut().unwrap().shift_remove("@type").unwrap();
        assert_eq!(url, one.resource_type.type_url().as_str());
        let body = match one.resource_type.to_string().as_str() {
            "cds" => from_json::<Cluster>(&json).unwrap().encode_to_vec(),
            "lds" => from_json::<Listener>(&json).unwrap().encode_to_vec(),
            _ => continue,
        };
        // The fields of a nested payload may stand in another order.
        let set = sent.view.get(&one.resource_type.type_url()).unwrap();
        assert_eq!(body.len(), set.get(&one.name).unwrap().body().len(), "{}: something is lost", one.name);
    }
}

#[test]
fn keys_are_sorted_every_payload_is_resolved_and_no_secret_is_shown() {
    fn visit(value: &Value, seen: &mut usize) {
        match value {
            Value::Object(map) => {
                assert!(map.keys().is_sorted(), "{:?}", map.keys());
                assert!(!map.contains_key("typeUrl"), "{map:?}");
                let key = map.get("privateKey").and_then(Value::as_object);
                assert!(key.is_none_or(|key| key.keys().eq(["filename"])), "{map:?}");
                *seen += usize::from(map.contains_key("@type"));
                map.values().for_each(|one| visit(one, seen));
            }
            Value::Array(items) => items.iter().for_each(|one| visit(one, seen)),
            _ => {}
        }
    }
    let rendering = rendering(&read("shop.yaml"), &[]);
    let mut types = 0;
    rendering.resources.iter().for_each(|one| visit(&one.resource, &mut types));
    assert!(types > 2 * rendering.resources.len(), "{types} payloads");
    let text = serde_json::to_string(&rendering).unwrap();
    assert!(!text.contains(TypeUrl::SECRET.as_str()), "a Secret is shown");
}

#[test]
fn types_are_chosen_and_the_text_is_always_the_same() {
    let text = |types: &[ResourceType]| serde_json::to_string(&rendering(&read("shop.yaml"), types)).unwrap();
    assert_eq!(text(&[]), text(&[]));
    assert_eq!(text(&[]), text(&ResourceType::all().collect::<Vec<_>>()));
    let some = rendering(&read("shop.yaml"), &[of_type("rds"), of_type("cds")]);
    let mut types: Vec<_> = some.resources.iter().map(|one| one.resource_type).collect();
    types.dedup();
    assert_eq!(types, [of_type("cds"), of_type("rds")], "in one order, however they are named");
    for one in ResourceType::all() {
        assert_eq!(one.to_string().parse(), Ok(one));
    }
    assert!("secrets".parse::<ResourceType>().is_err());
}

/// `proxies: type +added ~changed -removed`, with how many names each.
fn summary(changes: &[ProxyChanges]) -> Vec<String> {
    let of_type = |of: &ResourceType, names: &eastwest_translate::compare::NameChanges| {
        format!(" {of} +{} ~{} -{}", names.added.len(), names.changed.len(), names.removed.len())
    };
    let line = |one: &ProxyChanges| {
        let proxies: Vec<_> = one.proxies.iter().map(ToString::to_string).collect();
        let types: String = one.types.iter().map(|(of, names)| of_type(of, names)).collect();
        format!("{}:{types}", proxies.join(" "))
    };
    changes.iter().map(line).collect()
}

#[test]
fn proxies_for_which_the_same_changes_stand_together() {
    let pod = |name: &str, ip: u8| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: hill, labels: {{app: {name}, security.istio.io/tlsMode: istio}}}}, \
               spec: {{serviceAccountName: {name}, containers: [{{name: app, image: app}}]}}, \
               status: {{phase: Running, podIP: 10.9.0.{ip}, conditions: [{{type: Ready, status: 'True'}}]}}}}"
        )
    };
    let service = "{apiVersion: v1, kind: Service, metadata: {name: mill, namespace: hill}, \
                     spec: {clusterIP: 10.98.0.1, selector: {app: mill}, ports: [{name: http, port: 80, targetPort: 8080}]}}";
    let policy = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: hill}, \
                    spec: {mtls: {mode: STRICT}}}";
    let hill = [pod("farm", 1), pod("mill", 2), service.to_owned()].join("\n---\n");
    let before = world(&hill);
    assert_eq!(compare(&before, &world(&hill)), []);
    let strict = compare(&before, &world(&format!("{hill}\n---\n{policy}")));
    assert_eq!(summary(&strict), ["hill/farm hill/mill: lds +0 ~1 -0"]);
    assert_eq!(*strict[0].types[&of_type("lds")].changed[0], *"virtualInbound");
    let gone = compare(&before, &world(&[pod("farm", 1), pod("mill", 2)].join("\n---\n")));
    assert_eq!(
        gone[0].types[&of_type("cds")].removed.first().map(|name| &**name),
        Some("outbound|80||mill.hill.svc.cluster.local")
    );
    assert_eq!(gone.len(), 2, "the mill loses an inbound cluster too: {:?}", summary(&gone));
    let alone = compare(&before, &world(&[pod("farm", 1), service.to_owned()].join("\n---\n")));
    assert_eq!(alone.iter().map(|one| one.proxies.len()).sum::<usize>(), 1, "who is gone is not compared");
}

#[test]
fn a_change_elsewhere_in_the_mesh_changes_only_what_it_is_about() {
    let more = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: far, namespace: shop}, \
                  spec: {hosts: [far.example.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}}";
    let changes = compare(&read("shop.yaml"), &shop_and(more));
    for one in &changes {
        let added = &one.types[&of_type("cds")].added;
        assert_eq!(added.iter().map(|name| &**name).collect::<Vec<_>>(), ["outbound|443||far.example.com"]);
        assert!(one.types.values().all(|names| names.removed.is_empty()), "{:?}", summary(&changes));
    }
    assert!(!changes.is_empty());
}
