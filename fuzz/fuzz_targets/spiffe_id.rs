//! SPIFFE IDs and trust domains: an accepted ID prints as its input, byte for byte, and has allowed characters only.
#![no_main]

use eastwest_model::{SpiffeId, TrustDomain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(domain) = TrustDomain::parse(text) {
        assert_eq!(domain.as_str(), text);
        assert!(text.len() <= 255 && SpiffeId::parse(&format!("spiffe://{text}")).is_ok());
    }
    let Ok(id) = SpiffeId::parse(text) else { return };
    assert_eq!(id.as_str(), text);
    assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
    assert!(text.len() <= 2048 && text.chars().all(allowed), "{text:?}");
    assert!(!id.path().split('/').skip(1).any(|segment| ["", ".", ".."].contains(&segment)), "{text:?}");
    if let Ok((namespace, account)) = id.as_workload() {
        assert_eq!(format!("/ns/{namespace}/sa/{account}"), id.path());
        if let Ok(again) = SpiffeId::workload(&id.trust_domain(), namespace, account) {
            assert_eq!(again, id);
        }
    }
});
