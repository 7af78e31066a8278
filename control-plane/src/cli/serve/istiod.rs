//! Settings under istiod's names (CA.md C26). They are read where neither a flag of ours nor
//! its `EASTWEST_…` variable says otherwise.

use std::{env, time::Duration};

use crate::config::{Problems, go_duration};

/// The variable's text; `None` if it is absent or empty.
pub(super) fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

/// The variable's duration in Go's syntax; `None` after a mistake, which is added to `problems`.
#[expect(clippy::option_option, reason = "absent is no mistake")]
pub(super) fn duration(name: &str, problems: &mut Problems) -> Option<Option<Duration>> {
    text(name).map(|text| problems.take(name, go_duration(&text))).map_or(Some(None), |read| read.map(Some))
}
