//! Random requests and views: nothing panics, and in the end a client holds its part of the view.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwest_xds::{
    EncodedResource, Interest, Request, ResourceSet, Response, Stream, SyncState, TypeUrl, Variant, Version,
    View,
};

const TYPES: [TypeUrl; 4] = [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER, TypeUrl::ROUTE];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "*"];

#[test]
fn a_state_of_the_world_client_comes_to_hold_its_part_of_the_view() {
    (0..400).for_each(|seed| World::new(Variant::StateOfTheWorld, seed).live());
}

#[test]
fn a_delta_client_comes_to_hold_its_part_of_the_view() {
    (0..400).for_each(|seed| World::new(Variant::Delta, seed).live());
}

/// How a client refuses resources whose body is [`BAD`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// It takes everything.
    Never,
    /// The whole response, naming what is bad.
    Whole,
    /// What is bad alone, in the words of stock Envoy.
    Partly,
    /// The whole response, without a name.
    Mute,
}

/// The body that some clients refuse.
const BAD: &str = "3";

#[test]
fn a_client_that_names_what_it_refuses_has_the_newest_of_all_else_and_the_last_good_one_of_that() {
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        for refusal in [Refusal::Whole, Refusal::Partly] {
            (0..300).for_each(|seed| World::new(variant, seed).refusing(refusal).live());
        }
    }
}

#[test]
fn a_client_that_names_nothing_is_never_sent_again_what_it_refused_and_loses_nothing() {
    for variant in [Variant::StateOfTheWorld, Variant::Delta] {
        (0..300).for_each(|seed| World::new(variant, seed).refusing(Refusal::Mute).live());
    }
}

/// What a client wants and has of one type.
#[derive(Default)]
struct Client {
    asked: bool,
    wildcard: bool,
    ever_named: bool,
    names: BTreeSet<String>,
    has: BTreeMap<String, Version>,
    nonce: String,
    /// What it refused since the content of the view changed, by name.
    refused: BTreeMap<String, Version>,
}

