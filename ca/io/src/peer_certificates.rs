//! The certificates that a peer presented in the handshake. They stay the same for the whole connection, so their path
//! to a root is verified once for all requests, and again when the roots change or the path is no longer valid.

use std::{
    any::Any,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// The certificates of one connection, leaf first; empty if the peer presented none. Clones share what was verified.
#[derive(Debug, Clone)]
pub struct PeerCertificates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    chain: Vec<CertificateDer<'static>>,
    verified: Mutex<Option<Verified>>,
}

#[derive(Debug)]
struct Verified {
    roots: Weak<dyn Any + Send + Sync>,
    valid: RangeInclusive<OffsetDateTime>,
}

impl PeerCertificates {
    /// Certificates in the order of the handshake.
    pub fn new(chain: &[CertificateDer<'_>]) -> Self {
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        Self(Arc::new(Inner { chain, verified: Mutex::default() }))
    }

    /// Whether the peer presented none.
    pub fn is_empty(&self) -> bool {
        self.0.chain.is_empty()
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// Calls `verify` with the chain, unless an earlier call with the same `roots` returned a time range that contains
    /// `now`. `verify` returns the time range for which its verdict holds as long as `roots` stays the same.
    ///
    /// # Errors
    /// Those of `verify`. A failure is not kept.
    pub fn verify_once<R: Send + Sync + 'static, E>(
        &self,
        roots: &Arc<R>,
        now: OffsetDateTime,
        verify: impl FnOnce(&[CertificateDer<'static>]) -> Result<RangeInclusive<OffsetDateTime>, E>,
    ) -> Result<(), E> {
        let mut verified = self.0.verified.lock().unwrap_or_else(PoisonError::into_inner);
        // While the weak reference is kept, no other allocation has its address.
        let same = |one: &Verified| one.roots.as_ptr().cast() == Arc::as_ptr(roots);
        if !verified.as_ref().is_some_and(|one| same(one) && one.valid.contains(&now)) {
            *verified = None;
            let valid = verify(&self.0.chain)?;
            let roots: Weak<R> = Arc::downgrade(roots);
            *verified = Some(Verified { roots, valid });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn a_verdict_holds_for_its_time_and_its_roots() {
        let certificates = PeerCertificates::new(&[CertificateDer::from(vec![1])]);
        let now = OffsetDateTime::now_utc();
        let verified = |roots: &Arc<u8>, seconds| {
            let mut called = false;
            let at = now + Duration::seconds(seconds);
            let verify = |chain: &[CertificateDer<'_>]| {
                called = true;
                assert_eq!(chain.len(), 1);
                Ok::<_, ()>(at..=now + Duration::seconds(60))
            };
            certificates.clone().verify_once(roots, at, verify).unwrap();
            called
        };
        let roots = Arc::new(1);
        assert!(verified(&roots, 0));
        assert!(!verified(&roots, 60), "its last second");
        assert!(verified(&roots, 61), "no longer valid");
        assert!(verified(&roots, 30), "the clock was set back");
        assert!(!verified(&Arc::clone(&roots), 31));
        assert!(verified(&Arc::new(1), 31), "equal roots, but other ones");
    }

    #[test]
    fn a_failure_is_not_kept_and_ends_what_was_known() {
        let certificates = PeerCertificates::new(&[]);
        let (now, [ours, others]) = (OffsetDateTime::now_utc(), [Arc::new(1), Arc::new(2)]);
        let judge = |roots, verdict: Result<(), ()>| {
            certificates.verify_once(roots, now, |_| verdict.map(|()| now..=now))
        };
        assert!(judge(&ours, Ok(())).is_ok());
        assert!(judge(&ours, Err(())).is_ok(), "known");
        assert!(judge(&others, Err(())).is_err());
        assert!(judge(&ours, Err(())).is_err(), "forgotten");
    }
}
