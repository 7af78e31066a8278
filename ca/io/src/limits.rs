//! Limits of connections.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// How many connections are handled at the same time.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLimits {
    /// All of them.
    pub total: usize,
    /// Those of one peer; further ones are closed, so that there is room for others.
    pub per_peer: usize,
}

/// How many connections of each peer are being handled.
#[derive(Debug)]
pub(crate) struct Peers {
    limit: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that is counted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Peers {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, counts: Mutex::default() }
    }

    /// Counts one more of `peer`, unless it has reached the limit.
    pub(crate) fn count(self: &Arc<Self>, peer: IpAddr) -> Option<Counted> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        (*count < self.limit).then(|| {
            *count += 1;
            Counted { peers: Arc::clone(self), peer }
        })
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.lock().unwrap().is_empty()
    }
}

impl Counted {
    pub(crate) fn is_of(&self, peer: IpAddr) -> bool {
        self.peer == peer
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.peers.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_use_all_connections() {
        let peers = Arc::new(Peers::new(3));
        let [flood, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let mut held: Vec<Counted> = std::iter::from_fn(|| peers.count(flood)).collect();
        assert_eq!(held.len(), 3);
        assert!(peers.count(other).is_some());
        held.pop();
        assert!(peers.count(flood).is_some());
        drop(held);
        assert!(peers.is_empty(), "nothing is kept of peers without connections");
    }
}
