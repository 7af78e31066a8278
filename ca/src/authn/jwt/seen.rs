//! A cache of verified signatures: a caller sends the same token with every request.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use ring::digest;

/// How many are remembered at least; at most twice as many.
const KEPT: usize = 8192;

/// SHA-256 over a message and its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(message: &[u8], signature: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&message.len().to_be_bytes());
        context.update(message);
        context.update(signature);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        Self(fingerprint)
    }
}

/// The signatures of one key that verified. Whether one does depends on nothing else, so nothing here goes out of date;
/// what else makes a token good is judged each time. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Generations>>);

/// When the younger is full, it becomes the older, and the older is forgotten.
#[derive(Debug, Default)]
struct Generations {
    younger: BTreeSet<Fingerprint>,
    older: BTreeSet<Fingerprint>,
}

impl Seen {
    /// Whether the signature verified before; if not, `verify` says whether it does.
    pub(super) fn or(&self, fingerprint: Fingerprint, verify: impl FnOnce() -> bool) -> bool {
        let known = {
            let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.younger.contains(&fingerprint) {
                return true;
            }
            seen.older.contains(&fingerprint)
        };
        let good = known || verify();
        if good {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.younger.len() >= KEPT {
                seen.older = std::mem::take(&mut seen.younger);
            }
            seen.younger.insert(fingerprint);
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_verified_is_remembered_and_what_did_not_is_not() {
        let seen = Seen::default();
        let fingerprint = |n: usize| Fingerprint::of(&n.to_be_bytes(), b"signature");
        assert!(!seen.or(fingerprint(0), || false));
        assert!(seen.or(fingerprint(0), || true), "asked again after it did not verify");
        assert!(seen.or(fingerprint(0), || panic!("it is known")));
        for n in 1..=KEPT {
            assert!(seen.or(fingerprint(n), || true));
            assert!(seen.or(fingerprint(0), || panic!("what is in use stays")));
        }
        for n in KEPT..=4 * KEPT {
            assert!(seen.or(fingerprint(n), || true));
        }
        assert!(!seen.or(fingerprint(0), || false), "what is out of use is forgotten");
        let kept = seen.0.lock().unwrap();
        assert!(kept.younger.len() + kept.older.len() <= 2 * KEPT);
    }

    #[test]
    fn message_and_signature_do_not_run_into_each_other() {
        assert_ne!(Fingerprint::of(b"ab", b"c"), Fingerprint::of(b"a", b"bc"));
    }
}
