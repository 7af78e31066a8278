//! Authentication by the client certificate of the TLS handshake: a workload renews with the certificate that it has.

use std::sync::Arc;

use eastwest_ca::{
    Caller, TrustBundle,
    peer::{self, PeerError},
};
use eastwest_io::PeerCertificates;
use time::OffsetDateTime;

use super::{AuthnError, Evidence, Method, oidc::RulesFile};
use crate::trust::ca_state::Current;

/// Authenticates the holders of certificates of our own CA.
pub(super) struct ClientCertificates {
    current: Current,
    jobs: Option<Arc<RulesFile>>,
}

impl ClientCertificates {
    /// Uses the roots and the trust domain of `current` at the time of each request.
    pub(super) fn new(current: Current) -> Self {
        Self { current, jobs: None }
    }

    /// The same, but not for identities of CI jobs: a job could renew its certificate beyond any bound.
    pub(super) fn without_jobs(self, jobs: Option<Arc<RulesFile>>) -> Self {
        Self { jobs, ..self }
    }
}

/// Verifies the path from the leaf to one of `roots`, unless that is known from an earlier request of the connection.
///
/// # Errors
/// See [`PeerError`].
pub(super) fn verify(
    certificates: &PeerCertificates,
    roots: &Arc<TrustBundle>,
    now: OffsetDateTime,
) -> Result<(), PeerError> {
    certificates.verify_once(roots, now, |chain| peer::verify(chain, roots, now).map(|path| path.window()))
}

#[tonic::async_trait]
impl Method for ClientCertificates {
    async fn authenticate(&self, evidence: &Evidence<'_>, now: OffsetDateTime) -> Result<Caller, AuthnError> {
        let certificates = &evidence.connection.certificates;
        let ca_state = self.current.load();
        verify(certificates, &ca_state.roots, now)?;
        let caller = peer::named(certificates.chain(), &ca_state.trust_domain)?;
        if self.jobs.as_ref().is_some_and(|jobs| jobs.may_grant(&caller.identity)) {
            return Err(AuthnError::JobCertificate(caller.identity));
        }
        Ok(caller)
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
    fn peer(now: OffsetDateTime) -> (PeerCertificates, Arc<TrustBundle>) {
        let identity = SpiffeId::parse("spiffe://td/ns/shop/sa/reviews").unwrap();
        let key = PrivateKey::generate().unwrap();
        let root = NewRoot::of(identity.trust_domain()).sign(&key, now).unwrap();
        let roots = TrustBundle::new(vec![root.clone()]).unwrap();
        let issuer = LocalIssuer::new(key, vec![root], &roots, now).unwrap();
        let caller = Caller::new(identity, Proof::Operator);
        let authorizer = Authorizer::new(caller.identity.trust_domain(), Lifetimes::default());
        let grant = authorizer.authorize(&caller, 3600).unwrap();
        let csr = VerifiedCsr::of(&PrivateKey::generate().unwrap()).unwrap();
        (PeerCertificates::new(&[issuer.issue(&grant, &csr, now).unwrap().der]), Arc::new(roots))
    }

    #[test]
    fn a_path_is_judged_again_when_roots_change_and_when_it_runs_out() {
        let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap();
        let (certificates, roots) = peer(now);
        let judge = |roots: &Arc<TrustBundle>, seconds| {
            let (first, known) = [(); 2]
                .map(|()| verify(&certificates.clone(), roots, now + Duration::seconds(seconds)))
                .into();
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

    /// A verified path counts for its bundle alone, even if the next bundle has the same address in memory.
    #[test]
    fn bundles_come_and_go() {
        let now = OffsetDateTime::now_utc();
        let (certificates, roots) = peer(now);
        let (_, others) = peer(now);
        for _ in 0..100 {
            let good = Arc::new(roots.as_ref().clone());
            assert!(verify(&certificates, &good, now).is_ok());
            drop(good);
            assert!(verify(&certificates, &Arc::new(others.as_ref().clone()), now).is_err());
        }
    }
}
