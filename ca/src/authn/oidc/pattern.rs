//! Patterns for whole claims.

use thiserror::Error;

/// Fewest characters that a pattern must begin with before its first wildcard.
const MIN_PREFIX: usize = 4;
/// Characters that part a claim into segments, which `*` does not leave.
const SEPARATORS: [char; 2] = ['/', ':'];
/// What people write elsewhere to say more than a text; here it would be taken literally, and mislead.
const FOREIGN: [char; 12] = ['?', '[', ']', '{', '}', '(', ')', '|', '^', '$', '\\', '"'];

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It matches nothing.
    #[error("it is empty: write the text that the claim must have")]
    Empty,
    /// A character that means something elsewhere.
    #[error(
        "{0:?} has no meaning here: write a whole text, with * for part of a segment and ** for all that follows"
    )]
    Foreign(char),
    /// A wildcard too early: the pattern would match values that anyone can choose.
    #[error("a wildcard needs at least {MIN_PREFIX} characters before it; {0:?} would let strangers in")]
    Unanchored(String),
    /// `**` elsewhere than after a separator at the end.
    #[error("** stands only at the end and after / or :, for example repo:acme/shop:**")]
    Rest,
}

/// A text that a claim must equal as a whole, byte for byte. `*` stands for one or more characters of a segment (no `/`
/// and no `:`), `**` at the end for whatever follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// See [`PatternError`]: one that matches too much does not exist.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if let Some(foreign) = text.chars().find(|c| FOREIGN.contains(c) || c.is_control()) {
            return Err(PatternError::Foreign(foreign));
        }
        let Some(first) = text.find('*') else { return Ok(Self(text.to_owned())) };
        if text[..first].chars().count() < MIN_PREFIX {
            return Err(PatternError::Unanchored(text.to_owned()));
        }
        match text.find("**") {
            None => Ok(Self(text.to_owned())),
            Some(at) if at + 2 == text.len() && text[..at].ends_with(SEPARATORS) => Ok(Self(text.to_owned())),
            Some(_) => Err(PatternError::Rest),
        }
    }

    /// Whether the whole of `claim` matches.
    pub fn matches(&self, claim: &str) -> bool {
        let mut segments = claim.split_inclusive(SEPARATORS);
        for pattern in self.0.split_inclusive(SEPARATORS) {
            match (pattern, segments.next()) {
                ("**", rest) => return rest.is_some(),
                (pattern, Some(segment)) if segment_matches(pattern, segment) => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

/// One segment, its separator included. `*` takes at least one character and no separator: those stand at the end of
/// both.
fn segment_matches(pattern: &str, segment: &str) -> bool {
    let mut literals = pattern.split('*');
    let first = literals.next().unwrap_or_default();
    let Some(mut rest) = segment.strip_prefix(first) else { return false };
    let mut literals = literals.peekable();
    if literals.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(literal) = literals.next() {
        let Some(wild) = rest.chars().next().filter(|c| !SEPARATORS.contains(c)) else { return false };
        rest = &rest[wild.len_utf8()..];
        if literals.peek().is_none() {
            return rest.strip_suffix(literal).is_some_and(|middle| !middle.ends_with(SEPARATORS));
        }
        let Some(at) = rest.find(literal) else { return false };
        rest = &rest[at + literal.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_claims() {
        for (pattern, good, bad) in [
            (
                "main",
                &["main"][..],
                &["main2", "xmain", "Main", " main", "main ", "main\n", "", "ma\u{0456}n"][..],
            ),
            (
                "repo:acme/shop:ref:refs/heads/*",
                &["repo:acme/shop:ref:refs/heads/main", "repo:acme/shop:ref:refs/heads/x-1"],
                &[
                    "repo:acme/shop:ref:refs/heads/",
                    "repo:acme/shop:ref:refs/heads/a/b",
                    "repo:acme/shop:ref:refs/heads/a:b",
                    "repo:acme/shop2:ref:refs/heads/main",
                    "xrepo:acme/shop:ref:refs/heads/main",
                    "repo:acme/shop:ref:refs/heads",
                ],
            ),
            (
                "repo:acme/shop:**",
                &["repo:acme/shop:pull_request", "repo:acme/shop:ref:refs/heads/a/b"],
                &["repo:acme/shop:", "repo:acme/shop", "repo:acme/shop-evil:ref:x", "repo:acme/shop/x"],
            ),
            ("acme/*", &["acme/shop"], &["acme/", "acme-evil/shop", "acme/a/b", "acme/shop:x"]),
            (
                "refs/tags/v*-rc*",
                &["refs/tags/v1-rc2"],
                &["refs/tags/v-rc1", "refs/tags/v1-rc", "refs/tags/v1"],
            ),
            ("acme/*/x", &["acme/b/x"], &["acme//x", "acme/b/c/x", "acme/b/xx"]),
            ("acme/*shop", &["acme/a-shop"], &["acme/shop", "acme/shopx"]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            for text in good {
                assert!(parsed.matches(text), "{pattern} must match {text:?}");
            }
            for text in bad {
                assert!(!parsed.matches(text), "{pattern} must not match {text:?}");
            }
        }
    }

    #[test]
    fn patterns_that_admit_foreign_jobs_are_refused() {
        for bad in [
            "*",
            "**",
            "*main",
            "r*",
            "abc*",
            "a/*",
            "**/main",
            "repo**",
            "repo:a**",
            "repo:**:x",
            "repo:***",
        ] {
            let refused = Pattern::parse(bad);
            assert!(
                matches!(refused, Err(PatternError::Unanchored(_) | PatternError::Rest)),
                "{bad}: {refused:?}"
            );
        }
        for bad in ["", "^main$", "main|dev", "ma?n", "[ab]main", "repo:(a)", "ma\\in", "main\n", "{a,b}"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["m", "main", "repo:*", "acme/*", "acme*", "refs/heads/**"] {
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
    }
}
