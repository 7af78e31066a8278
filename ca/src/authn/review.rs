//! What the Kubernetes API says about a token (TokenReview, `authentication.k8s.io/v1`; CA.md C15).

use eastwest_identity::{IdentityError, SpiffeId, TrustDomain};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use thiserror::Error;
use time::OffsetDateTime;

use crate::authn::{
    caller::{BoundObject, Caller, Proof},
    jwt::service_account,
};

/// The group of all service accounts.
const GROUP: &str = "system:serviceaccounts";
/// What comes before the names of the extras that we read.
const EXTRA: &str = "authentication.kubernetes.io/";

/// Why a reviewed token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// The answer is no TokenReview.
    #[error("the Kubernetes API answered with something that is no TokenReview")]
    Answer,
    /// The API does not authenticate the token.
    #[error("the Kubernetes API does not authenticate the token: {0:?}")]
    Refused(String),
    /// The token is for other audiences. An API that does not support audiences names none.
    #[error("the Kubernetes API says that the token is for {0:?}, not for us")]
    Audience(Vec<String>),
    /// Not a service account.
    #[error("the Kubernetes API says that the token is of {0:?}, which is no service account")]
    Subject(String),
    /// Namespace or service account are not as Kubernetes writes them.
    #[error("the Kubernetes API names no service account: {0}")]
    Identity(#[from] IdentityError),
}

/// The TokenReview that asks whether `token` is valid for one of `audiences`.
pub fn question(token: &str, audiences: &[String]) -> Value {
    json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences},
    })
}

#[derive(Deserialize)]
struct Review {
    kind: String,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    error: String,
    audiences: Vec<String>,
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// An object that the token is bound to: `pod-name` and `pod-uid`.
    fn bound(&self, kind: &str) -> Option<BoundObject> {
        let value = |what: &str| match self.extra.get(&format!("{EXTRA}{kind}-{what}")).map(Vec::as_slice) {
            Some([one]) => Some(one.clone()),
            _ => None,
        };
        Some(BoundObject { name: value("name")?, uid: value("uid").unwrap_or_default() })
    }
}

/// The caller by the `answer` of the API. `expires` comes from the token itself.
///
/// # Errors
/// See [`ReviewError`]: everything must hold.
pub fn judge(
    answer: &[u8],
    audiences: &[String],
    trust_domain: &TrustDomain,
    expires: Option<OffsetDateTime>,
) -> Result<Caller, ReviewError> {
    let review: Review = serde_json::from_slice(answer).map_err(|_| ReviewError::Answer)?;
    if review.kind != "TokenReview" {
        return Err(ReviewError::Answer);
    }
    let Status { authenticated, error, audiences: named, user } = review.status;
    if !authenticated || !error.is_empty() {
        return Err(ReviewError::Refused(error.chars().take(200).collect()));
    }
    if !named.iter().any(|name| audiences.contains(name)) {
        return Err(ReviewError::Audience(named));
    }
    let account = service_account(&user.username).filter(|_| user.groups.iter().any(|group| group == GROUP));
    let (namespace, account) = account.ok_or_else(|| ReviewError::Subject(user.username.clone()))?;
    let identity = SpiffeId::workload(trust_domain, namespace, account)?;
    Ok(Caller::new(identity, Proof::Reviewed { expires, pod: user.bound("pod"), node: user.bound("node") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(change: impl Fn(&mut Value)) -> Result<Caller, ReviewError> {
        let mut answer = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": {
            "authenticated": true, "error": "", "audiences": ["istio-ca"], "user": {
                "username": "system:serviceaccount:shop:reviews", "uid": "u",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/pod-name": ["reviews-0"],
                    "authentication.kubernetes.io/pod-uid": ["p"], "authentication.kubernetes.io/node-name": ["n1"]}}}});
        change(&mut answer);
        judge(
            answer.to_string().as_bytes(),
            &["istio-ca".to_owned()],
            &TrustDomain::parse("td").unwrap(),
            None,
        )
    }

    #[test]
    fn a_review_must_hold_in_everything() {
        let caller = verdict(|_| {}).unwrap();
        assert_eq!(caller.identity.as_str(), "spiffe://td/ns/shop/sa/reviews");
        assert_eq!(caller.proof.pod(), Some(&BoundObject { name: "reviews-0".into(), uid: "p".into() }));
        assert_eq!(caller.proof.node().map(|node| node.name.as_str()), Some("n1"));
        for (path, value) in [
            ("/kind", json!("Status")),
            ("/status", json!(null)),
            ("/status/authenticated", json!(false)),
            ("/status/authenticated", json!("true")),
            ("/status/error", json!("expired")),
            ("/status/audiences", json!([])),
            ("/status/audiences", json!(["https://kubernetes.default.svc"])),
            ("/status/audiences/0", json!("ISTIO-CA")),
            ("/status/user/username", json!("system:serviceaccount:shop")),
            ("/status/user/username", json!("system:serviceaccountx:shop:a")),
            ("/status/user/username", json!("system:serviceaccount:shop:a:b")),
            ("/status/user/username", json!("system:serviceaccount:shop:a/b")),
            ("/status/user/username", json!("kubernetes-admin")),
            ("/status/user/groups", json!([])),
            ("/status/user/groups/0", json!("system:authenticated")),
        ] {
            let refused = verdict(|answer| *answer.pointer_mut(path).unwrap() = value.clone());
            assert!(refused.is_err(), "{path} {value}: {refused:?}");
        }
        let without = verdict(|answer| drop(answer["status"].as_object_mut().unwrap().remove("audiences")));
        assert!(matches!(without, Err(ReviewError::Audience(_))));
        let two = verdict(|answer| {
            answer["status"]["user"]["extra"]["authentication.kubernetes.io/pod-name"] = json!(["a", "b"]);
        });
        assert_eq!(two.unwrap().proof.pod(), None, "of two pods, none");
        assert_eq!(judge(b"{", &[], &TrustDomain::parse("td").unwrap(), None), Err(ReviewError::Answer));
    }
}
