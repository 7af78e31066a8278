use std::{path::Path, process::Command};

use eastwest_proto::{envoy::config::bootstrap::v3::Bootstrap, json};

use super::*;
use crate::{config::AgentConfig, tests::stock_envoy};

fn settings(control_plane: &str, name: Option<&str>) -> Settings {
    let config = AgentConfig {
        control_plane: control_plane.into(),
        control_plane_name: name.map(str::to_owned),
        namespace: "shop".into(),
        pod: "reviews-0".into(),
        service_account: "reviews".into(),
        ips: vec!["10.0.0.7".into()],
        labels: [("app", "reviews"), ("version", "1")].map(|(k, v)| (k.into(), v.into())).into(),
        dir: "/run/eastwest".into(),
        ..AgentConfig::default()
    };
    Settings::parse(config).unwrap()
}

fn variants() -> [Settings; 5] {
    let mut without = settings("127.0.0.1:15012", None);
    without.config.internal_listeners = false;
    let mut ipv6 = settings("[::1]:15012", None);
    ipv6.ips = vec!["fd00::7".parse().unwrap()];
    [
        settings("eastwest.istio-system.svc:15012", None),
        settings("127.0.0.1:15012", None),
        settings("[::1]:15012", Some("istiod.istio-system.svc")),
        without,
        ipv6,
    ]
}

#[test]
fn the_document_is_the_golden_one() {
    let text = yaml(&settings("eastwest.istio-system.svc:15012", None)).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/envoy/bootstrap/golden.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap(), "UPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn every_field_is_one_that_envoy_knows() {
    for settings in variants() {
        let document = bootstrap(&settings);
        let typed: Bootstrap = json::from_json(&document).unwrap();
        let reread: Value = serde_saphyr::from_str(&yaml(&settings).unwrap()).unwrap();
        assert_eq!(reread, document, "YAML says the same");
        assert_eq!(typed.static_resources.unwrap().clusters.len(), 2);
    }
}

#[test]
fn internal_listeners_are_declared_in_metadata_and_bootstrap() {
    for allowed in [true, false] {
        let mut settings = settings("127.0.0.1:15012", None);
        settings.config.internal_listeners = allowed;
        let typed: Bootstrap = json::from_json(&bootstrap(&settings)).unwrap();
        assert_eq!(typed.bootstrap_extensions.len(), usize::from(allowed));
        let said = &node(&settings)["metadata"]["INTERNAL_LISTENERS"];
        assert_eq!(said, if allowed { "true" } else { "false" });
    }
}

#[test]
fn all_addresses_are_told_and_the_first_one_is_in_the_id() {
    let mut settings = settings("127.0.0.1:15012", None);
    settings.ips = ["fd00::7", "10.0.0.7"].map(|ip| ip.parse().unwrap()).into();
    let node = node(&settings);
    assert_eq!(node["id"], "sidecar~fd00::7~reviews-0.shop~shop.svc.cluster.local");
    assert_eq!(node["metadata"]["INSTANCE_IPS"], "fd00::7,10.0.0.7");
}

#[test]
fn the_name_expected_decides_about_sni_and_san() {
    let tls =
        |settings: &Settings| control_plane_cluster(settings)["transport_socket"]["typed_config"].clone();
    let san = |tls: &Value| {
        let context = &tls["common_tls_context"]["combined_validation_context"];
        context["default_validation_context"]["match_typed_subject_alt_names"][0].clone()
    };
    let [dns, ip, named, ..] = variants().map(|settings| tls(&settings));
    assert_eq!(dns["sni"], "eastwest.istio-system.svc");
    assert_eq!(san(&dns), json!({"san_type": "DNS", "matcher": {"exact": "eastwest.istio-system.svc"}}));
    assert_eq!(ip.get("sni"), None, "RFC 6066: no address as server name");
    assert_eq!(san(&ip), json!({"san_type": "IP_ADDRESS", "matcher": {"exact": "127.0.0.1"}}));
    assert_eq!(named["sni"], "istiod.istio-system.svc");
}

#[test]
fn stock_envoy_accepts_it() {
    let Some(envoy) = stock_envoy("stock_envoy_accepts_it") else { return };
    for settings in variants() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("envoy.yaml");
        std::fs::write(&path, yaml(&settings).unwrap()).unwrap();
        let validation = Command::new(&envoy).args(["--mode", "validate", "-c"]).arg(&path).output().unwrap();
        let log = String::from_utf8_lossy(&validation.stderr);
        assert!(validation.status.success(), "{log}");
        assert!(!log.contains("deprecated"), "{log}");
    }
}
