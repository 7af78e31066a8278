//! Pods, and the binding of tokens to them.

use std::sync::Arc;

use eastwest_identity::{Name, WorkloadKey};
use thiserror::Error;

use crate::authn::{caller::BoundObject, service_account::ServiceAccount};

/// A pod, as far as proofs of identity look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: WorkloadKey,
    /// The service account that it runs as, if that is known.
    pub service_account: Option<Name>,
    /// `metadata.uid`, which tells a pod from its successor of the same name; a manifest written by hand has none.
    pub uid: Option<Name>,
    /// The node that it was assigned to, started or not.
    pub node: Option<Name>,
    /// Whether it has ended (phase Succeeded or Failed).
    pub ended: bool,
}

/// The pods of the cluster at one moment, as far as proofs of identity must know them.
pub trait Pods {
    /// The pod of that name.
    fn pod(&self, key: &WorkloadKey) -> Option<Pod>;

    /// The pods of a service account.
    fn pods_of(&self, account: &ServiceAccount) -> Vec<Pod>;

    /// What is known of a service account.
    fn account(&self, account: &ServiceAccount) -> KnownAccount {
        let _ = account;
        KnownAccount::Unfollowed
    }
}

/// What is known of a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownAccount {
    /// Service accounts are not followed.
    Unfollowed,
    /// There is none of that name.
    Absent,
    /// It exists and has this UID.
    Uid(Name),
}

/// The pods of the cluster, shared.
pub type SharedPods = Arc<dyn Pods + Send + Sync>;

/// Why the pod of a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BindingError {
    /// It does not exist: it was deleted, or has not been seen yet.
    #[error("the token is bound to the pod {0}, which does not exist")]
    NoPod(WorkloadKey),
    /// Another pod of the same name.
    #[error("the token is bound to the pod {pod} of UID {bound:?}, but the one that exists is {real:?}")]
    Uid {
        /// Which pod.
        pod: WorkloadKey,
        /// The UID in the token.
        bound: String,
        /// The UID of the pod.
        real: String,
    },
    /// The pod runs as another service account.
    #[error("the token is bound to the pod {pod}, whose service account is {real:?}")]
    Account {
        /// Which pod.
        pod: WorkloadKey,
        /// Its service account.
        real: String,
    },
    /// The service account does not exist: it was deleted, or has not been seen yet.
    #[error("the token is for the service account {0}, which does not exist")]
    NoAccount(String),
    /// Another service account of the same name.
    #[error(
        "the token is for the service account {account} of UID {bound:?}, but the one that exists is {real:?}"
    )]
    AccountUid {
        /// Namespace and name.
        account: String,
        /// The UID in the token.
        bound: String,
        /// The UID of the account.
        real: String,
    },
    /// The pod is on another node than the token says.
    #[error("the token is for the pod {pod} on the node {bound:?}, but the pod is on {real:?}")]
    Node {
        /// Which pod.
        pod: WorkloadKey,
        /// The node in the token.
        bound: String,
        /// The node of the pod.
        real: String,
    },
    /// The pod is on no node, or that has not been seen yet.
    #[error("the token is for the pod {pod} on the node {bound:?}, but the pod is on no node")]
    NoNode {
        /// Which pod.
        pod: WorkloadKey,
        /// The node in the token.
        bound: String,
    },
}

impl BindingError {
    /// Whether an object that is not known here yet may be the reason.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NoPod(_)
                | Self::Uid { .. }
                | Self::NoAccount(_)
                | Self::AccountUid { .. }
                | Self::NoNode { .. }
        )
    }
}

/// Checks that the service account of a token is the one that exists now, where accounts are followed.
///
/// # Errors
/// It does not exist, or another one of its name does.
pub fn check_account(
    pods: &dyn Pods,
    account: &ServiceAccount,
    bound: &BoundObject,
) -> Result<(), BindingError> {
    let name = || format!("{}/{}", account.namespace(), account.name());
    match pods.account(account) {
        KnownAccount::Unfollowed => Ok(()),
        KnownAccount::Absent => Err(BindingError::NoAccount(name())),
        KnownAccount::Uid(real) if *real == *bound.uid => Ok(()),
        KnownAccount::Uid(real) => Err(BindingError::AccountUid {
            account: name(),
            bound: bound.uid.clone(),
            real: real.to_string(),
        }),
    }
}

/// The pod that a token of `account` is bound to: it must exist, have that UID, run as that account, and be on `node` if the
/// token names one. A pod without a UID (a manifest written by hand) is known by its name, and its node if that has one.
///
/// # Errors
/// See [`BindingError`].
pub fn bound_pod(
    pods: &dyn Pods,
    account: &ServiceAccount,
    bound: &BoundObject,
    node: Option<&BoundObject>,
) -> Result<Pod, BindingError> {
    let key = WorkloadKey { namespace: account.namespace().into(), name: bound.name.as_str().into() };
    let Some(pod) = pods.pod(&key) else { return Err(BindingError::NoPod(key)) };
    if let Some(real) = pod.uid.as_deref().filter(|real| *real != bound.uid) {
        return Err(BindingError::Uid { pod: key, bound: bound.uid.clone(), real: real.to_owned() });
    }
    let real = pod.service_account.as_deref().unwrap_or_default();
    if real != account.name() {
        return Err(BindingError::Account { pod: key, real: real.to_owned() });
    }
    let Some(node) = node else { return Ok(pod) };
    let bound = node.name.clone();
    match pod.node.as_deref() {
        Some(real) if real != node.name => Err(BindingError::Node { pod: key, bound, real: real.to_owned() }),
        // A manifest written by hand may name no node; a pod of a cluster that has a token is on one.
        None if pod.uid.is_some() => Err(BindingError::NoNode { pod: key, bound }),
        Some(_) | None => Ok(pod),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Accounts(KnownAccount);

    impl Pods for Accounts {
        fn pod(&self, _: &WorkloadKey) -> Option<Pod> {
            None
        }

        fn pods_of(&self, _: &ServiceAccount) -> Vec<Pod> {
            Vec::new()
        }

        fn account(&self, _: &ServiceAccount) -> KnownAccount {
            self.0.clone()
        }
    }

    #[test]
    fn a_token_is_for_the_service_account_of_its_uid() {
        let account: ServiceAccount = "shop/reviews".parse().unwrap();
        let check = |known: KnownAccount, uid: &str| {
            let bound = BoundObject { name: "reviews".to_owned(), uid: uid.to_owned() };
            check_account(&Accounts(known), &account, &bound).map_err(|error| error.to_string())
        };
        assert_eq!(check(KnownAccount::Unfollowed, "u"), Ok(()));
        assert_eq!(check(KnownAccount::Uid("u".into()), "u"), Ok(()));
        let replaced = check(KnownAccount::Uid("v".into()), "u").unwrap_err();
        assert!(
            replaced.contains("shop/reviews") && replaced.contains("\"u\"") && replaced.contains("\"v\"")
        );
        assert!(check(KnownAccount::Absent, "u").unwrap_err().contains("does not exist"));
    }
}
