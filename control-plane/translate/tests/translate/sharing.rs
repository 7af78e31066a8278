//! What is made once and shared, and what a change leaves alone.

use std::sync::Arc;

use eastwest_engine::settings::{Endpoint, WorkloadTls};
use eastwest_translate::{Audience, ProxyFacts, ProxyRole, Translator};
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl, View};

use crate::world::{read, settings};

const TYPES: [TypeUrl; 4] = [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER, TypeUrl::ROUTE];

fn set<'a>(view: &'a View, type_url: &TypeUrl) -> &'a Arc<ResourceSet> {
    view.get(type_url).unwrap()
}

#[test]
fn equal_workloads_of_a_scope_share_whole_sets() {
    let world = read("shop.yaml");
    let (one, other) = (settings(&world, "shop/reviews-0"), settings(&world, "shop/reviews-1"));
    let mut translator = Translator::default();
    let outbound = translator.outbound(ProxyRole::Sidecar, &one.outbound, None);
    let one = translator.view(&one, &outbound, ProxyFacts::usual(Audience::Envoy), None);
    let other = translator.view(&other, &outbound, ProxyFacts::usual(Audience::Envoy), None);
    for type_url in &TYPES {
        assert!(Arc::ptr_eq(set(&one, type_url), set(&other, type_url)), "{type_url}");
    }
}

#[test]
fn different_workloads_of_a_scope_share_what_is_outbound() {
    let world = read("shop.yaml");
    let (one, other) = (settings(&world, "shop/web-0"), settings(&world, "shop/db-0"));
    let mut translator = Translator::default();
    let outbound = translator.outbound(ProxyRole::Sidecar, &one.outbound, None);
    let one = translator.view(&one, &outbound, ProxyFacts::usual(Audience::Envoy), None);
    let other = translator.view(&other, &outbound, ProxyFacts::usual(Audience::Envoy), None);
    let mut shared = 0;
    for type_url in &TYPES {
        for resource in set(&one, type_url).iter().filter(|resource| !resource.name().contains("nbound")) {
            let twin = set(&other, type_url).get(resource.name()).unwrap();
            assert!(Arc::ptr_eq(resource, twin), "{type_url} {}", resource.name());
            shared += 1;
        }
    }
    assert!(shared > 20, "{shared}");
}

#[test]
fn nothing_new_is_the_same_view() {
    let world = read("shop.yaml");
    let mut translator = Translator::default();
    let before = settings(&world, "shop/web-0");
    let resources = translator.outbound(ProxyRole::Sidecar, &before.outbound, None);
    let view = translator.view(&before, &resources, ProxyFacts::usual(Audience::Other), None);
    // Computed anew: equal, but other objects.
    let again = settings(&world, "shop/web-0");
    let resources = translator.outbound(ProxyRole::Sidecar, &again.outbound, Some(&resources));
    translator.forget_unused();
    assert!(Arc::ptr_eq(
        &view,
        &translator.view(&again, &resources, ProxyFacts::usual(Audience::Other), Some(&view))
    ));
}

/// A pod that becomes unready costs the assignments that had it, nothing else.
#[test]
fn an_endpoint_costs_its_assignments() {
    let world = read("shop.yaml");
    let mut translator = Translator::default();
    let before = settings(&world, "shop/web-0");
    let resources = translator.outbound(ProxyRole::Sidecar, &before.outbound, None);
    let view = translator.view(&before, &resources, ProxyFacts::usual(Audience::Envoy), None);
    let after = without_endpoint(&before, "10.0.0.21");
    let resources = translator.outbound(ProxyRole::Sidecar, &after.outbound, Some(&resources));
    let next = translator.view(&after, &resources, ProxyFacts::usual(Audience::Envoy), Some(&view));
    for type_url in TYPES.iter().filter(|type_url| **type_url != TypeUrl::ENDPOINT) {
        assert!(Arc::ptr_eq(set(&view, type_url), set(&next, type_url)), "{type_url}");
    }
    let changed = |resource: &&Arc<EncodedResource>| {
        let before = set(&view, &TypeUrl::ENDPOINT).get(resource.name());
        !before.is_some_and(|before| Arc::ptr_eq(before, resource))
    };
    let changed: Vec<_> =
        set(&next, &TypeUrl::ENDPOINT).iter().filter(changed).map(|one| one.name().to_string()).collect();
    assert_eq!(
        changed,
        ["outbound|9080|v1|reviews.shop.svc.cluster.local", "outbound|9080||reviews.shop.svc.cluster.local"]
    );
}

/// The same settings but for an endpoint that is not ready.
fn without_endpoint(settings: &WorkloadTls, address: &str) -> WorkloadTls {
    let mut outbound = settings.outbound.as_ref().clone();
    for service in outbound.services.values_mut() {
        let hit = |endpoint: &Endpoint| endpoint.address.to_string().starts_with(address);
        if !service.clusters.iter().any(|cluster| cluster.endpoints.iter().any(hit)) {
            continue;
        }
        for cluster in &mut Arc::make_mut(service).clusters {
            let endpoints = &mut Arc::make_mut(cluster).endpoints;
            endpoints.iter_mut().filter(|endpoint| hit(endpoint)).for_each(|endpoint| endpoint.ready = false);
        }
    }
    WorkloadTls { outbound: Arc::new(outbound), ..settings.clone() }
}

#[test]
fn envoy_is_not_sent_our_own_type() {
    let world = read("shop.yaml");
    let settings = settings(&world, "shop/web-0");
    let mut translator = Translator::default();
    let outbound = translator.outbound(ProxyRole::Sidecar, &settings.outbound, None);
    assert!(
        translator
            .view(&settings, &outbound, ProxyFacts::usual(Audience::Envoy), None)
            .get(&TypeUrl::WORKLOAD_TLS)
            .is_none()
    );
    let other = translator.view(&settings, &outbound, ProxyFacts::usual(Audience::Other), None);
    assert!(set(&other, &TypeUrl::WORKLOAD_TLS).get("shop/web-0").is_some());
}
