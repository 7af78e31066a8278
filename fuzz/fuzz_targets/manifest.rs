//! Manifests: each mistake becomes a diagnostic, never a panic.
#![no_main]

use eastwest_manifest::parse::documents;
use eastwest_model::{MeshConfig, TrustDomain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let domain = TrustDomain::parse("cluster.local").expect("a trust domain");
    let defaults = MeshConfig::new(domain, "istio-system");
    for file in ["a.yaml", "a.json"] {
        let _ = documents(text, file, &defaults);
    }
});
