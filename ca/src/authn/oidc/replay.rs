//! Tokens that were used already.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest;
use thiserror::Error;
use time::OffsetDateTime;

/// A token by issuer and `jti`; of one size, whatever they are.
type Key = [u8; 32];

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

/// The tokens that were used and are valid still. Bounded: rather than forget one, it takes no more.
#[derive(Debug)]
pub struct SpentTokens {
    limit: usize,
    spent: BTreeMap<Key, OffsetDateTime>,
    by_end: BTreeSet<(OffsetDateTime, Key)>,
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
    pub fn spend(
        &mut self,
        issuer: &str,
        id: &str,
        expires: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<(), ReplayError> {
        while let Some((_, key)) = self.by_end.first().filter(|(end, _)| *end <= now).copied() {
            self.by_end.pop_first();
            self.spent.remove(&key);
        }
        let key = key(issuer, id);
        if self.spent.contains_key(&key) {
            return Err(ReplayError::Spent);
        }
        if self.spent.len() >= self.limit {
            return Err(ReplayError::Full(self.limit));
        }
        self.spent.insert(key, expires);
        self.by_end.insert((expires, key));
        Ok(())
    }
}

fn key(issuer: &str, id: &str) -> Key {
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(&issuer.len().to_be_bytes());
    digest.update(issuer.as_bytes());
    digest.update(id.as_bytes());
    let mut key = Key::default();
    key.copy_from_slice(digest.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

    use super::*;

    #[test]
    fn a_token_is_accepted_once_and_memory_is_bounded() {
        let now = datetime!(2026-11-24 12:00:00 UTC);
        let end = now + Duration::minutes(5);
        let mut spent = SpentTokens::new(3);
        assert_eq!(spent.spend("a", "1", end, now), Ok(()));
        assert_eq!(spent.spend("a", "1", end, now), Err(ReplayError::Spent));
        assert_eq!(
            spent.spend("a", "1", end + Duration::days(1), now),
            Err(ReplayError::Spent),
            "by jti alone"
        );
        assert_eq!(spent.spend("b", "1", end, now), Ok(()), "another issuer's");
        assert_eq!(spent.spend("a1", "", end, now), Ok(()), "not the same text cut elsewhere");
        assert_eq!(spent.spend("c", "1", end, now), Err(ReplayError::Full(3)));
        assert_eq!(spent.spend("a", "1", end, end - Duration::seconds(1)), Err(ReplayError::Spent));
        assert_eq!(spent.spend("c", "1", end, end), Ok(()), "what has run out is forgotten");
        assert_eq!(spent.spent.len(), 1);
    }
}
