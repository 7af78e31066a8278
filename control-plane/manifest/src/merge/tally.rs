//! Diagnostics of many parts as one sorted list that is rebuilt only when it differs.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_model::Diagnostic;

/// Diagnostics and how many parts have each.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<Diagnostic, usize>,
    /// The counts that may have changed, as they were when the list was made.
    before: BTreeMap<Diagnostic, usize>,
    list: Arc<Vec<Diagnostic>>,
}

impl Tally {
    /// All of them, errors first, as of the last [`Tally::settle`].
    pub(super) fn list(&self) -> &Arc<Vec<Diagnostic>> {
        &self.list
    }

    /// A part has `new` diagnostics instead of `old` ones.
    pub(super) fn replace(&mut self, old: &[Diagnostic], new: &[Diagnostic]) {
        if old == new {
            return;
        }
        old.iter().for_each(|diagnostic| self.add(diagnostic, false));
        new.iter().for_each(|diagnostic| self.add(diagnostic, true));
    }

    fn add(&mut self, diagnostic: &Diagnostic, more: bool) {
        let count = self.counts.get(diagnostic).copied().unwrap_or_default();
        self.before.entry(diagnostic.clone()).or_insert(count);
        match if more { count + 1 } else { count.saturating_sub(1) } {
            0 => drop(self.counts.remove(diagnostic)),
            count => drop(self.counts.insert(diagnostic.clone(), count)),
        }
    }

    /// Makes the list anew if it differs. Returns the diagnostics that are new in it, and those no longer in it.
    pub(super) fn settle(&mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        let (mut found, mut solved, mut differs) = (Vec::new(), Vec::new(), false);
        for (diagnostic, before) in std::mem::take(&mut self.before) {
            let now = self.counts.get(&diagnostic).copied().unwrap_or_default();
            differs |= now != before;
            match (before, now) {
                (0, 1..) => found.push(diagnostic),
                (1.., 0) => solved.push(diagnostic),
                _ => {}
            }
        }
        if differs {
            let all = self.counts.iter();
            self.list =
                Arc::new(all.flat_map(|(one, count)| std::iter::repeat_n(one.clone(), *count)).collect());
        }
        (found, solved)
    }
}
