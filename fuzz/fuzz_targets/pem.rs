//! PEM, certificates and keys: an accepted bundle is written back unchanged.
#![no_main]

use eastwest_ca::{CertificateSummary, PrivateKey, TrustBundle, pem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(der) = pem::decode_one(text, &["CERTIFICATE"]) {
        assert_eq!(pem::decode_one(&pem::encode("CERTIFICATE", &der), &["CERTIFICATE"]), Ok(der));
    }
    for der in pem::certificates(text).unwrap_or_default() {
        let _ = CertificateSummary::of(&der);
    }
    if let Ok(bundle) = TrustBundle::from_pem(text) {
        let again = TrustBundle::from_pem(&bundle.pem()).expect("what we wrote");
        assert!(bundle.certificates().eq(again.certificates()));
    }
    let _ = PrivateKey::from_pem(text);
});
