//! Tokens that were used already.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use ring::digest;
use thiserror::Error;
use time::OffsetDateTime;

use crate::{wall_clock::Reading, x509::public_key::hex};

/// A token by issuer and `jti`; of one size, whatever they are. Shown as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// The token of `issuer` with this `jti`.
    pub fn new(issuer: &str, id: &str) -> Self {
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(&issuer.len().to_be_bytes());
        digest.update(issuer.as_bytes());
        digest.update(id.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(digest.finish().as_ref());
        Self(key)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Why a token cannot be used again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It was used before.
    #[error("the token was used before; a job asks for a new one each time")]
    Spent,
    /// So many tokens are remembered that one more cannot be.
    #[error("{0} tokens that are still valid were used; no more can be remembered")]
    Full(usize),
}

/// The tokens that were used and are valid still. Bounded: rather than forget one, it takes no more. A token is forgotten
/// when it has run out by the wall clock and as much real time has passed, so that a clock which is set ahead for a moment
/// makes no token good again.
#[derive(Debug)]
pub struct SpentTokens {
    limit: usize,
    spent: BTreeMap<TokenId, OffsetDateTime>,
    /// By the real time at which they run out.
    by_end: BTreeSet<(Duration, TokenId)>,
}

impl SpentTokens {
    /// None yet, and at most `limit` at a time.
    pub fn new(limit: usize) -> Self {
        Self { limit, spent: BTreeMap::new(), by_end: BTreeSet::new() }
    }

    /// Uses a token up.
    ///
    /// # Errors
    /// It was used before, or no more can be remembered.
    pub fn spend(&mut self, key: TokenId, expires: OffsetDateTime, now: Reading) -> Result<(), ReplayError> {
        while let Some((_, key)) = self.by_end.first().filter(|(end, _)| *end <= now.running).copied() {
            if self.spent.get(&key).is_some_and(|expires| *expires > now.wall) {
                break;
            }
            self.by_end.pop_first();
            self.spent.remove(&key);
        }
        if self.spent.contains_key(&key) {
            return Err(ReplayError::Spent);
        }
        if self.spent.len() >= self.limit {
            return Err(ReplayError::Full(self.limit));
        }
        self.spent.insert(key, expires);
        let left = Duration::try_from(expires - now.wall).unwrap_or_default();
        self.by_end.insert((now.running.saturating_add(left), key));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

    use super::*;

    #[test]
    fn a_token_is_accepted_once_and_memory_is_bounded() {
        let wall = datetime!(2026-11-24 12:00:00 UTC);
        let end = wall + Duration::minutes(5);
        let at = |wall, seconds| Reading { wall, running: std::time::Duration::from_secs(seconds) };
        let now = at(wall, 7);
        let mut spent = SpentTokens::new(3);
        assert_eq!(spent.spend(TokenId::new("a", "1"), end, now), Ok(()));
        assert_eq!(spent.spend(TokenId::new("a", "1"), end, now), Err(ReplayError::Spent));
        assert_eq!(
            spent.spend(TokenId::new("a", "1"), end + Duration::days(1), now),
            Err(ReplayError::Spent),
            "by jti alone"
        );
        assert_eq!(spent.spend(TokenId::new("b", "1"), end, now), Ok(()), "another issuer's");
        assert_eq!(spent.spend(TokenId::new("a1", ""), end, now), Ok(()), "not the same text cut elsewhere");
        assert_eq!(spent.spend(TokenId::new("c", "1"), end, now), Err(ReplayError::Full(3)));
        assert_eq!(
            spent.spend(TokenId::new("a", "1"), end, at(end - Duration::seconds(1), 306)),
            Err(ReplayError::Spent)
        );
        let ahead = at(end + Duration::days(3650), 8);
        assert_eq!(
            spent.spend(TokenId::new("c", "1"), end, ahead),
            Err(ReplayError::Full(3)),
            "a clock that was set ahead makes nobody forget"
        );
        assert_eq!(spent.spend(TokenId::new("a", "1"), end, at(wall, 9)), Err(ReplayError::Spent));
        let over = at(end, 307);
        assert_eq!(spent.spend(TokenId::new("c", "1"), end, over), Ok(()), "what has run out is forgotten");
        assert_eq!(spent.spent.len(), 1);
        assert_eq!(TokenId::new("a", "1").to_string().len(), 64);
    }
}
