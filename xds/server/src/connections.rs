//! The open streams and the outcome of their responses, for `/debug/syncz`, `eastwest status` and `/metrics`.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dashmap::DashMap;
use eastwest_xds::{Reaction, Response, Stream, TypeUrl, Variant};
use serde::Serialize;

use crate::budget::{Budget, Exhausted, Limits, Share};
use crate::node::Node;
use crate::quota::LineQuota;

/// Bytes of requests that have not arrived whole (XDS.md X63).
const UNREAD: Limits = Limits { free: 64 << 10, per_address: 128 << 20, total: 256 << 20 };
/// Bytes of names that clients subscribe to, beyond those that are shared with the resources (XDS.md X55).
const NAMES: Limits = Limits { free: 256 << 10, per_address: 512 << 20, total: 1 << 30 };

/// Most addresses of a client that are shown; a pod has two.
const MAX_ADDRESSES: usize = 16;

/// All streams that are open at the moment, and totals by resource type since the start.
#[derive(Debug)]
pub struct Connections {
    /// Makes the nonces of this process differ from those of earlier ones.
    epoch: u64,
    opened: AtomicU64,
    open: DashMap<u64, Arc<Connection>>,
    tallies: DashMap<String, Tally>,
    unread: Arc<Budget>,
    names: Arc<Budget>,
}

/// One open stream.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    node: String,
    addresses: Vec<IpAddr>,
    identity: Option<String>,
    since: u64,
    stream: Mutex<Stream>,
}

impl Connection {
    /// The protocol state. Never hold it across an await.
    pub(crate) fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the node, for logs.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }
}

/// Keeps a connection listed; dropping it forgets the connection (XDS.md X45).
pub(crate) struct Registration {
    connections: Arc<Connections>,
    pub(crate) connection: Arc<Connection>,
    names: Share,
    /// For rejections.
    pub(crate) lines: LineQuota,
}

impl Registration {
    /// Counts the names that the stream keeps now.
    pub(crate) fn count_names(&mut self) -> Result<(), Exhausted> {
        let bytes = self.connection.stream().bytes();
        self.names.set(bytes)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.connections.open.remove(&self.connection.id);
    }
}

#[derive(Debug, Default)]
struct Tally {
    pushes: AtomicU64,
    resources: AtomicU64,
    bytes: AtomicU64,
    acks: AtomicU64,
    rejects: AtomicU64,
    expired_nonces: AtomicU64,
}

/// One open stream, as pages and metrics show it.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionStatus {
    /// A number that no other stream of this process has.
    pub id: u64,
    /// The node id, as the client gave it.
    pub node: String,
    /// The addresses that the client reports as its own, at most sixteen.
    pub addresses: Vec<IpAddr>,
    /// The client's authenticated identity, if it has one.
    pub identity: Option<String>,
    /// `state-of-the-world` or `delta`.
    pub variant: &'static str,
    /// Unix seconds.
    pub connected_since: u64,
    /// In push order.
    pub types: Vec<TypeStatus>,
}

/// One resource type on one stream.
#[derive(Clone, Debug, Serialize)]
pub struct TypeStatus {
    /// The type.
    pub type_url: String,
    /// `SYNCED`, `STALE`, `NOT SENT` or `ERROR`.
    pub state: &'static str,
    /// The wildcard is subscribed.
    pub wildcard: bool,
    /// The number of subscribed names.
    pub names: usize,
    /// The number of resources that the client holds.
    pub resources: usize,
    /// The version of everything that the client holds.
    pub version: Option<String>,
    /// The nonce of the latest response.
    pub sent_nonce: Option<String>,
    /// The nonce of the latest accepted response.
    pub acked_nonce: Option<String>,
    /// The error of the NACK that is not resolved yet, as the client sent it.
    pub error: Option<String>,
    /// How many responses it rejected.
    pub rejects: u64,
}

/// What was sent of one type since the start, to all clients.
#[derive(Clone, Debug, Serialize)]
pub struct TypeCounters {
    /// The type.
    pub type_url: String,
    /// Responses.
    pub pushes: u64,
    /// Resources in them.
    pub resources: u64,
    /// Bytes of encoded responses.
    pub bytes: u64,
    /// Accepted responses.
    pub acks: u64,
    /// Rejected responses.
    pub rejects: u64,
    /// Requests that answered an outdated response.
    pub expired_nonces: u64,
}

