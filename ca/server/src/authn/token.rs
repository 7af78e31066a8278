//! Authentication by a service account token in `authorization: Bearer`, verified here.

use std::sync::Arc;

use eastwest_ca::{Caller, Jwt, Pods, ServiceAccount, SharedPods, pods};
use time::OffsetDateTime;
use tonic::metadata::MetadataMap;

use super::{AuthnError, Evidence, Method, keys::Issuers};
use crate::trust::ca_state::Current;

const SCHEME: &str = "Bearer ";

/// Authenticates callers with a token of one of the trusted issuers.
pub(super) struct BearerTokens {
    current: Current,
    issuers: Arc<Issuers<Vec<String>>>,
    pods: Option<SharedPods>,
}

impl BearerTokens {
    /// Judges by `issuers`, each with the audiences that its tokens must be for, and the trust domain that `current`
    /// has at that moment. A token that is bound to a pod is good while that pod is among `pods`.
    pub(super) fn new(
        current: Current,
        issuers: Arc<Issuers<Vec<String>>>,
        pods: Option<SharedPods>,
    ) -> Self {
        Self { current, issuers, pods }
    }
}

#[tonic::async_trait]
impl Method for BearerTokens {
    async fn authenticate(&self, evidence: &Evidence<'_>, now: OffsetDateTime) -> Result<Caller, AuthnError> {
        let token = evidence.token()?;
        let (verified, audiences) = self.issuers.verify(&token.jwt, now).await?;
        let caller = verified.service_account(audiences, &self.current.load().trust_domain)?;
        check_binding(&caller, self.pods.as_deref())?;
        Ok(caller)
    }
}

/// A token that is bound to a pod is refused when the pod is gone (CA.md A20). Where no pods are known at all, it is
/// valid until it expires.
fn check_binding(caller: &Caller, pods: Option<&(dyn Pods + Send + Sync)>) -> Result<(), AuthnError> {
    let (Some(bound), Some(pods)) = (caller.proof.pod(), pods) else { return Ok(()) };
    if let Some(account) = ServiceAccount::of(&caller.identity) {
        pods::bound_pod(pods, &account, bound)?;
    }
    Ok(())
}

/// The token in the one `authorization` header of a request, parsed but not verified.
pub(super) struct BearerToken<'a> {
    /// The token as it was sent. Not to be logged.
    pub(super) text: &'a str,
    /// The same, parsed.
    pub(super) jwt: Jwt<'a>,
}

impl<'a> BearerToken<'a> {
    /// Parses the token of a request.
    ///
    /// # Errors
    /// There is no such header, more than one, or one without a token.
    pub(super) fn parse(metadata: &'a MetadataMap) -> Result<Self, AuthnError> {
        let mut values = metadata.get_all("authorization").iter();
        let value = values.next().ok_or(AuthnError::Header("no authorization header"))?;
        if values.next().is_some() {
            return Err(AuthnError::Header("more than one authorization header"));
        }
        let text = value.to_str().map_err(|_| AuthnError::Header("the authorization header is not text"))?;
        match text.split_at_checked(SCHEME.len()) {
            Some((scheme, text)) if scheme.eq_ignore_ascii_case(SCHEME) => {
                Ok(Self { text, jwt: Jwt::parse(text)? })
            }
            _ => Err(AuthnError::Header("the authorization header bears no token")),
        }
    }
}
