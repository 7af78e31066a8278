//! When to look through what is shared for what nobody uses any more.

use std::collections::BTreeMap;

/// Looks through a map once what is unused may be half of it: looking costs as much as there is, and a small change must
/// not.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// How many entries were in use when that was last looked at.
    in_use: usize,
}

impl Sweep {
    /// Removes what is not in use, if it is time to look.
    pub(crate) fn retain<K: Ord, V>(&mut self, map: &mut BTreeMap<K, V>, in_use: impl Fn(&V) -> bool) {
        if map.len() > 2 * self.in_use {
            map.retain(|_, value| in_use(value));
            self.in_use = map.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_looked_through_when_it_has_doubled() {
        let (mut sweep, mut map) = (Sweep::default(), BTreeMap::from([(1, true), (2, true), (3, false)]));
        let mut retain = |map: &mut BTreeMap<i32, bool>| {
            sweep.retain(map, |used| *used);
            map.len()
        };
        assert_eq!(retain(&mut map), 2);
        map.extend([(3, false), (4, false)]);
        assert_eq!(retain(&mut map), 4, "it has not more than doubled");
        map.insert(5, false);
        assert_eq!(retain(&mut map), 2);
    }
}