impl Default for Connections {
    fn default() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        Self {
            epoch,
            opened: AtomicU64::new(0),
            open: DashMap::new(),
            tallies: DashMap::new(),
            unread: Arc::new(Budget::new(UNREAD)),
            names: Arc::new(Budget::new(NAMES)),
        }
    }
}

impl Connections {
    /// All open streams, the oldest first.
    pub fn list(&self) -> Vec<ConnectionStatus> {
        let open: Vec<_> = self.open.iter().map(|entry| Arc::clone(entry.value())).collect();
        let mut open: Vec<_> = open.iter().map(|connection| status(connection)).collect();
        open.sort_by_key(|connection| connection.id);
        open
    }

    /// The number of open streams.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Totals of every type that was ever sent, in push order.
    pub fn counters(&self) -> Vec<TypeCounters> {
        let mut counters: Vec<_> =
            self.tallies.iter().map(|entry| entry.value().read(entry.key().clone())).collect();
        counters.sort_by_cached_key(|counters| TypeUrl::parse(&counters.type_url).ok());
        counters
    }

    /// What a stream from this address may keep of requests that have not arrived whole.
    pub(crate) fn unread(&self, address: Option<IpAddr>) -> Share {
        self.unread.share(address)
    }

    /// Lists a stream that was authorized.
    pub(crate) fn register(
        self: &Arc<Self>,
        node: &Node,
        identity: Option<String>,
        address: Option<IpAddr>,
        variant: Variant,
    ) -> Registration {
        let id = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let stream = Mutex::new(Stream::new(variant, format!("{:x}.{id}", self.epoch)));
        let connection = Arc::new(Connection {
            id,
            node: node.id().to_owned(),
            addresses: node.addresses().iter().copied().take(MAX_ADDRESSES).collect(),
            identity,
            since,
            stream,
        });
        self.open.insert(id, Arc::clone(&connection));
        let names = self.names.share(address);
        let lines = LineQuota::new(Instant::now());
        Registration { connections: Arc::clone(self), connection, names, lines }
    }

    /// Counts a response.
    pub(crate) fn count_push(&self, response: &Response, bytes: usize) {
        let type_url = response.type_url.as_str();
        if !self.tallies.contains_key(type_url) {
            self.tallies.entry(type_url.to_owned()).or_default();
        }
        if let Some(tally) = self.tallies.get(type_url) {
            tally.pushes.fetch_add(1, Ordering::Relaxed);
            tally.resources.fetch_add(response.resources.iter().len() as u64, Ordering::Relaxed);
            tally.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Counts an ACK or NACK. Types that were never sent are not counted: clients could name any number of them.
    pub(crate) fn count_answer(&self, type_url: &str, reaction: &Reaction) {
        let Some(tally) = self.tallies.get(type_url) else { return };
        let counter = match reaction {
            Reaction::Ack => &tally.acks,
            Reaction::Nack(_) => &tally.rejects,
            Reaction::Stale => &tally.expired_nonces,
            Reaction::First | Reaction::Spontaneous => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Tally {
    fn read(&self, type_url: String) -> TypeCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TypeCounters {
            type_url,
            pushes: read(&self.pushes),
            resources: read(&self.resources),
            bytes: read(&self.bytes),
            acks: read(&self.acks),
            rejects: read(&self.rejects),
            expired_nonces: read(&self.expired_nonces),
        }
    }
}

fn status(connection: &Connection) -> ConnectionStatus {
    let stream = connection.stream();
    ConnectionStatus {
        id: connection.id,
        node: connection.node.clone(),
        addresses: connection.addresses.clone(),
        identity: connection.identity.clone(),
        variant: match stream.variant() {
            Variant::StateOfTheWorld => "state-of-the-world",
            Variant::Delta => "delta",
        },
        connected_since: connection.since,
        types: stream.status().into_iter().map(type_status).collect(),
    }
}

fn type_status(status: eastwest_xds::SyncStatus) -> TypeStatus {
    TypeStatus {
        type_url: status.type_url.to_string(),
        state: status.state.as_str(),
        wildcard: status.wildcard,
        names: status.names,
        resources: status.held,
        version: status.sent_version.map(|version| version.to_string()),
        sent_nonce: status.sent_nonce,
        acked_nonce: status.acked_nonce,
        error: status.error,
        rejects: status.rejects,
    }
}