impl Client {
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

struct World {
    dice: u64,
    now: Instant,
    view: Arc<View>,
    stream: Stream,
    refusal: Refusal,
    clients: BTreeMap<TypeUrl, Client>,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "a test needs a first moment")]
    fn new(variant: Variant, seed: u64) -> Self {
        let empty: fn(&str) -> EncodedResource = |name| EncodedResource::new(TypeUrl::ENDPOINT, name, b"");
        let set = |type_url: TypeUrl| match type_url == TypeUrl::ENDPOINT {
            true => ResourceSet::new(type_url, []).answering_absent(empty),
            false => ResourceSet::new(type_url, []),
        };
        Self {
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: Instant::now(),
            view: Arc::new(View::new(TYPES.map(|type_url| Arc::new(set(type_url))))),
            stream: Stream::new(variant, "s"),
            refusal: Refusal::Never,
            clients: TYPES.into_iter().map(|type_url| (type_url, Client::default())).collect(),
        }
    }

    fn refusing(self, refusal: Refusal) -> Self {
        Self { refusal, ..self }
    }

    /// xorshift: the same numbers on every run.
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    fn some_names(&mut self) -> BTreeSet<String> {
        NAMES.iter().filter(|_| self.roll(3) == 0).map(|name| (*name).to_owned()).collect()
    }

    fn live(mut self) {
        for _ in 0..120 {
            match self.roll(9) {
                0 | 1 => self.publish(),
                2 | 3 => self.request(),
                4 | 5 => self.garbage(),
                6 if self.stream.variant() == Variant::Delta => self.reconnect(),
                _ => {
                    self.receive();
                }
            }
        }
        self.settle();
        self.check();
    }

    fn publish(&mut self) {
        let sets: Vec<_> = self.view.iter().cloned().collect();
        let sets: Vec<_> = sets.into_iter().map(|set| self.change(&set)).collect();
        self.view = self.view.next(sets);
        for (type_url, client) in &mut self.clients {
            let set = self.view.get(type_url);
            let stands = |name: &String, version: &mut Version| {
                set.and_then(|set| set.get(name)).is_some_and(|one| one.version() == *version)
            };
            client.refused.retain(|name, version| stands(name, version));
        }
    }

    fn change(&mut self, set: &Arc<ResourceSet>) -> Arc<ResourceSet> {
        if self.roll(2) == 0 {
            return Arc::clone(set);
        }
        let mut resources = Vec::new();
        for name in NAMES.iter().filter(|name| **name != "*") {
            let body = self.roll(4).to_string();
            let resource = EncodedResource::new(set.type_url().clone(), name, body.as_bytes());
            let cluster = *set.type_url() == TypeUrl::CLUSTER;
            let resource = if cluster { resource.warmed_by(TypeUrl::ENDPOINT, name) } else { resource };
            if self.roll(4) > 0 {
                resources.push(Arc::new(resource));
            }
        }
        set.next(resources)
    }

    /// A well-behaved change of a subscription.
    fn request(&mut self) {
        let type_url = TYPES[self.roll(4) as usize].clone();
        let (names, drop) = (self.some_names(), self.some_names());
        let sotw = self.stream.variant() == Variant::StateOfTheWorld;
        let Some(client) = self.clients.get_mut(&type_url) else { return };
        let first = !std::mem::replace(&mut client.asked, true);
        let (interest, nonce) = if sotw {
            let by_default = [TypeUrl::CLUSTER, TypeUrl::LISTENER].contains(&type_url);
            let all = names.is_empty() && !client.ever_named && by_default;
            client.ever_named |= !names.is_empty();
            client.wildcard = all || names.contains("*");
            client.names = names.iter().filter(|name| *name != "*").cloned().collect();
            (Interest::Names(names.into_iter().collect()), client.nonce.clone())
        } else {
            client.wildcard |= names.contains("*") || (first && names.is_empty());
            client.names.extend(names.iter().filter(|name| *name != "*").cloned());
            client.wildcard &= !drop.contains("*");
            client.names.retain(|name| !drop.contains(name));
            let lists = (names.into_iter().collect(), drop.into_iter().collect());
            let (subscribe, unsubscribe) = lists;
            (Interest::Change { subscribe, unsubscribe, initial_versions: BTreeMap::new() }, String::new())
        };
        let Client { wildcard, names, has, refused, .. } = client;
        has.retain(|name, _| *wildcard || names.contains(name));
        // What is subscribed anew may be sent anew.
        refused.clear();
        self.send(&type_url, nonce, None, interest);
    }

    /// The client comes back on another stream with what it holds, and sometimes the server compares it with the view.
    fn reconnect(&mut self) {
        self.stream = Stream::new(Variant::Delta, format!("s{}", self.dice));
        for type_url in TYPES {
            let (at_hand, named) = (self.roll(2) == 0, self.roll(2) == 0);
            let Some(client) = self.clients.get_mut(&type_url).filter(|client| client.asked) else {
                continue;
            };
            client.nonce.clear();
            // A stream knows nothing of what was refused on another one.
            client.refused.clear();
            // An empty list asks for everything, so a client that wants nothing does not ask.
            if !client.wildcard && client.names.is_empty() {
                client.asked = false;
                client.has.clear();
                continue;
            }
            let star = client.wildcard && (named || !client.names.is_empty());
            let subscribe = client.names.iter().cloned().chain(star.then(|| "*".to_owned())).collect();
            let held = client.has.iter().map(|(name, version)| (name.clone(), version.to_string()));
            let interest =
                Interest::Change { subscribe, unsubscribe: Vec::new(), initial_versions: held.collect() };
            let request = Request { type_url: type_url.to_string(), interest, ..Request::default() };
            let view = if at_hand { View::clone(&self.view) } else { View::default() };
            self.stream.on_request_with(request, &view).unwrap();
        }
    }

    /// A request that no client should send. It must do no harm and change no subscription.
    fn garbage(&mut self) {
        let type_url = TypeUrl::parse(["test/x", "test/y"][self.roll(2) as usize]).unwrap();
        let nonce = ["", "s-", "s-0", "s-99999", "s--1", "nonsense"][self.roll(6) as usize].to_owned();
        let error = (self.roll(2) == 0).then(|| "😀".repeat(3000));
        let names: Vec<_> = self.some_names().into_iter().collect();
        let initial_versions = names.iter().map(|name| (name.clone(), "v1".to_owned())).collect();
        let interest = match self.roll(2) {
            0 => Interest::Names(names),
            _ => Interest::Change { subscribe: names.clone(), unsubscribe: names, initial_versions },
        };
        self.send(&type_url, nonce, error, interest);
    }

    fn send(&mut self, type_url: &TypeUrl, nonce: String, error: Option<String>, interest: Interest) {
        let request = Request { type_url: type_url.to_string(), nonce, error, interest };
        self.stream.on_request(request).unwrap();
    }

    /// Takes one response, applies it as a client would, and answers it. Returns whether there was one.
    fn receive(&mut self) -> bool {
        let Some(response) = self.stream.next_response(&self.view, self.now) else { return false };
        let (refusal, view) = (self.refusal, Arc::clone(&self.view));
        let Some(client) = self.clients.get_mut(&response.type_url) else { return true };
        client.nonce.clone_from(&response.nonce);
        let set = view.get(&response.type_url);
        let bad = |one: &&Arc<EncodedResource>| refusal != Refusal::Never && one.body() == BAD;
        let bad: BTreeMap<_, _> = response
            .resources
            .iter()
            .filter(bad)
            .map(|one| (one.name().to_string(), one.version()))
            .collect();
        for (name, version) in &bad {
            assert_ne!(
                client.refused.get(name),
                Some(version),
                "{name} was refused and is sent again: {refusal:?} {response:?}"
            );
        }
        let names = bad.keys().cloned().collect::<Vec<_>>().join(", ");
        let error = match refusal {
            _ if bad.is_empty() => None,
            Refusal::Never => None,
            Refusal::Whole => Some(format!("cannot take {names}: no such filter")),
            Refusal::Partly => Some(format!("Error adding/updating {names}: no such filter")),
            Refusal::Mute => Some("no".to_owned()),
        };
        if error.is_none() || refusal == Refusal::Partly {
            let had = client.has.clone();
            let complete = [TypeUrl::CLUSTER, TypeUrl::LISTENER].contains(&response.type_url);
            if response.variant == Variant::StateOfTheWorld && complete {
                client.has.retain(|name, _| bad.contains_key(name));
            }
            apply(client, &response, &bad);
            for name in had.keys().filter(|name| client.wants(name)) {
                let exists = set.is_some_and(|set| set.get(name).is_some());
                assert!(!exists || client.has.contains_key(name), "{name} exists and is deleted");
            }
        }
        if refusal != Refusal::Mute {
            client.refused.extend(bad);
        } else if error.is_some() {
            let changed = response.resources.iter();
            let changed = changed.filter(|one| client.has.get(&**one.name()) != Some(&one.version()));
            client.refused.extend(changed.map(|one| (one.name().to_string(), one.version())));
        }
        let interest = match response.variant {
            Variant::Delta => Interest::Change {
                subscribe: Vec::new(),
                unsubscribe: Vec::new(),
                initial_versions: BTreeMap::new(),
            },
            Variant::StateOfTheWorld => {
                let star = client.wildcard && client.ever_named;
                Interest::Names(client.names.iter().cloned().chain(star.then(|| "*".to_owned())).collect())
            }
        };
        let type_url = response.type_url.clone();
        self.send(&type_url, response.nonce, error, interest);
        true
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            if !self.receive() {
                self.now += Duration::from_secs(2);
                if !self.receive() {
                    return;
                }
            }
        }
        panic!("the stream does not come to rest");
    }

    fn is_held_back(&self, type_url: &TypeUrl, name: &str) -> bool {
        let status = self.stream.status().into_iter().find(|one| one.type_url == *type_url);
        status.is_some_and(|status| status.rejected.iter().any(|one| **one == *name))
    }

    fn check(&self) {
        for (type_url, client) in self.clients.iter().filter(|(_, client)| client.asked) {
            let set = self.view.get(type_url).unwrap();
            for resource in set.iter().filter(|resource| client.wants(resource.name())) {
                let has = client.has.get(resource.name().as_ref());
                if self.refusal != Refusal::Never && resource.body() == BAD {
                    assert_ne!(has, Some(&resource.version()), "{type_url} {}", resource.name());
                } else if self.refusal == Refusal::Mute && self.is_held_back(type_url, resource.name()) {
                    // It came along with what was refused, and nobody said which it was.
                } else {
                    assert_eq!(has, Some(&resource.version()), "{type_url} {}", resource.name());
                }
            }
            let deletes = self.stream.variant() == Variant::Delta || *type_url != TypeUrl::ROUTE;
            for name in client.has.keys().filter(|name| deletes && set.get(name).is_none()) {
                let empty = EncodedResource::new(TypeUrl::ENDPOINT, name, b"").version();
                let emptied = *type_url == TypeUrl::ENDPOINT && client.has.get(name) == Some(&empty);
                let unsayable =
                    self.stream.variant() == Variant::StateOfTheWorld && !client.names.contains(name);
                assert!(emptied || unsayable, "{type_url} {name} should be gone");
            }
        }
        for status in self.stream.status() {
            assert!(
                matches!(status.state, SyncState::Synced | SyncState::Error | SyncState::NotSent),
                "{status:?}"
            );
        }
    }
}

