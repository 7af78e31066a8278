//! The certificates that a peer shows in the handshake. They stay the same for the whole connection, so that the path
//! to a root is verified once for all of its requests, and again when the roots change or a part of the path has run out.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use eastwest_ca::{
    Caller, TrustBundle,
    peer::{self, PeerError, ValidPath},
};
use eastwest_identity::TrustDomain;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// The certificates of one connection, leaf first; none, if the peer showed none. Clones share what is known of them.
#[derive(Debug, Clone)]
pub struct Shown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    chain: Vec<CertificateDer<'static>>,
    verified: Mutex<Option<Verified>>,
}

#[derive(Debug)]
struct Verified {
    roots: Weak<TrustBundle>,
    path: ValidPath,
}

impl Shown {
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Self {
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        Self(Arc::new(Inner { chain, verified: Mutex::default() }))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.chain.is_empty()
    }

    /// Verifies the path to a root, unless that is known.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub(crate) fn verify(&self, roots: &Arc<TrustBundle>, now: OffsetDateTime) -> Result<(), PeerError> {
        let mut verified = self.0.verified.lock().unwrap_or_else(PoisonError::into_inner);
        // As long as the weak one is kept, no other bundle comes to lie where this one lay.
        let known = |one: &Verified| one.roots.as_ptr() == Arc::as_ptr(roots) && one.path.holds(now);
        if !verified.as_ref().is_some_and(known) {
            *verified = None;
            let path = peer::verify(&self.0.chain, roots, now)?;
            *verified = Some(Verified { roots: Arc::downgrade(roots), path });
        }
        Ok(())
    }

    /// Who shows them at `now`.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub(crate) fn identify(
        &self,
        roots: &Arc<TrustBundle>,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<Caller, PeerError> {
        self.verify(roots, now)?;
        peer::named(&self.0.chain, trust_domain)
    }
}

#[cfg(test)]
mod tests {
    use eastwest_ca::{
        Authorizer, Issuer as _, Lifetimes, LocalIssuer, NewRoot, PrivateKey, Proof, VerifiedCsr,
    };
    use eastwest_identity::SpiffeId;
    use time::Duration;

    use super::*;

    /// A root of its own, and a certificate below it for an hour.
    fn peer(now: OffsetDateTime) -> (Shown, Arc<TrustBundle>) {
        let identity = SpiffeId::parse("spiffe://td/ns/shop/sa/reviews").unwrap();
        let key = PrivateKey::generate().unwrap();
        let root = NewRoot::of(identity.trust_domain()).sign(&key, now).unwrap();
        let roots = TrustBundle::new(vec![root.clone()]).unwrap();
        let issuer = LocalIssuer::new(key, vec![root], &roots, now).unwrap();
        let caller = Caller::new(identity, Proof::Operator);
        let authorizer = Authorizer::new(caller.identity.trust_domain(), Lifetimes::default());
        let grant = authorizer.authorize(&caller, 3600).unwrap();
        let csr = VerifiedCsr::of(&PrivateKey::generate().unwrap()).unwrap();
        (Shown::new(&[issuer.issue(&grant, &csr, now).unwrap().der]), Arc::new(roots))
    }

    #[test]
    fn a_path_is_judged_again_when_roots_change_and_when_it_runs_out() {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
        let (shown, roots) = peer(now);
        let judge = |roots: &Arc<TrustBundle>, seconds| {
            let (first, known) =
                [(); 2].map(|()| shown.clone().verify(roots, now + Duration::seconds(seconds))).into();
            assert_eq!(first, known, "a clone, which knows what the first found");
            first.is_ok()
        };
        assert!(judge(&roots, 0) && judge(&roots, 3600), "its last second");
        assert!(!judge(&roots, 3601), "it has run out");
        assert!(judge(&roots, 0), "the clock was set back");
        assert!(!judge(&roots, -3700), "further back than its root");
        let (_, others) = peer(now);
        assert!(!judge(&others, 0), "roots of others");
        assert!(judge(&Arc::new(others.as_ref().clone().and(&roots)), 0), "and ours among them");
        assert!(!judge(&others, 0));
    }

    /// What is known must not outlive the bundle it was known by, wherever the next one lies.
    #[test]
    fn bundles_come_and_go() {
        let now = OffsetDateTime::now_utc();
        let (shown, roots) = peer(now);
        let (_, others) = peer(now);
        for _ in 0..100 {
            let good = Arc::new(roots.as_ref().clone());
            assert!(shown.verify(&good, now).is_ok());
            drop(good);
            assert!(shown.verify(&Arc::new(others.as_ref().clone()), now).is_err());
        }
    }
}
