//! One proxy: it subscribes as Envoy does, accepts all it gets, and connects again when it loses its connection.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    io,
    rc::Rc,
    time::Duration,
};

use eastwest_proto::envoy::config::core::v3::Node;
use eastwest_xds::TypeUrl;
use prost_types::{Struct, Value, value::Kind};
use tokio::time::sleep;

use crate::{
    board::Board,
    link::{Link, Target},
    mesh::{Mesh, Pod},
    options::Variant,
    protocol::{Answer, Ask},
};

/// What a proxy subscribes to, in its order.
const TYPES: [TypeUrl; 4] = [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER, TypeUrl::ROUTE];
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(20);

/// Names and versions, each text kept once for all clients.
pub(crate) type Held = [HashMap<Rc<str>, Rc<str>>; TYPES.len()];

/// What all clients have in common.
#[derive(Default)]
pub(crate) struct Common {
    pub(crate) board: Board,
    texts: RefCell<HashSet<Rc<str>>>,
    /// Whether clients come back with nothing.
    pub(crate) forgetful: Cell<bool>,
}

impl Common {
    fn text(&self, text: String) -> Rc<str> {
        let mut texts = self.texts.borrow_mut();
        if let Some(known) = texts.get(&*text) {
            return Rc::clone(known);
        }
        let text: Rc<str> = text.into();
        texts.insert(Rc::clone(&text));
        text
    }
}

/// A proxy.
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) pod: Pod,
    variant: Variant,
    target: Target,
    pub(crate) held: RefCell<Held>,
    /// Bytes of responses since the start.
    pub(crate) bytes: Cell<u64>,
}

/// What is known since the stream was opened.
struct Session {
    link: Link,
    answered: [bool; TYPES.len()],
    /// Names asked for, by type; state-of-the-world repeats them.
    names: [Vec<String>; TYPES.len()],
}

impl Client {
    pub(crate) fn new(number: usize, pod: Pod, variant: Variant, target: Target) -> Self {
        Self { number, pod, variant, target, held: RefCell::default(), bytes: Cell::default() }
    }

    /// Runs for ever.
    pub(crate) async fn run(&self, common: &Common) {
        loop {
            let mut complete = false;
            let _ = self.connect(common, &mut complete, false).await;
            if complete {
                common.board.note_complete(false);
            }
            // Not all at the same moment.
            sleep(RETRY + RETRY * u32::try_from(self.number % 16).unwrap_or_default() / 16).await;
        }
    }

    /// What the server has for this proxy, asked for anew.
    pub(crate) async fn fetch(&self, common: &Common) -> io::Result<()> {
        self.connect(common, &mut false, true).await
    }

    /// One connection from its beginning to its end, or until everything is there.
    async fn connect(&self, common: &Common, complete: &mut bool, once: bool) -> io::Result<()> {
        let link = self.target.open(self.variant.path()).await?;
        let mut session = Session { link, answered: [false; 4], names: Default::default() };
        if common.forgetful.get() {
            self.held.take();
        }
        self.begin(&mut session)?;
        loop {
            let message = session.link.next().await?;
            self.bytes.set(self.bytes.get() + message.len() as u64 + 5);
            self.take(self.variant.decode(&message), &mut session, common)?;
            if !*complete && session.answered == [true; 4] {
                *complete = true;
                if once {
                    return Ok(());
                }
                common.board.note_complete(true);
            }
        }
    }

    /// Asks for clusters, or for everything at once if it holds something.
    fn begin(&self, session: &mut Session) -> io::Result<()> {
        let held = self.held.borrow();
        let holds = !held[0].is_empty();
        for (place, type_url) in TYPES.iter().enumerate().take(if holds { 4 } else { 1 }) {
            let node = (place == 0).then(|| node(&self.pod));
            let text = |(name, version): (&Rc<str>, &Rc<str>)| (name.to_string(), version.to_string());
            let names: Vec<String> = match place {
                1 => held[place].keys().map(ToString::to_string).collect(),
                3 => vec!["*".to_owned()],
                _ => Vec::new(),
            };
            session.names[place].clone_from(&names);
            let held = held[place].iter().map(text).collect();
            let ask = Ask { node, type_url: type_url.as_str(), names, held, ..Ask::default() };
            session.link.send(self.variant.encode(ask))?;
        }
        Ok(())
    }

    fn take(&self, answer: Answer, session: &mut Session, common: &Common) -> io::Result<()> {
        let Some(place) = TYPES.iter().position(|one| one.as_str() == answer.type_url) else { return Ok(()) };
        let is_whole = self.variant == Variant::StateOfTheWorld && matches!(place, 0 | 2);
        let mut held = self.held.borrow_mut();
        if is_whole {
            held[place].clear();
        }
        let is_awaited = !common.board.is_empty();
        for (name, version) in answer.resources {
            if is_awaited {
                common.board.received(self.number, &name);
            }
            held[place].insert(common.text(name), common.text(version));
        }
        for name in &answer.removed {
            held[place].remove(&**name);
        }
        let names = match self.variant {
            Variant::Delta => Vec::new(),
            Variant::StateOfTheWorld => session.names[place].clone(),
        };
        let ask = Ask { type_url: &answer.type_url, names, nonce: answer.nonce, ..Ask::default() };
        session.link.send(self.variant.encode(ask))?;
        let is_first = !std::mem::replace(&mut session.answered[place], true);
        if is_first && place == 0 && session.names[1].is_empty() {
            let names = held[0].keys().filter(|name| name.starts_with("outbound|"));
            session.names[1] = names.map(ToString::to_string).collect();
            session.names[3] = vec!["*".to_owned()];
            for (type_url, names) in TYPES.iter().zip(&session.names).skip(1) {
                let ask = Ask { type_url: type_url.as_str(), names: names.clone(), ..Ask::default() };
                session.link.send(self.variant.encode(ask))?;
            }
        }
        Ok(())
    }
}

/// The node of a pod's proxy, with the metadata that Istio's agent gives.
pub(crate) fn node(pod: &Pod) -> Node {
    let Pod { namespace, name, address } = pod;
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let metadata = [
        ("NAMESPACE", namespace.as_str()),
        ("SERVICE_ACCOUNT", Mesh::ACCOUNT),
        ("CLUSTER_ID", "Kubernetes"),
        ("INSTANCE_IPS", address),
        ("ISTIO_VERSION", "1.28.0"),
    ];
    let fields = metadata.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
    Node {
        id: format!("sidecar~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        user_agent_name: "envoy".to_owned(),
        metadata: Some(Struct { fields }),
        ..Node::default()
    }
}
