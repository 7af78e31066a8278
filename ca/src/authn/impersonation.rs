//! Node proxies that request certificates for the pods on their node (CA.md C18).

use std::collections::BTreeSet;

use eastwest_identity::{IdentityError, SpiffeId, TrustDomain};
use thiserror::Error;

use crate::authn::{
    caller::{Caller, Represented},
    pods::{BindingError, Pod, Pods, bound_pod},
    service_account::ServiceAccount,
};

/// Why impersonation is refused. For our log; the peer gets no reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ImpersonationError {
    /// The metadata holds something else than text.
    #[error("the identity asked for is not text")]
    NotText,
    /// The caller has no token that is bound to a pod, so its node is not known.
    #[error("{0} asked for another identity without a token that is bound to a pod")]
    Unbound(SpiffeId),
    /// The caller is not one of the trusted node accounts.
    #[error("{0} asked for another identity, but is none of the trusted node accounts")]
    Untrusted(SpiffeId),
    /// Not `spiffe://TD/ns/NS/sa/SA`.
    #[error("the identity asked for, {0:?}, is not that of a service account: {1}")]
    Identity(String, IdentityError),
    /// Another trust domain.
    #[error("{0} was asked for, which is of another trust domain")]
    TrustDomain(SpiffeId),
    /// A protected identity.
    #[error("{0} was asked for, which nobody may represent")]
    Protected(SpiffeId),
    /// The caller's pod is not the one that its token is bound to.
    #[error(transparent)]
    Binding(#[from] BindingError),
    /// The pods of the cluster are not known here.
    #[error("no identity can be represented: the pods of the cluster are not known here")]
    NoPods,
    /// The caller's pod has no UID, no node, another node than its token, or has ended.
    #[error("the pod {0} of the caller {1}")]
    CallerPod(String, &'static str),
    /// No pod of that identity on the caller's node.
    #[error("no live pod of {identity} is on the node {node:?} of the caller")]
    Elsewhere {
        /// Who was asked for.
        identity: SpiffeId,
        /// The caller's node.
        node: String,
    },
}

/// The service accounts of node proxies, and the accounts that they may never represent.
#[derive(Debug, Clone, Default)]
pub struct NodeAccounts {
    trusted: BTreeSet<ServiceAccount>,
    protected: BTreeSet<ServiceAccount>,
}

impl NodeAccounts {
    /// Proxies of the accounts `trusted` may speak for the pods beside them, but never for `protected` accounts, nor
    /// for one another.
    pub fn new(
        trusted: impl IntoIterator<Item = ServiceAccount>,
        protected: impl IntoIterator<Item = ServiceAccount>,
    ) -> Self {
        Self { trusted: trusted.into_iter().collect(), protected: protected.into_iter().collect() }
    }

    /// `caller`, speaking for the workload of `trust_domain` whose identity it `asked` for. The identity is a text of
    /// five parts that is compared as a whole, so nothing can be hidden in it (CA.md A9 and A10).
    ///
    /// # Errors
    /// See [`ImpersonationError`]: everything must hold.
    pub fn represent(
        &self,
        caller: Caller,
        asked: &str,
        trust_domain: &TrustDomain,
        pods: &dyn Pods,
    ) -> Result<Caller, ImpersonationError> {
        let own = ServiceAccount::of(&caller.identity).filter(|own| self.trusted.contains(own));
        let own = own.ok_or_else(|| ImpersonationError::Untrusted(caller.identity.clone()))?;
        let (identity, account) = self.target(asked, trust_domain)?;
        let node = node_of(&caller, &own, pods)?;
        let beside = |pod: &Pod| !pod.ended && pod.node.as_deref() == Some(&*node);
        let Some(pod) = pods.pods_of(&account).into_iter().find(beside) else {
            return Err(ImpersonationError::Elsewhere { identity, node });
        };
        Ok(caller.on_behalf_of(Represented { identity, node, pod: pod.key }))
    }

    fn target(
        &self,
        asked: &str,
        trust_domain: &TrustDomain,
    ) -> Result<(SpiffeId, ServiceAccount), ImpersonationError> {
        let refused = |error| ImpersonationError::Identity(asked.chars().take(300).collect(), error);
        let identity = SpiffeId::parse(asked).map_err(refused)?;
        if identity.trust_domain() != *trust_domain {
            return Err(ImpersonationError::TrustDomain(identity));
        }
        let account = ServiceAccount::of(&identity).ok_or_else(|| refused(IdentityError::NotAWorkload))?;
        if self.protected.contains(&account) || self.trusted.contains(&account) {
            return Err(ImpersonationError::Protected(identity));
        }
        Ok((identity, account))
    }
}

/// The node of the caller's pod, which must live, be the one that the token is bound to, and be where the token says.
fn node_of(caller: &Caller, own: &ServiceAccount, pods: &dyn Pods) -> Result<String, ImpersonationError> {
    let unbound = || ImpersonationError::Unbound(caller.identity.clone());
    let bound = caller.proof.pod().ok_or_else(unbound)?;
    let pod = bound_pod(pods, own, bound, None)?;
    let refused = |reason| Err(ImpersonationError::CallerPod(pod.key.to_string(), reason));
    if pod.uid.is_none() {
        return refused("has no UID that could be compared");
    }
    if pod.ended {
        return refused("has ended");
    }
    let Some(node) = pod.node.as_deref() else { return refused("is on no node") };
    if caller.proof.node().is_some_and(|told| told.name != node) {
        return refused("is on another node than its token says");
    }
    Ok(node.to_owned())
}

#[cfg(test)]
mod tests;
