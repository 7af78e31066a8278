//! A queue that takes turns between owners, so that one owner cannot delay the others.

use std::collections::{BTreeMap, VecDeque};

/// Items of many owners. Each owner's leave in the order in which they came; owners take turns. Whoever brings a
/// thousand items waits a thousand turns, and the owner of one item waits for one item of each other owner.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    max_items: usize,
    max_of_one: usize,
    items: usize,
    waiting: BTreeMap<K, VecDeque<T>>,
    /// The owners with items, in the order of their turns.
    turns: VecDeque<K>,
}

impl<K: Ord + Clone, T> FairQueue<K, T> {
    /// A queue of at most `max_items` items, of which at most `max_of_one` belong to one owner.
    pub fn new(max_items: usize, max_of_one: usize) -> Self {
        Self { max_items, max_of_one, items: 0, waiting: BTreeMap::new(), turns: VecDeque::new() }
    }

    /// Adds an item after those of the same owner.
    ///
    /// # Errors
    /// The queue, or the owner's part of it, is full: the item comes back.
    pub fn push(&mut self, owner: K, item: T) -> Result<(), T> {
        let full = self.items >= self.max_items
            || self.waiting.get(&owner).is_some_and(|items| items.len() >= self.max_of_one);
        if full {
            return Err(item);
        }
        let items = self.waiting.entry(owner.clone()).or_default();
        if items.is_empty() {
            self.turns.push_back(owner);
        }
        items.push_back(item);
        self.items += 1;
        Ok(())
    }

    /// Removes the first item of the next owner.
    pub fn pop(&mut self) -> Option<T> {
        let owner = self.turns.pop_front()?;
        let items = self.waiting.get_mut(&owner)?;
        let item = items.pop_front()?;
        self.items -= 1;
        if items.is_empty() {
            self.waiting.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        Some(item)
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns() {
        let mut queue = FairQueue::new(100, 100);
        for n in 0..5 {
            queue.push("crowd", ("crowd", n)).unwrap();
        }
        queue.push("one", ("one", 0)).unwrap();
        queue.push("two", ("two", 0)).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order[..3], [("crowd", 0), ("one", 0), ("two", 0)]);
        assert_eq!(order[3..], [1, 2, 3, 4].map(|n| ("crowd", n)));
        assert!(queue.is_empty() && queue.waiting.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn one_owner_cannot_fill_the_queue_and_its_length_is_bounded() {
        let mut queue = FairQueue::new(6, 4);
        let accepted = (0..10).filter(|n| queue.push("crowd", *n).is_ok()).count();
        assert_eq!(accepted, 4);
        assert!(queue.push("one", 1).is_ok() && queue.push("two", 1).is_ok());
        assert_eq!(queue.push("three", 7), Err(7), "full");
        assert_eq!(queue.len(), 6);
    }
}
