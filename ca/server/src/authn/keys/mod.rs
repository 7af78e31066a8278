//! The public keys of token issuers, kept up to date: from a file, from an address, or by OIDC discovery.

mod source;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use eastwest_ca::{
    Jwt, KeySet,
    jwt::{TokenError, Verified},
};
use eastwest_io::SourceStatus;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

pub use self::source::{KeySource, SourceError};
use super::AuthnError;

/// Longest that a request waits for keys that it asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often keys are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Regular interval.
    pub every: Duration,
    /// Shortest interval, after a failure or when a token names an unknown key.
    pub at_least: Duration,
}

impl Pace {
    /// For addresses: every five minutes, never within ten seconds.
    pub const ADDRESS: Self = Self { every: Duration::from_secs(300), at_least: Duration::from_secs(10) };
    /// For files: every second.
    pub const FILE: Self = Self { every: Duration::from_secs(1), at_least: Duration::from_secs(1) };
}

/// The keys of one issuer: the last ones that were read successfully.
pub struct IssuerKeys {
    issuer: String,
    keys: ArcSwapOption<KeySet>,
    source: Option<(KeySource, Pace)>,
    followed: Arc<SourceStatus>,
    /// A token named an unknown key.
    wanted: Notify,
    /// When the source was asked last.
    asked: watch::Sender<Option<Instant>>,
}

impl IssuerKeys {
    /// Keys that never change.
    pub fn fixed(issuer: String, keys: KeySet) -> Arc<Self> {
        Self::new(issuer, Some(keys), None)
    }

    /// The keys in a JWKS file, to be followed.
    ///
    /// # Errors
    /// The file cannot be read, or holds no keys.
    pub fn in_file(issuer: String, path: PathBuf) -> Result<Arc<Self>, SourceError> {
        let keys = source::read_file(&path, &mut None)?;
        Ok(Self::new(issuer, keys, Some((KeySource::File(path), Pace::FILE))))
    }

    /// Keys that [`IssuerKeys::follow`] will bring.
    pub fn followed(issuer: String, source: KeySource, pace: Pace) -> Arc<Self> {
        Self::new(issuer, None, Some((source, pace)))
    }

    fn new(issuer: String, keys: Option<KeySet>, source: Option<(KeySource, Pace)>) -> Arc<Self> {
        let keys = ArcSwapOption::from_pointee(keys);
        let at = source.as_ref().map_or_else(String::new, |(source, _)| source.to_string());
        let followed = Arc::new(SourceStatus::new("token-keys", at));
        Arc::new(Self {
            issuer,
            keys,
            source,
            followed,
            wanted: Notify::new(),
            asked: watch::Sender::new(None),
        })
    }

    /// The issuer whose keys these are.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The source and what is wrong with it, if there is one.
    pub(super) fn origin(&self) -> Option<Arc<SourceStatus>> {
        self.source.as_ref().map(|_| Arc::clone(&self.followed))
    }

    /// Keeps the keys up to date; never returns. If the source fails, the previous keys stay.
    pub async fn follow(self: Arc<Self>) {
        let Some((source, pace)) = &self.source else { return std::future::pending().await };
        let mut seen = None;
        loop {
            let wait = match source.read(&self.issuer, &mut seen).await {
                Ok(Some(keys)) => {
                    tracing::info!(issuer = self.issuer, keys = keys.len(), %source, "token keys read");
                    self.keys.store(Some(Arc::new(keys)));
                    self.followed.note(Ok(()));
                    pace.every
                }
                Ok(None) => {
                    self.followed.note(Ok(()));
                    pace.every
                }
                Err(error) => {
                    let (error, kept) = (error.to_string(), self.keys.load().is_some());
                    let so = if kept { "the keys before stay" } else { "no keys are known yet" };
                    let told = format!("keys of {}: {error}; {so}", self.issuer);
                    if self.followed.note(Err(told)) {
                        tracing::warn!(issuer = self.issuer, error, kept, "token keys not read");
                    }
                    pace.at_least
                }
            };
            self.asked.send_replace(Some(Instant::now()));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.soon(pace.at_least) => {}
            }
        }
    }

    /// Waits until keys are requested, but at least `at_least`.
    async fn soon(&self, at_least: Duration) {
        tokio::time::sleep(at_least).await;
        self.wanted.notified().await;
    }

    /// Reads the source again, unless that just happened, and waits for the result.
    async fn renewed(&self) -> Option<Arc<KeySet>> {
        let (_, pace) = self.source.as_ref()?;
        let mut asked = self.asked.subscribe();
        if asked.borrow_and_update().is_some_and(|at| at.elapsed() < pace.at_least) {
            return None;
        }
        self.wanted.notify_one();
        tokio::time::timeout(PATIENCE, asked.changed()).await.ok()?.ok()?;
        self.keys.load_full()
    }

    /// Verifies the token with the keys of this issuer at `now`. If its key is unknown, the keys are read again.
    async fn verify(&self, token: &Jwt<'_>, now: OffsetDateTime) -> Result<Verified, AuthnError> {
        let unknown = match self.keys.load_full() {
            Some(keys) => match token.verify(&keys, now) {
                Err(error @ TokenError::Key { .. }) => AuthnError::Token(error),
                judged => return Ok(judged?),
            },
            None => AuthnError::NoKeys(self.issuer.clone()),
        };
        match self.renewed().await {
            Some(keys) => Ok(token.verify(&keys, now)?),
            None => Err(unknown),
        }
    }
}

/// Issuers whose tokens are verified here, each with what its tokens are good for.
pub(super) struct Issuers<T>(BTreeMap<String, (Arc<IssuerKeys>, T)>);

impl<T> Issuers<T> {
    pub(super) fn new(issuers: impl IntoIterator<Item = (Arc<IssuerKeys>, T)>) -> Self {
        Self(issuers.into_iter().map(|(keys, use_)| (keys.issuer.clone(), (keys, use_))).collect())
    }

    pub(super) fn get(&self, issuer: &str) -> Option<Arc<IssuerKeys>> {
        self.0.get(issuer).map(|(keys, _)| Arc::clone(keys))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<IssuerKeys>> {
        self.0.values().map(|(keys, _)| keys)
    }

    /// Verifies the token with the keys of its issuer; returns its claims and the value of that issuer.
    pub(super) async fn verify(
        &self,
        token: &Jwt<'_>,
        now: OffsetDateTime,
    ) -> Result<(Verified, &T), AuthnError> {
        let named = || TokenError::Issuer(token.issuer().to_owned());
        let (keys, purpose) = self.0.get(token.issuer()).ok_or_else(named)?;
        Ok((keys.verify(token, now).await?, purpose))
    }
}
