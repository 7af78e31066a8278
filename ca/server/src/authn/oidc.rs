//! Authentication by an OIDC token of a CI job, from an issuer that the operator's rules name.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use eastwest_ca::{
    Caller, JobRules,
    oidc::{ReplayError, SpentTokens, TokenId},
    wall_clock::Reading,
};
use eastwest_identity::SpiffeId;
use eastwest_io::{HttpsClient, SourceStatus};
use serde_json::Value;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::{
    AuthnError, Evidence, Method,
    keys::{IssuerKeys, Issuers, KeySource, Pace},
};
use crate::trust::ca_state::Current;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Largest file in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// Most tokens that are remembered at a time, so that none is used twice; some 15 MB.
const MAX_SPENT: usize = 100_000;

/// The rules cannot be used. Says every mistake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {}", path.display(), mistakes.join("; "))]
pub struct RulesError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, each with its field.
    pub mistakes: Vec<String>,
}

/// Rules in a file, with the keys of their issuers.
pub struct RulesFile {
    path: PathBuf,
    client: HttpsClient,
    /// Issuers of service account tokens. No rule may name them.
    taken: Vec<String>,
    loaded: ArcSwap<Loaded>,
    followed: Arc<SourceStatus>,
}

/// The rules as they were read last.
struct Loaded {
    text: String,
    rules: JobRules,
    issuers: Issuers<()>,
}

impl RulesFile {
    /// Reads the rules; keys at addresses are fetched by `client`. None of the rules may be for an issuer of `taken`,
    /// whose tokens are those of service accounts.
    ///
    /// # Errors
    /// The file cannot be read, or rules in it are wrong.
    pub fn open(path: PathBuf, client: HttpsClient, taken: Vec<String>) -> Result<Arc<Self>, RulesError> {
        let nothing = Loaded { text: String::new(), rules: JobRules::default(), issuers: Issuers::new([]) };
        let followed = Arc::new(SourceStatus::new("oidc-rules", path.display()));
        let file = Self { path, client, taken, loaded: ArcSwap::from_pointee(nothing), followed };
        let text = file.read().map_err(|mistake| file.error(vec![mistake]))?;
        let loaded = file.load(text).map_err(|mistakes| file.error(mistakes))?;
        file.loaded.store(Arc::new(loaded));
        Ok(Arc::new(file))
    }

    fn error(&self, mistakes: Vec<String>) -> RulesError {
        RulesError { path: self.path.clone(), mistakes }
    }

    fn read(&self) -> Result<String, String> {
        let bytes = fs::metadata(&self.path).map_err(|error| error.to_string())?.len();
        if bytes > MAX_BYTES {
            return Err(format!("{bytes} bytes are more than the {MAX_BYTES} allowed"));
        }
        fs::read_to_string(&self.path).map_err(|error| error.to_string())
    }

    /// Keys whose source did not change are kept.
    fn load(&self, text: String) -> Result<Loaded, Vec<String>> {
        let document: Value =
            serde_saphyr::from_str(&text).map_err(|error| vec![format!("neither YAML nor JSON: {error}")])?;
        let rules = JobRules::from_value(&document)?;
        let (mut keys, mut mistakes) = (Vec::<Arc<IssuerKeys>>::new(), Vec::new());
        let before = self.loaded.load();
        for (at, rule) in rules.iter().enumerate() {
            if self.taken.iter().any(|taken| taken == rule.issuer()) {
                mistakes
                    .push(format!("rules[{at}].issuer: its tokens are those of service accounts already"));
            } else if !keys.iter().any(|known| known.issuer() == rule.issuer()) {
                let unchanged = before
                    .rules
                    .iter()
                    .find(|old| old.issuer() == rule.issuer() && old.jwks() == rule.jwks());
                match unchanged.and_then(|old| before.issuers.get(old.issuer())) {
                    Some(known) => keys.push(known),
                    None => match self.keys(rule.issuer(), rule.jwks()) {
                        Ok(new) => keys.push(new),
                        Err(mistake) => mistakes.push(format!("rules[{at}].{mistake}")),
                    },
                }
            }
        }
        let issuers = Issuers::new(keys.into_iter().map(|keys| (keys, ())));
        if mistakes.is_empty() { Ok(Loaded { text, rules, issuers }) } else { Err(mistakes) }
    }

    fn keys(&self, issuer: &str, jwks: Option<&str>) -> Result<Arc<IssuerKeys>, String> {
        let name = issuer.to_owned();
        match jwks {
            Some(jwks) if jwks.contains("://") => {
                let source =
                    KeySource::parse(jwks, &self.client).map_err(|error| format!("jwks: {error}"))?;
                Ok(IssuerKeys::followed(name, source, Pace::ADDRESS))
            }
            Some(file) => {
                let beside = self.path.parent().unwrap_or(Path::new("")).join(file);
                IssuerKeys::in_file(name, beside).map_err(|error| format!("jwks: {error}"))
            }
            None => {
                let source = KeySource::discovered(issuer, &self.client)
                    .map_err(|error| format!("issuer: its keys are found by discovery, but {error}"))?;
                Ok(IssuerKeys::followed(name, source, Pace::ADDRESS))
            }
        }
    }

