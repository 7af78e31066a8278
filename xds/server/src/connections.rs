//! The open streams and the outcome of their responses, for `/debug/syncz`, `eastwest status` and `/metrics`.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dashmap::DashMap;
use eastwest_xds::{AcceptedResource, EncodedResource, Reaction, Response, Stream, TypeUrl, Variant, View};
use serde::Serialize;
use tokio::sync::watch;

use crate::budget::{Budget, Exhausted, Limits, Share};
use crate::node::Node;
use crate::quota::LineQuota;

/// Bytes of requests that have not arrived whole (XDS.md X63).
const UNREAD: Limits = Limits { free: 64 << 10, per_address: 128 << 20, total: 256 << 20, alone: false };
/// Bytes of names that clients subscribe to, beyond those that are shared with the resources (XDS.md X55).
const NAMES: Limits = Limits { free: 256 << 10, per_address: 512 << 20, total: 1 << 30, alone: false };

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
    client: ClientFacts,
    identity: Option<String>,
    since: u64,
    /// What the client may see.
    view: watch::Receiver<Arc<View>>,
    stream: Mutex<Stream>,
}

/// What a client says of itself, as far as it is shown.
#[derive(Clone, Debug, Serialize)]
pub struct ClientFacts {
    /// The node id, as the client gave it.
    pub node: String,
    /// The namespace of the pod in that id.
    pub namespace: String,
    /// The name of the pod in that id.
    pub pod: String,
    /// The addresses that the client reports as its own, at most sixteen.
    pub addresses: Vec<IpAddr>,
    /// The cluster of the workload (metadata `CLUSTER_ID`).
    pub cluster: Option<String>,
    /// The release of the agent beside the proxy (metadata `AGENT_VERSION`, else `ISTIO_VERSION`).
    pub agent_version: Option<String>,
    /// The program of the proxy and its release, e.g. `envoy 1.40.0`.
    pub proxy_version: Option<String>,
}

impl ClientFacts {
    fn of(node: &Node) -> Self {
        let text = |key| node.metadata_text(key).map(shortened);
        let program = format!("{} {}", node.user_agent(), node.user_agent_version());
        let program = program.trim();
        Self {
            node: node.id().to_owned(),
            namespace: node.namespace().to_owned(),
            pod: node.pod().to_owned(),
            addresses: node.addresses().iter().copied().take(MAX_ADDRESSES).collect(),
            cluster: text("CLUSTER_ID"),
            agent_version: text("AGENT_VERSION").or_else(|| text("ISTIO_VERSION")),
            proxy_version: (!program.is_empty()).then(|| shortened(program)),
        }
    }
}

/// The longest text of a client that is kept to be shown, in characters.
const MAX_FACT: usize = 120;

fn shortened(text: &str) -> String {
    text.chars().take(MAX_FACT).collect()
}

impl Connection {
    /// The protocol state. Never hold it across an await.
    pub(crate) fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the node, for logs.
    pub(crate) fn node(&self) -> &str {
        &self.client.node
    }

    /// What the client says of itself.
    pub(crate) fn client(&self) -> &ClientFacts {
        &self.client
    }

    /// What the client may see now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
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

/// What one stream is about: what its client may have, and what it has.
#[derive(Debug)]
pub struct ClientConfig {
    /// Its state.
    pub status: ConnectionStatus,
    /// What its client may have.
    pub view: Arc<View>,
    /// The types that its client has requested, in push order.
    pub types: Vec<ClientType>,
}

/// The resources of one type on one stream, sorted by name.
#[derive(Debug)]
pub struct ClientType {
    /// The type.
    pub type_url: TypeUrl,
    /// What the client has subscribed to, as it is now.
    pub subscribed: Vec<Arc<EncodedResource>>,
    /// What the client has accepted.
    pub accepted: Vec<AcceptedResource>,
    /// The resources that are held back because the client refused them.
    pub refused: Vec<Arc<str>>,
}

/// One open stream, as pages and metrics show it.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionStatus {
    /// A number that no other stream of this process has.
    pub id: u64,
    /// What the client says of itself.
    #[serde(flatten)]
    pub client: ClientFacts,
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
    /// When the response was sent that led to the state, in Unix seconds; `null` if none was sent.
    pub since: Option<u64>,
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
    /// The resources that are held back because the client refused them.
    pub rejected: Vec<Arc<str>>,
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
        let epoch = seconds(SystemTime::now());
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
        self.open().iter().map(|connection| status(connection)).collect()
    }

    /// The newest stream of the proxy of a pod.
    pub fn newest_of_pod(&self, namespace: &str, pod: &str) -> Option<ClientConfig> {
        let of_pod = |client: &ClientFacts| client.namespace == namespace && client.pod == pod;
        self.open().iter().rev().find(|one| of_pod(&one.client)).map(|one| config(one))
    }

    /// All open connections, the oldest first.
    pub(crate) fn open(&self) -> Vec<Arc<Connection>> {
        let mut open: Vec<_> = self.open.iter().map(|entry| Arc::clone(entry.value())).collect();
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
        (identity, view): (Option<String>, watch::Receiver<Arc<View>>),
        address: Option<IpAddr>,
        variant: Variant,
    ) -> Registration {
        let id = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let since = seconds(SystemTime::now());
        let stream = Mutex::new(Stream::new(variant, format!("{:x}.{id}", self.epoch)));
        let connection =
            Arc::new(Connection { id, client: ClientFacts::of(node), identity, since, view, stream });
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

/// Unix seconds.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

/// The wall clock at a moment that is past.
pub(crate) fn wall_clock(moment: Instant) -> SystemTime {
    SystemTime::now().checked_sub(moment.elapsed()).unwrap_or(UNIX_EPOCH)
}

fn config(connection: &Connection) -> ClientConfig {
    let view = connection.view();
    let stream = connection.stream();
    let states = stream.status();
    let types = states.iter().map(|one| ClientType {
        subscribed: stream.subscribed(&view, &one.type_url),
        accepted: stream.accepted(&one.type_url),
        refused: one.rejected.clone(),
        type_url: one.type_url.clone(),
    });
    let types = types.collect();
    ClientConfig { status: status_of(connection, &stream, states), view, types }
}

fn status(connection: &Connection) -> ConnectionStatus {
    let stream = connection.stream();
    status_of(connection, &stream, stream.status())
}

fn status_of(
    connection: &Connection,
    stream: &Stream,
    states: Vec<eastwest_xds::SyncStatus>,
) -> ConnectionStatus {
    ConnectionStatus {
        id: connection.id,
        client: connection.client.clone(),
        identity: connection.identity.clone(),
        variant: match stream.variant() {
            Variant::StateOfTheWorld => "state-of-the-world",
            Variant::Delta => "delta",
        },
        connected_since: connection.since,
        types: states.into_iter().map(type_status).collect(),
    }
}

fn type_status(status: eastwest_xds::SyncStatus) -> TypeStatus {
    TypeStatus {
        type_url: status.type_url.to_string(),
        state: status.state.as_str(),
        since: status.since.map(|since| seconds(wall_clock(since))),
        wildcard: status.wildcard,
        names: status.names,
        resources: status.held,
        version: status.sent_version.map(|version| version.to_string()),
        sent_nonce: status.sent_nonce,
        acked_nonce: status.acked_nonce,
        error: status.error,
        rejected: status.rejected,
        rejects: status.rejects,
    }
}
