//! How texts are compared (Z15 to Z20).

use eastwest_model::Name;
use regex::Regex;

/// What a text must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Text {
    /// At least one character.
    Any,
    Exact(Name),
    Prefix(Name),
    Suffix(Name),
    Contains(Name),
    /// The whole text matches this regular expression.
    Regex(Name),
}

impl Text {
    /// Z15: a leading star wins, then a trailing one; any other is literal.
    pub fn of(value: &str) -> Self {
        if value == "*" {
            Self::Any
        } else if let Some(suffix) = value.strip_prefix('*') {
            Self::Suffix(suffix.into())
        } else if let Some(prefix) = value.strip_suffix('*') {
            Self::Prefix(prefix.into())
        } else {
            Self::Exact(value.into())
        }
    }

    /// Whether `text` is so; `fold` compares ASCII letters without regard to case.
    pub fn matches(&self, text: &str, fold: bool) -> bool {
        let folded = |text: &str| if fold { text.to_ascii_lowercase() } else { text.to_owned() };
        let text = folded(text);
        match self {
            Self::Any => !text.is_empty(),
            Self::Exact(value) => text == folded(value),
            Self::Prefix(value) => text.starts_with(&folded(value)),
            Self::Suffix(value) => text.ends_with(&folded(value)),
            Self::Contains(value) => text.contains(&folded(value)),
            Self::Regex(pattern) => {
                // A pattern that is none matches nothing; all are made of escaped texts.
                Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(&text))
            }
        }
    }
}

/// A text in a regular expression, in which each star is `any`.
pub(super) fn escaped(text: &str, any: &str) -> String {
    text.split('*').map(regex::escape).collect::<Vec<_>>().join(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z15_stars_mean_something_at_the_ends_alone() {
        for (pattern, yes, no) in [
            ("abc", "abc", "abcd"),
            ("abc*", "abcd", "ab"),
            ("*abc", "xabc", "abcx"),
            ("*/a/*", "/v1/a/*", "/v1/a/7"),
            ("a*c", "a*c", "abc"),
            ("*", "x", ""),
        ] {
            assert!(Text::of(pattern).matches(yes, false), "{pattern} {yes}");
            assert!(!Text::of(pattern).matches(no, false), "{pattern} {no}");
        }
        assert!(Text::of("A.example").matches("a.EXAMPLE", true));
        assert!(Text::Regex(escaped("a.*b", "[^/]*").into()).matches("a.xxb", false));
        assert!(!Text::Regex(escaped("a.*b", "[^/]*").into()).matches("axxxb", false));
    }
}
