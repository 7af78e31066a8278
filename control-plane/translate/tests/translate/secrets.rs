//! Credentials of rules as Envoy's secrets: which proxies get them, and that a change updates no other proxy.

use std::sync::Arc;

use eastwest_engine::{Index, Snapshot};
use eastwest_manifest::parse;
use eastwest_model::{Change, MeshConfig, TrustDomain, Workload};
use eastwest_proto::envoy::extensions::transport_sockets::tls::v3::{Secret, secret::Type};
use eastwest_translate::{
    Audience, ConnectError, Fleet, ProxyFacts, ProxyKey, ProxyRole, compare::compare, render::render,
};
use eastwest_xds::{TypeUrl, View};
use serde_json::json;

use crate::world::{decode, of_type, settings};

fn key(workload: &Workload, facts: ProxyFacts) -> ProxyKey {
    ProxyKey::of(workload, ProxyRole::Sidecar, facts)
}

/// A pod whose service account is named like it.
fn pod(namespace: &str, name: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, "security.istio.io/tlsMode": "istio"}},
        "spec": {"serviceAccountName": name},
    })
    .to_string()
}

/// A certificate with its key under a name that a test can look for.
fn secret(namespace: &str, name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let data = json!({"tls.crt": certificate, "tls.key": key.serialize_pem(), "ca.crt": certificate});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data})
        .to_string()
}

fn rule(namespace: &str) -> String {
    let tls = json!({"mode": "MUTUAL", "credentialName": "own"});
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "api", "namespace": namespace},
        "spec": {
            "host": "api.example", "workloadSelector": {"matchLabels": {"app": "client"}},
            "trafficPolicy": {"tls": tls},
        },
    })
    .to_string()
}

const ENTRY: &str = r#"{"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "api", "namespace": "yard"},
    "spec": {"hosts": ["api.example"], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "STATIC",
             "endpoints": [{"address": "192.0.2.1"}]}}"#;

fn changes(text: &str) -> impl Iterator<Item = Change> {
    let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
    let parsed = parse::documents(text, "world.yaml", &defaults);
    assert_eq!(parsed.diagnostics.iter().filter(|one| one.message.contains("hunter")).count(), 0);
    parsed.objects.into_iter().map(Change::Upsert)
}

