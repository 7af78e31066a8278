//! Which word was meant.

use eastwest_model::edit_distance;

/// ` (did you mean "…"?)` for the nearest of `words`, or nothing if none is near.
pub(crate) fn did_you_mean<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> String {
    nearest(written, words, 1 + written.chars().count() / 4)
}

/// The same for words that differ in at most `bound` letters.
pub(crate) fn nearest<'a>(written: &str, words: impl Iterator<Item = &'a str>, bound: usize) -> String {
    let near = words.map(|word| (edit_distance(&fold(written), &fold(word)), word));
    match near.filter(|(distance, _)| *distance <= bound).min() {
        Some((_, word)) => format!(" (did you mean {word:?}?)"),
        None => String::new(),
    }
}

/// `port_level_mtls`, `PortLevelMtls` and `portLevelMTLS` are one word.
fn fold(word: &str) -> Vec<char> {
    word.chars().take(64).filter(|c| !"_- ".contains(*c)).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        let known = ["selector", "mtls", "portLevelMtls"];
        let hint = |word| did_you_mean(word, known.into_iter());
        assert_eq!(hint("selecter"), " (did you mean \"selector\"?)");
        assert_eq!(hint("port_level_mtls"), " (did you mean \"portLevelMtls\"?)");
        assert_eq!(hint("mTLS"), " (did you mean \"mtls\"?)");
        assert_eq!(hint("portLevelSettings"), "");
        assert_eq!(hint(""), "");
    }
}
