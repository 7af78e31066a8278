//! The connections of a gRPC port that are open: a bounded number in all and of one peer. Those without a call give way to
//! new ones.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::Notify;

use crate::{
    closer::Closing,
    limits::{AcceptLimits, Counted, Peers},
};

/// The calls that are open on a connection.
#[derive(Debug, Clone, Default)]
pub struct OpenCalls(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenCall(OpenCalls);

impl OpenCalls {
    pub(crate) fn begin(&self) -> OpenCall {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenCall(self.clone())
    }

    fn are_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The open connections of a port.
#[derive(Debug)]
pub(crate) struct OpenConnections {
    total: usize,
    peers: Arc<Peers>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    /// The oldest first.
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    counted: Counted,
    calls: OpenCalls,
    cut: Arc<Notify>,
}

impl State {
    /// Cuts the oldest connection without a call, of this peer or of any. Returns whether there was one.
    fn shed(&mut self, peer: Option<IpAddr>) -> bool {
        let is_idle = |one: &&Open| one.calls.are_none() && peer.is_none_or(|peer| one.counted.is_of(peer));
        let oldest = self.open.iter().find(|(_, one)| is_idle(one)).map(|(number, _)| *number);
        let Some(open) = oldest.and_then(|number| self.open.remove(&number)) else { return false };
        open.cut.notify_one();
        true
    }
}

impl OpenConnections {
    pub(crate) fn new(limits: AcceptLimits) -> Self {
        let peers = Arc::new(Peers::new(limits.per_peer));
        Self { total: limits.total, peers, state: Mutex::default() }
    }

    /// A place for a new connection; `None` if every connection that could give way to it has a call.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr, calls: &OpenCalls) -> Option<Place> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = match self.peers.count(peer) {
            None if state.shed(Some(peer)) => self.peers.count(peer),
            counted => counted,
        }?;
        if state.open.len() >= self.total && !state.shed(None) {
            return None;
        }
        state.last += 1;
        let (number, cut) = (state.last, Arc::new(Notify::new()));
        state.open.insert(number, Open { counted, calls: calls.clone(), cut: Arc::clone(&cut) });
        let cut = Closing::when(async move { cut.notified().await });
        Some(Place { connections: Arc::clone(self), number, cut })
    }
}

/// The place of a connection. It is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<OpenConnections>,
    number: u64,
    cut: Closing,
}

impl Place {
    /// Ready once the connection has given way.
    pub(crate) fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.cut.poll_closed(context)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.connections.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn is_cut(place: &mut Place) -> bool {
        place.poll_cut(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_idle_connection_gives_way_and_one_with_a_call_never_does() {
        let connections = Arc::new(OpenConnections::new(AcceptLimits { total: 4, per_peer: 2 }));
        let peers = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let admit = |peer: usize| {
            let calls = OpenCalls::default();
            connections.admit(peers[peer], &calls).map(|place| (place, calls))
        };
        let (mut a, _) = admit(0).unwrap();
        let (b, b_calls) = admit(0).unwrap();
        let b_call = b_calls.begin();
        // A peer at its limit takes the place of its own idle ones.
        let (c, c_calls) = admit(0).unwrap();
        assert!(is_cut(&mut a));
        let c_call = c_calls.begin();
        assert!(admit(0).is_none());
        // At the limit of all, the oldest idle one of any peer gives way.
        let (mut d, _) = admit(1).unwrap();
        let (mut e, _) = admit(1).unwrap();
        assert!(!is_cut(&mut d));
        let f = admit(2).unwrap();
        assert!(is_cut(&mut d) && !is_cut(&mut e));
        // A call that has ended makes its connection idle.
        drop(b_call);
        assert!(admit(0).is_some());
        drop((a, b, c, c_call, d, e, f));
        let state = connections.state.lock().unwrap();
        assert!(state.open.is_empty() && connections.peers.is_empty(), "{state:?}");
    }
}
