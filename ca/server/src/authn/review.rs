//! Authentication by a service account token that the Kubernetes API verifies (TokenReview), for issuers whose keys are
//! not configured here.
//!
//! Requests with the same token share one TokenReview. A positive answer is cached for ten seconds, but not longer than
//! the token is valid.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eastwest_ca::{Caller, review};
use ring::digest;
use time::OffsetDateTime;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::timeout,
};

use super::{
    AuthnError, Evidence, Method, binding::BoundPods, kubernetes::KubernetesApi, oidc::RulesFile,
    token::BearerToken,
};
use crate::trust::ca_state::Current;

/// How long a positive answer is cached.
const MEMORY: time::Duration = time::Duration::seconds(10);
/// Longest that a request waits for an answer, its turn included.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions to the API at a time.
const AT_A_TIME: usize = 64;
/// Tokens in question or remembered.
const MAX_TOKENS: usize = 10_000;

/// SHA-256 of a token; the token itself is not kept.
type Key = [u8; 32];
/// An answer and until when it holds, there once the API gave it.
type Flight = OnceCell<Result<(Caller, OffsetDateTime), AuthnError>>;

/// Authenticates callers with a token that the Kubernetes API accepts.
pub(super) struct ReviewedTokens {
    current: Current,
    api: Arc<dyn KubernetesApi>,
    audiences: Vec<String>,
    /// Issuers that are judged here and never by the API.
    local: Vec<String>,
    rules: Option<Arc<RulesFile>>,
    /// The API keeps its answers for ten seconds, and so do we: the pods say at once that one is gone.
    pods: Option<BoundPods>,
    turns: Semaphore,
    flights: Mutex<BTreeMap<Key, Arc<Flight>>>,
}

impl ReviewedTokens {
    /// Sends `api` tokens for `audiences`, but never tokens of `local` issuers or of issuers in `rules`: those are
    /// verified here.
    pub(super) fn new(
        current: Current,
        api: Arc<dyn KubernetesApi>,
        audiences: Vec<String>,
        local: Vec<String>,
        rules: Option<Arc<RulesFile>>,
        pods: Option<BoundPods>,
    ) -> Self {
        let (turns, flights) = (Semaphore::new(AT_A_TIME), Mutex::default());
        Self { current, api, audiences, local, rules, pods, turns, flights }
    }

    /// The flight of a token: the one that is under way or landed well, else a new one.
    fn flight(&self, key: Key, now: OffsetDateTime) -> Result<Arc<Flight>, AuthnError> {
        let holds = |flight: &Arc<Flight>| match flight.get() {
            // There is no other owner once all waiting requests have ended.
            None => Arc::strong_count(flight) > 1,
            Some(Ok((_, until))) => *until > now,
            Some(Err(_)) => false,
        };
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key).filter(|flight| holds(flight)) {
            return Ok(Arc::clone(flight));
        }
        if flights.len() >= MAX_TOKENS {
            flights.retain(|_, flight| holds(flight));
        }
        if flights.len() >= MAX_TOKENS {
            return Err(AuthnError::Review("too many tokens are in question".to_owned()));
        }
        let flight = Arc::new(Flight::new());
        flights.insert(key, Arc::clone(&flight));
        Ok(flight)
    }

    async fn ask(
        &self,
        token: &BearerToken<'_>,
        now: OffsetDateTime,
    ) -> Result<(Caller, OffsetDateTime), AuthnError> {
        let failed = |error: String| AuthnError::Review(error);
        let question = review::question(token.text, &self.audiences).to_string();
        let answer = timeout(PATIENCE, async {
            let _turn = self.turns.acquire().await.map_err(|error| failed(error.to_string()))?;
            self.api.review(question).await.map_err(|error| failed(error.to_string()))
        });
        let answer = answer.await.map_err(|_| failed(format!("no answer within {PATIENCE:?}")))??;
        let trust_domain = self.current.load().trust_domain.clone();
        let caller = review::judge(&answer, &self.audiences, &trust_domain, token.jwt.expires())?;
        let until = now + MEMORY;
        Ok((caller, token.jwt.expires().map_or(until, |end| end.min(until))))
    }
}

#[tonic::async_trait]
impl Method for ReviewedTokens {
    async fn authenticate(&self, evidence: &Evidence<'_>, now: OffsetDateTime) -> Result<Caller, AuthnError> {
        let token = evidence.token()?;
        let issuer = token.jwt.issuer();
        let elsewhere = self.local.iter().any(|local| local == issuer)
            || self.rules.as_ref().is_some_and(|rules| rules.knows(issuer));
        if elsewhere || token.jwt.expires().is_some_and(|end| end <= now) {
            return Err(AuthnError::Review("it is not asked about this token".to_owned()));
        }
        let mut key = Key::default();
        key.copy_from_slice(digest::digest(&digest::SHA256, token.text.as_bytes()).as_ref());
        let flight = self.flight(key, now)?;
        let landed = flight.get_or_init(|| self.ask(token, now)).await;
        let (caller, _) = landed.clone()?;
        if let Some(pods) = &self.pods {
            pods.check(&caller).await?;
        }
        Ok(caller)
    }
}
