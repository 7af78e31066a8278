//! Worlds and what stock Envoy is sent for one of their workloads. `UPDATE_GOLDEN=1` writes the goldens anew.

use std::{env, fs};

use eastwest_proto::{Message, Name, eastwest::v1::WorkloadTls};
use eastwest_translate::{Audience, ProxyFacts, ProxyRole, Translator};
use eastwest_xds::TypeUrl;
use serde_json::Value;

use crate::world::{Resources, decode, json, path, read, settings};

#[test]
fn a_shop_as_its_web_server_sees_it() {
    let world = read("shop.yaml");
    let found = Resources::of(&world, "shop/web-0");
    let faults: Vec<_> = [
        compare("clusters.json", &found.clusters),
        compare("endpoints.json", &found.assignments),
        compare("listeners.json", &found.listeners),
        compare("routes.json", &found.routes),
        compare("settings.json", &own_type(&settings(&world, "shop/web-0"))),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(
        faults.is_empty(),
        "not as in the goldens (UPDATE_GOLDEN=1 writes them anew):\n{}",
        faults.join("\n")
    );
}

fn own_type(settings: &eastwest_engine::settings::WorkloadTls) -> Vec<WorkloadTls> {
    let mut translator = Translator::default();
    let outbound = translator.outbound(ProxyRole::Sidecar, &settings.outbound, None);
    decode(
        &translator.view(settings, &outbound, ProxyFacts::usual(Audience::Other), None),
        &TypeUrl::WORKLOAD_TLS,
    )
}

fn compare<M: Message + Name>(file: &str, found: &[M]) -> Vec<String> {
    let file = path("golden").join(file);
    let text = serde_json::to_string_pretty(&Value::Array(json(found))).unwrap() + "\n";
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let golden = fs::read_to_string(&file).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).position(|(old, new)| old != new);
    let shorter = golden.lines().count().min(text.lines().count());
    (golden != text)
        .then(|| {
            let at = differs.unwrap_or(shorter);
            let line = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_owned();
            format!("{} line {}:\n- {}\n+ {}", file.display(), at + 1, line(&golden), line(&text))
        })
        .into_iter()
        .collect()
}