/// Two namespaces that have the same names for everything, `yard` with a neighbour.
fn index() -> Index {
    let mut index = Index::new(MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system"));
    let objects = [
        pod("yard", "client"),
        pod("yard", "other"),
        pod("rail", "client"),
        secret("yard", "own"),
        secret("rail", "own"),
        secret("yard", "unused"),
        rule("yard"),
        rule("rail"),
        ENTRY.to_owned(),
    ];
    for change in changes(&objects.join("\n---\n")) {
        index.apply(change);
    }
    index
}

fn workload(world: &Snapshot, key: &str) -> Arc<Workload> {
    Arc::clone(world.workload(&key.parse().unwrap()).unwrap())
}

fn secrets(view: &View) -> Vec<Secret> {
    decode(view, &TypeUrl::SECRET)
}

fn names(view: &View) -> Vec<String> {
    secrets(view).into_iter().map(|secret| secret.name).collect()
}

#[test]
fn a_changed_secret_updates_only_the_proxies_that_use_it() {
    let mut index = index();
    let (world, mut fleet) = (index.freeze(), Fleet::default());
    let facts = ProxyFacts::usual(Audience::Envoy);
    let connect = |fleet: &mut Fleet, name| {
        let workload = workload(&world, name);
        fleet.connect(&world, &workload, key(&workload, facts)).unwrap()
    };
    let before = connect(&mut fleet, "yard/client");
    assert_eq!(names(&before), ["kubernetes://own", "kubernetes://own-cacert"]);
    assert_eq!(names(&connect(&mut fleet, "yard/other")), [""; 0]);
    let elsewhere = connect(&mut fleet, "rail/client");
    assert_eq!(names(&elsewhere), names(&before));
    assert_ne!(secrets(&elsewhere), secrets(&before), "the same name is another Secret elsewhere");

    let mut step = |fleet: &mut Fleet, object: &str| {
        let dirty = changes(object).fold(Default::default(), |mut all: eastwest_engine::DirtySet, change| {
            all.merge(index.apply(change));
            all
        });
        let updated = fleet.update(&index.freeze(), &dirty);
        updated.into_iter().map(|(key, view)| (key.workload.to_string(), view)).collect::<Vec<_>>()
    };
    assert!(step(&mut fleet, &secret("yard", "unused")).is_empty());
    let renewed = step(&mut fleet, &secret("yard", "own"));
    let [(who, view)] = &renewed[..] else { panic!("{renewed:?}") };
    assert_eq!(who, "yard/client");
    let changed: Vec<_> =
        view.iter().filter(|set| !Arc::ptr_eq(set, before.get(set.type_url()).unwrap())).collect();
    assert!(changed.len() == 1 && *changed[0].type_url() == TypeUrl::SECRET, "{changed:?}");
}

#[test]
fn an_unauthenticated_or_unknown_proxy_gets_no_secret() {
    let world = index().freeze();
    let mut fleet = Fleet::default();
    let proven = ProxyFacts::usual(Audience::Envoy);
    let client = workload(&world, "yard/client");
    let mut secrets_of = |workload: &Arc<Workload>, facts| {
        names(&fleet.connect(&world, workload, key(workload, facts)).unwrap())
    };
    assert_eq!(secrets_of(&client, proven).len(), 2);
    assert_eq!(secrets_of(&client, ProxyFacts { proven: false, ..proven }), [""; 0]);
    // The labels of an unknown pod are a claim of the proxy, whatever its identity.
    let mut unknown = (*client).clone();
    unknown.meta.object.name = "newcomer".into();
    assert_eq!(secrets_of(&Arc::new(unknown), proven), [""; 0]);
    // A pod with another service account.
    let mut other = (*client).clone();
    other.service_account = None;
    assert_eq!(secrets_of(&Arc::new(other.clone()), proven), [""; 0]);
    other.service_account = Some("other".into());
    let other = Arc::new(other);
    let refused = fleet.connect(&world, &other, key(&other, proven)).unwrap_err();
    assert_eq!(refused, ConnectError::OtherServiceAccount);
}

/// O9: metadata of a proxy count for it alone, also in another scope.
#[test]
fn a_proxys_own_certificate_is_requested_from_its_agent() {
    let mut index = index();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "other", "namespace": "yard"},
        "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "other"}, "ports": [{"port": 80, "name": "http"}]},
    });
    changes(&service.to_string()).for_each(|change| drop(index.apply(change)));
    let (world, mut fleet, facts) = (index.freeze(), Fleet::default(), ProxyFacts::usual(Audience::Envoy));
    let plain = workload(&world, "yard/client");
    let own = ProxyKey {
        certificate: eastwest_model::workload::ProxyCertificate::read(|entry| Some(entry.into())),
        ..key(&plain, facts)
    };
    let name = "outbound|80||other.yard.svc.cluster.local";
    let cluster = |view: &View| {
        let shown = String::from_utf8_lossy(&view.get(&TypeUrl::CLUSTER).unwrap().get(name).unwrap().body())
            .into_owned();
        (
            shown.contains("file-cert:TLS_CLIENT_CERT_CHAIN~TLS_CLIENT_KEY"),
            shown.contains("file-root:TLS_CLIENT_ROOT_CERT"),
        )
    };
    let before = fleet.connect(&world, &plain, own).unwrap();
    assert_eq!(cluster(&before), (true, true));
    assert_eq!(cluster(&fleet.connect(&world, &plain, key(&plain, facts)).unwrap()), (false, false));
    let relabelled = pod("yard", "client").replace("\"app\":\"client\"", "\"app\":\"moved\"");
    let dirty = changes(&relabelled).map(|change| index.apply(change)).collect::<Vec<_>>();
    let updated = fleet.update(&index.freeze(), &dirty[0]);
    let view = &updated.iter().find(|(key, _)| key.certificate.is_some()).unwrap().1;
    assert_eq!(cluster(view), (true, true), "in another scope too");
}

#[test]
fn people_see_the_certificate_and_never_the_key() {
    let world = index().freeze();
    let (settings, client) = (settings(&world, "yard/client"), workload(&world, "yard/client"));
    let text = serde_json::to_string_pretty(&render(&settings, &[], false).unwrap()).unwrap();
    let own = text.split("\"type\": \"sds\"").nth(1).unwrap();
    assert!(own.contains("[redacted] key of the certificate with SHA-256 "), "{own}");
    let private = settings.outbound.services.values().flat_map(|one| &one.clusters).find_map(|cluster| {
        cluster.secrets.values().find_map(|secret| match secret {
            eastwest_engine::settings::Secret::Pair(pair) => Some(pair.private_key.pem().to_owned()),
            _ => None,
        })
    });
    let line = private.unwrap().lines().nth(1).unwrap().to_owned();
    for shown in [text, format!("{settings:?}"), format!("{world:?}")] {
        assert!(!shown.contains(&line) && !shown.contains("PRIVATE KEY"), "a key is shown");
    }
    assert!(matches!(
        decode::<Secret>(
            &Fleet::default()
                .connect(&world, &client, key(&client, ProxyFacts::usual(Audience::Envoy)))
                .unwrap(),
            &TypeUrl::SECRET
        )[0]
        .r#type,
        Some(Type::TlsCertificate(_))
    ));
}

#[test]
fn a_renewed_secret_is_a_changed_resource() {
    let mut later = index();
    let before = later.freeze();
    changes(&secret("yard", "own")).for_each(|change| drop(later.apply(change)));
    let found = compare(&before, &later.freeze());
    let [only] = &found[..] else { panic!("{found:?}") };
    assert_eq!(only.proxies[0].to_string(), "yard/client");
    assert_eq!(only.types.keys().collect::<Vec<_>>(), [&of_type("sds")]);
    assert_eq!(only.types[&of_type("sds")].changed.len(), 2);
}
