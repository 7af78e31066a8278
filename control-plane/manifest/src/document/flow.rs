//! Addresses that end with a colon, in flow style: `[1.2.3.4, 2001:db8::]`.
//!
//! To kubectl's parser a colon ends a plain scalar before white space alone, so such an address is text. By YAML 1.2 it
//! ends one before `,`, `]` and `}` as well.

use std::borrow::Cow;

/// The text with such addresses in quotes. Lines stay where they are.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    if !["::,", "::]", "::}"].iter().any(|end| text.contains(end)) {
        return text.into();
    }
    let (mut found, mut place, mut done) = (String::new(), Place::default(), 0);
    for (at, one) in text.char_indices() {
        let after = text[at..].strip_prefix("::").and_then(|rest| rest.chars().next());
        if place.depth > 0 && place.quote.is_none() && matches!(after, Some(',' | ']' | '}')) {
            let is_part = |c: char| c.is_ascii_hexdigit() || c == ':';
            let begin = text[..at].trim_end_matches(is_part).len();
            if text[..begin].ends_with(['[', '{', ',', ' ', '\n']) && begin >= done {
                found.push_str(&text[done..begin]);
                found.push('"');
                found.push_str(&text[begin..at + 2]);
                found.push('"');
                done = at + 2;
            }
        }
        place.pass(one);
    }
    found.push_str(&text[done..]);
    found.into()
}

/// Where a character stands.
#[derive(Default)]
struct Place {
    /// How many brackets are open.
    depth: usize,
    /// The quote that is open.
    quote: Option<char>,
    comment: bool,
    /// The character before; `None` at the beginning.
    last: Option<char>,
    /// The last one that is no space.
    solid: Option<char>,
}

impl Place {
    fn pass(&mut self, one: char) {
        let begins = self.last.is_none_or(|last| last.is_whitespace() || "[{,".contains(last));
        match (self.quote, one) {
            _ if self.comment => self.comment = one != '\n',
            (Some('"'), _) if self.last == Some('\\') => {
                // An escape is over, so that the next one counts.
                self.last = None;
                return;
            }
            (Some(quote), _) => self.quote = Some(quote).filter(|quote| *quote != one),
            (None, '#') if begins => self.comment = true,
            (None, '"' | '\'') if begins => self.quote = Some(one),
            // Elsewhere in a line it is a letter of plain text.
            (None, '[' | '{') if self.depth > 0 || self.solid.is_none_or(|solid| "\n:-".contains(solid)) => {
                self.depth += 1;
            }
            (None, ']' | '}') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.last = Some(one);
        self.solid = Some(one).filter(|one| !" \t\r".contains(*one)).or(self.solid);
    }
}
