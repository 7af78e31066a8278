//! SPIFFE bundles of other domains: an accepted bundle is written back unchanged.
#![no_main]

use eastwest_ca::{SpiffeBundle, spiffe_bundle};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(bundle) = SpiffeBundle::from_json(text) {
        assert_eq!(SpiffeBundle::from_json(&bundle.to_json()).as_ref(), Ok(&bundle));
        let _ = (bundle.pem(), bundle.roots().is_some(), bundle.jwt_key_set());
    }
    let _ = spiffe_bundle::map_from_json(text);
});
