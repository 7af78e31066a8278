//! Ledger files: no input is a valid ledger, because the fuzzer has no key.
#![no_main]

use std::sync::LazyLock;

use eastwest_ca::{PrivateKey, TrustBundle, ledger::Verifier, new_root::self_signed_root};
use eastwest_model::TrustDomain;
use libfuzzer_sys::fuzz_target;
use time::macros::datetime;

static ROOTS: LazyLock<TrustBundle> = LazyLock::new(|| {
    let domain = TrustDomain::parse("cluster.local").expect("a trust domain");
    let key = PrivateKey::generate().expect("random numbers");
    let root = self_signed_root(&domain, &key, datetime!(2026-11-24 12:00 UTC)).expect("a root");
    TrustBundle::new(vec![root]).expect("a bundle")
});

fuzz_target!(|bytes: &[u8]| {
    let mut verifier = Verifier::new(&ROOTS);
    if verifier.segment(1).is_err() {
        return;
    }
    for line in bytes.split(|&byte| byte == b'\n') {
        if verifier.line(line).is_err() {
            return;
        }
    }
    let _ = verifier.finish();
});