/// It keeps a reference to the set, is answered with nothing, and from then on with what differs.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test needs a moment")]
fn a_client_that_comes_back_with_everything_is_compared_as_a_whole() {
    let resource = |number: u32, body: &str| {
        Arc::new(EncodedResource::new(TypeUrl::ROUTE, &format!("n{number:03}"), body.as_bytes()))
    };
    let set = Arc::new(ResourceSet::new(TypeUrl::ROUTE, (0..100).map(|number| resource(number, "1"))));
    let now = Instant::now();
    let names: Vec<_> = set.iter().rev().map(|one| one.name().to_string()).collect();
    for (wildcard, other) in [(true, false), (false, false), (false, true)] {
        let mut names = names.clone();
        let held: BTreeMap<_, _> =
            set.iter().map(|one| (one.name().to_string(), one.version().to_string())).collect();
        if other {
            names[7] = "other".to_owned();
        }
        let subscribe = if wildcard { vec!["*".to_owned()] } else { names };
        let interest = Interest::Change { subscribe, unsubscribe: Vec::new(), initial_versions: held };
        let request = Request { type_url: TypeUrl::ROUTE.to_string(), interest, ..Request::default() };
        let mut stream = Stream::new(Variant::Delta, "s");
        let view = View::new([Arc::clone(&set)]);
        stream.on_request_with(request, &view).unwrap();
        assert_eq!(stream.bytes() == 0, !other, "one other name is compared name by name");
        let answer = stream.next_response(&view, now).unwrap();
        let sent = (answer.resources.iter().len(), answer.removed.len());
        assert_eq!(sent, (0, usize::from(other)), "{answer:?}");
        assert!(stream.next_response(&view, now).is_none());
        let next = set.edited([("n003".into(), Some(resource(3, "2"))), ("n004".into(), None)]);
        let answer = stream.next_response(&View::new([next]), now).unwrap();
        assert_eq!((answer.resources.iter().len(), answer.removed.len()), (1, 1), "{answer:?}");
    }
}

fn apply(client: &mut Client, response: &Response, bad: &BTreeMap<String, Version>) {
    for resource in response.resources.iter() {
        if client.wants(resource.name()) && !bad.contains_key(&**resource.name()) {
            client.has.insert(resource.name().to_string(), resource.version());
        }
    }
    for name in &response.removed {
        client.has.remove(name.as_ref());
    }
}