    /// Follows the file and the keys; never returns. If the file is invalid, the previous rules stay.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut seen = stamp(&self.path);
        loop {
            let loaded = self.loaded.load_full();
            let _following: JoinSet<()> =
                loaded.issuers.keys().map(|keys| Arc::clone(keys).follow()).collect();
            let next = loop {
                tokio::time::sleep(LOOK).await;
                let now = stamp(&self.path);
                if now == seen && self.followed.problem().is_none() {
                    continue;
                }
                seen = now;
                match self.again(&loaded.text) {
                    Ok(None) => drop(self.followed.note(Ok(()))),
                    Ok(Some(next)) => break next,
                    Err(error) => {
                        let error = error.to_string();
                        if self.followed.note(Err(format!("{error}; the rules before stay"))) {
                            tracing::error!(error, "OIDC rules not read; the old ones stay");
                        }
                    }
                }
            };
            tracing::info!(file = %self.path.display(), rules = next.rules.iter().count(), "OIDC rules read");
            self.followed.note(Ok(()));
            self.loaded.store(Arc::new(next));
        }
    }

    fn again(&self, before: &str) -> Result<Option<Loaded>, RulesError> {
        let text = self.read().map_err(|mistake| self.error(vec![mistake]))?;
        if text == before {
            return Ok(None);
        }
        self.load(text).map(Some).map_err(|mistakes| self.error(mistakes))
    }

    /// The file and the sources of its issuers' keys, with what is wrong with each.
    pub(super) fn followed(&self) -> Vec<Arc<SourceStatus>> {
        let loaded = self.loaded.load();
        let keys = loaded.issuers.keys().filter_map(|keys| keys.origin());
        std::iter::once(Arc::clone(&self.followed)).chain(keys).collect()
    }

    /// Whether a rule names this issuer.
    pub(super) fn knows(&self, issuer: &str) -> bool {
        self.loaded.load().issuers.get(issuer).is_some()
    }

    /// Whether a rule can give this identity to a job.
    pub(super) fn may_grant(&self, identity: &SpiffeId) -> bool {
        self.loaded.load().rules.may_grant(identity)
    }
}

/// A value that changes with the file.
fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Remembers for all replicas of a CA which tokens were used.
#[tonic::async_trait]
pub trait SharedSpentTokens: Send + Sync + 'static {
    /// Uses a token up, which runs out at `expires`; returns whether nobody had used it before. Of several replicas that
    /// ask at once, one is told so.
    ///
    /// # Errors
    /// It cannot be known now, and why.
    async fn spend(&self, token: TokenId, expires: OffsetDateTime) -> Result<bool, String>;
}

/// The tokens that were used.
enum Spent {
    /// In this process, which is the only one; with the beginning of real time.
    Here(Mutex<SpentTokens>, Instant),
    /// Among replicas.
    Shared(Arc<dyn SharedSpentTokens>),
}

impl Spent {
    async fn spend(
        &self,
        token: TokenId,
        expires: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<(), AuthnError> {
        match self {
            Self::Here(spent, began) => {
                let now = Reading { wall: now, running: began.elapsed() };
                let mut spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(spent.spend(token, expires, now)?)
            }
            Self::Shared(spent) => match spent.spend(token, expires).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(ReplayError::Spent.into()),
                Err(reason) => Err(AuthnError::Unavailable(format!(
                    "it is not known whether the token of the job was used before: {reason}"
                ))),
            },
        }
    }
}

/// Authenticates CI jobs; each token is accepted once.
pub(super) struct JobTokens {
    current: Current,
    rules: Arc<RulesFile>,
    spent: Spent,
}

impl JobTokens {
    /// Judges by `rules` and the trust domain that `current` has at that moment. `shared` remembers what was used; without
    /// it, this process does.
    pub(super) fn new(
        current: Current,
        rules: Arc<RulesFile>,
        shared: Option<Arc<dyn SharedSpentTokens>>,
    ) -> Self {
        let here = || Spent::Here(Mutex::new(SpentTokens::new(MAX_SPENT)), Instant::now());
        Self { current, rules, spent: shared.map_or_else(here, Spent::Shared) }
    }
}

#[tonic::async_trait]
impl Method for JobTokens {
    async fn authenticate(&self, evidence: &Evidence<'_>, now: OffsetDateTime) -> Result<Caller, AuthnError> {
        let token = evidence.token()?;
        let loaded = self.rules.loaded.load_full();
        let (verified, ()) = loaded.issuers.verify(&token.jwt, now).await?;
        let job = loaded.rules.judge(&verified, &self.current.load().trust_domain)?;
        let id = TokenId::new(verified.issuer(), &job.id);
        self.spent.spend(id, verified.expires(), now).await?;
        Ok(job.caller)
    }
}
