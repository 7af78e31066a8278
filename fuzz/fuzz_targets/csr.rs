//! Certification requests: the key of an accepted request has the encoding that certificates use.
#![no_main]

use eastwest_ca::{PublicKey, VerifiedCsr, pem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let by_der = VerifiedCsr::from_der(bytes);
    let by_text = std::str::from_utf8(bytes).ok().and_then(|text| VerifiedCsr::from_pem(text).ok());
    for csr in by_der.into_iter().chain(by_text) {
        assert_eq!(PublicKey::from_spki(csr.key().spki()).as_ref(), Ok(csr.key()));
    }
    // The fuzzer reaches deeper when it need not know base64.
    let _ = VerifiedCsr::from_pem(&pem::encode("CERTIFICATE REQUEST", bytes));
});
