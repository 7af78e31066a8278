//! Limits of connections.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::AbortHandle;

/// How many connections are handled at the same time.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLimits {
    /// All of them.
    pub total: usize,
    /// Those of one peer, so that there is room for others.
    pub per_peer: usize,
}

/// Connections that are being handled, the oldest first. Beyond a limit the oldest gives way: of the peer that has too
/// many, else of the one that has most. So a newcomer gets in, whoever shares its address, and has the time that it
/// takes to fill all places again.
#[derive(Debug)]
pub(crate) struct Places {
    limits: AcceptLimits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    last: u64,
    /// The handle comes a moment after the place.
    open: BTreeMap<u64, (IpAddr, Option<AbortHandle>)>,
    counts: Counts,
}

/// How many there are of each peer.
#[derive(Debug, Default)]
struct Counts(HashMap<IpAddr, usize>);

impl Counts {
    fn of(&self, peer: IpAddr) -> usize {
        self.0.get(&peer).copied().unwrap_or_default()
    }

    fn add(&mut self, peer: IpAddr) {
        *self.0.entry(peer).or_default() += 1;
    }

    fn remove(&mut self, peer: IpAddr) {
        if let Entry::Occupied(mut count) = self.0.entry(peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// The peer that has most.
    fn largest(&self) -> Option<IpAddr> {
        self.0.iter().max_by_key(|(peer, count)| (**count, **peer)).map(|(peer, _)| *peer)
    }
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    number: u64,
}

impl Places {
    pub(crate) fn new(limits: AcceptLimits) -> Self {
        Self { limits, taken: Mutex::default() }
    }

    /// Handles a connection of `peer` as a task, which ends early if it has to give way.
    pub(crate) fn handle(
        self: &Arc<Self>,
        peer: IpAddr,
        handling: impl Future<Output = ()> + Send + 'static,
    ) {
        let place = self.take(peer);
        let number = place.number;
        let task = tokio::spawn(async move {
            handling.await;
            drop(place);
        });
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, handle)) = taken.open.get_mut(&number) {
            *handle = Some(task.abort_handle());
        }
    }

    /// The place of the newest connection; others give way if there are too many.
    fn take(self: &Arc<Self>, peer: IpAddr) -> Place {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given_up = Vec::new();
        if taken.counts.of(peer) >= self.limits.per_peer {
            given_up.extend(taken.give_up_oldest_of(peer));
        }
        if taken.open.len() >= self.limits.total {
            let most = taken.counts.largest();
            given_up.extend(most.and_then(|most| taken.give_up_oldest_of(most)));
        }
        taken.last += 1;
        let number = taken.last;
        taken.open.insert(number, (peer, None));
        taken.counts.add(peer);
        drop(taken);
        given_up.iter().for_each(AbortHandle::abort);
        Place { places: Arc::clone(self), number }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let taken = self.taken.lock().unwrap();
        assert_eq!(taken.counts.0.values().sum::<usize>(), taken.open.len());
        taken.open.len()
    }
}

impl Taken {
    fn give_up_oldest_of(&mut self, peer: IpAddr) -> Option<AbortHandle> {
        let mut all = self.open.iter();
        let oldest = all.find(|(_, (of, handle))| *of == peer && handle.is_some()).map(|(number, _)| *number);
        self.remove(oldest?)
    }

    fn remove(&mut self, number: u64) -> Option<AbortHandle> {
        let (peer, handle) = self.open.remove(&number)?;
        self.counts.remove(peer);
        handle
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // One that has given way is not there any more.
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(self.number);
    }
}

/// How many connections of each peer are being handled.
#[derive(Debug)]
pub(crate) struct Peers {
    limit: usize,
    counts: Mutex<Counts>,
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
        (counts.of(peer) < self.limit).then(|| {
            counts.add(peer);
            Counted { peers: Arc::clone(self), peer }
        })
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.lock().unwrap().0.is_empty()
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
        counts.remove(self.peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is silent gives way to those that come later, of its own address first; all else stays.
    #[tokio::test]
    async fn the_oldest_of_the_peer_with_most_connections_gives_way() {
        let places = Arc::new(Places::new(AcceptLimits { total: 5, per_peer: 3 }));
        let [flood, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let connect = |peer, name: &'static str| {
            let ended = ended.clone();
            places.handle(peer, async move {
                let _told = scopeguard(name, ended);
                std::future::pending::<()>().await;
            });
        };
        for (peer, name) in [(other, "a"), (flood, "b"), (flood, "c"), (flood, "d")] {
            connect(peer, name);
        }
        tokio::task::yield_now().await;
        connect(flood, "e");
        assert_eq!(ends.recv().await, Some("b"), "the oldest of the peer that has too many");
        connect(other, "f");
        tokio::task::yield_now().await;
        connect(IpAddr::from([10, 0, 0, 3]), "g");
        assert_eq!(ends.recv().await, Some("c"), "the oldest of the peer that has most");
        assert_eq!(places.len(), 5);
        places.handle(IpAddr::from([10, 0, 0, 4]), async {});
        assert_eq!(ends.recv().await, Some("a"), "each address has at least its newest");
        tokio::time::timeout(std::time::Duration::from_secs(20), async {
            while places.len() > 4 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("what ends gives its place back");
    }

    /// Sends `name` when dropped.
    fn scopeguard(name: &'static str, to: tokio::sync::mpsc::UnboundedSender<&'static str>) -> impl Drop {
        struct Told(&'static str, tokio::sync::mpsc::UnboundedSender<&'static str>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.1.send(self.0);
            }
        }
        Told(name, to)
    }

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
