//! What clients may make the server keep, in bytes: in all, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are shared out among streams, or among answers. What one takes up to [`Limits::free`] is not counted, so that an ordinary
/// client is never refused for what others take.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    taken: Mutex<Taken>,
}

/// The limits of a [`Budget`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one, not counted.
    pub free: usize,
    /// Of all from one address.
    pub per_address: usize,
    /// Of all.
    pub total: usize,
    /// One may have more if no other has anything.
    pub alone: bool,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The server cannot keep more for this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// What one stream takes of a budget. It is given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    /// `None`: only the total counts.
    address: Option<IpAddr>,
    counted: usize,
}

impl Budget {
    /// Nothing is taken.
    pub fn new(limits: Limits) -> Self {
        Self { limits, taken: Mutex::default() }
    }

    /// The share of a stream from this address.
    pub fn share(self: &Arc<Self>, address: Option<IpAddr>) -> Share {
        Share { budget: Arc::clone(self), address, counted: 0 }
    }
}

impl Share {
    /// The stream takes `bytes` now, and no longer what it took before.
    ///
    /// # Errors
    /// There is no room for them. The share stays as it is.
    pub fn set(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let counted = bytes.saturating_sub(self.budget.limits.free);
        if counted == self.counted {
            return Ok(());
        }
        let mut taken = self.budget.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let total = taken.total - self.counted + counted;
        let here = self.address.map(|address| {
            taken.by_address.get(&address).copied().unwrap_or_default() - self.counted + counted
        });
        let limits = &self.budget.limits;
        let is_over = total > limits.total || here.is_some_and(|here| here > limits.per_address);
        let is_alone = limits.alone && taken.total == self.counted;
        if counted > self.counted && is_over && !is_alone {
            return Err(Exhausted);
        }
        taken.total = total;
        match self.address.zip(here) {
            Some((address, 0)) => drop(taken.by_address.remove(&address)),
            Some((address, here)) => drop(taken.by_address.insert(address, here)),
            None => {}
        }
        self.counted = counted;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Giving back never fails.
        let _ = self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_what_others_need_and_all_is_given_back() {
        let budget = Arc::new(Budget::new(Limits { free: 10, per_address: 100, total: 150, alone: false }));
        let [one, two] = [1, 2].map(|last| Some(IpAddr::from([10, 0, 0, last])));
        let (mut a, mut b, mut c) = (budget.share(one), budget.share(one), budget.share(two));
        assert_eq!([a.set(60), b.set(60), b.set(61)], [Ok(()), Ok(()), Err(Exhausted)]);
        assert_eq!([c.set(60), c.set(61)], [Ok(()), Err(Exhausted)]);
        // What is free is there for everybody.
        assert_eq!(budget.share(two).set(10), Ok(()));
        // A share that was refused is as before, and may shrink.
        assert_eq!([a.set(30), c.set(61)], [Ok(()), Ok(())]);
        drop((a, b, c));
        let taken = budget.taken.lock().unwrap();
        assert!(taken.total == 0 && taken.by_address.is_empty(), "{taken:?}");
    }

    #[test]
    fn one_alone_may_have_more_where_the_limits_say_so() {
        let budget = Arc::new(Budget::new(Limits { free: 0, per_address: 10, total: 20, alone: true }));
        let [one, two] = [1, 2].map(|last| Some(IpAddr::from([10, 0, 0, last])));
        let (mut a, mut b) = (budget.share(one), budget.share(two));
        assert_eq!([a.set(60), b.set(1)], [Ok(()), Err(Exhausted)]);
        drop(a);
        assert_eq!([b.set(1), budget.share(one).set(11)], [Ok(()), Err(Exhausted)]);
    }
}
