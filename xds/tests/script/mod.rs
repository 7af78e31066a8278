//! Plays text scenarios against a [`Stream`], in state-of-the-world and in delta form.
//!
//! A file holds scenarios, each headed `== title`; `(sotw)` or `(delta)` at the end of a title restricts it to one
//! variant, `sotw:` or `delta:` before a line does so for the line. Types are CDS, EDS, LDS, RDS, SDS or any word.
//!
//! | line | meaning |
//! |---|---|
//! | `view CDS a=1 b=1@e` | the view's clusters are now these; `@e`: warmed by the assignment `e` |
//! | `ask CDS a +b -c` | a request: `+b` or `b` adds, `-c` drops; answers no response |
//! | `claim CDS a=1 x=? : names` | first delta request with `initial_resource_versions` |
//! | `ack`, `stale`, `foreign CDS +b` | a request with the latest nonce, the one before it, or one of another stream |
//! | `nack CDS +b : text` | rejects the latest response |
//! | `gets CDS a=1 -c` | exactly this is sent next; `-c` = removed |
//! | `quiet` | nothing is sent |
//! | `wait` | a second passes |
//! | `state CDS SYNCED`, `error CDS text` | state and error in the status |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwest_proto::Message;
use eastwest_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use eastwest_xds::{
    EncodedResource, Interest, Request, ResourceSet, Response, Stream, TypeUrl, Variant, View,
};

/// Plays every scenario of a file; a failure names the scenario, the variant and the line.
pub(crate) fn play(file: &str) {
    let mut played = 0;
    for scenario in file.split("\n== ").map(|part| part.trim_start_matches("== ")) {
        let (title, steps) = scenario.split_once('\n').unwrap_or((scenario, ""));
        for (tag, variant) in [("sotw", Variant::StateOfTheWorld), ("delta", Variant::Delta)] {
            let other = if tag == "sotw" { "delta" } else { "sotw" };
            if !title.starts_with('#') && !title.ends_with(&format!("({other})")) {
                Player::new(variant).play(title, tag, other, steps);
                played += 1;
            }
        }
    }
    assert!(played > 0, "no scenario in the file");
}

struct Player {
    stream: Stream,
    now: Instant,
    sets: BTreeMap<TypeUrl, Arc<ResourceSet>>,
    view: View,
    names: BTreeMap<TypeUrl, BTreeSet<String>>,
    nonces: BTreeMap<TypeUrl, Vec<String>>,
    /// What the client held at each version.
    versions: BTreeMap<String, String>,
}

impl Player {
    #[allow(clippy::disallowed_methods, reason = "a test needs a first moment")]
    fn new(variant: Variant) -> Self {
        Self {
            stream: Stream::new(variant, "s"),
            now: Instant::now(),
            sets: BTreeMap::new(),
            view: View::default(),
            names: BTreeMap::new(),
            nonces: BTreeMap::new(),
            versions: BTreeMap::new(),
        }
    }

    fn play(&mut self, title: &str, tag: &str, other: &str, steps: &str) {
        for line in steps.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let line = match line.split_once(": ") {
                Some((prefix, _)) if prefix == other => continue,
                Some((prefix, rest)) if prefix == tag => rest.trim(),
                _ => line,
            };
            let place = format!("{title} [{tag}]: {line}");
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (words, text) = rest.split_once(" :").unwrap_or((rest, ""));
            let mut words = words.split_whitespace();
            let type_url = words.next().map(type_url);
            self.step(verb, type_url, &words.collect::<Vec<_>>(), text.trim(), rest, &place);
        }
    }

    fn step(
        &mut self,
        verb: &str,
        kind: Option<TypeUrl>,
        words: &[&str],
        text: &str,
        rest: &str,
        place: &str,
    ) {
        match (verb, kind) {
            ("quiet", _) => assert_eq!(self.next(), None, "{place}"),
            ("wait", _) => self.now += Duration::from_secs(1),
            ("gets", Some(_)) => assert_eq!(self.next(), Some(sorted(rest)), "{place}"),
            ("view", Some(kind)) => self.publish(&kind, words),
            ("state", Some(kind)) => assert_eq!(self.state(&kind), words.join(" "), "{place}"),
            ("error", Some(kind)) => assert_eq!(self.error(&kind), words.join(" "), "{place}"),
            (verb, Some(kind)) => self.request(verb, &kind, words, text, place),
            _ => panic!("not understood: {place}"),
        }
    }

    fn publish(&mut self, kind: &TypeUrl, words: &[&str]) {
        let resources: Vec<_> = words.iter().map(|word| Arc::new(resource(kind, word))).collect();
        let next = match self.sets.get(kind) {
            Some(set) => set.next(resources),
            None if *kind == TypeUrl::ENDPOINT => {
                let empty: fn(&str) -> EncodedResource =
                    |name| EncodedResource::new(TypeUrl::ENDPOINT, name, b"");
                Arc::new(ResourceSet::new(kind.clone(), resources).answering_absent(empty))
            }
            None => Arc::new(ResourceSet::new(kind.clone(), resources)),
        };
        self.sets.insert(kind.clone(), next);
        self.view = View::new(self.sets.values().cloned());
    }

    fn request(&mut self, verb: &str, kind: &TypeUrl, words: &[&str], text: &str, place: &str) {
        let nonces = self.nonces.entry(kind.clone()).or_default();
        let latest = nonces.last().cloned();
        let sotw = self.stream.variant() == Variant::StateOfTheWorld;
        let nonce = match verb {
            "ask" if sotw => latest.unwrap_or_default(),
            "ask" | "claim" => String::new(),
            "ack" | "nack" => latest.unwrap_or_else(|| panic!("nothing to answer: {place}")),
            "stale" => nonces[nonces.len() - 2].clone(),
            "foreign" => "other-1".to_owned(),
            _ => panic!("not understood: {place}"),
        };
        let error = (verb == "nack").then(|| text.to_owned());
        let interest = match (sotw, verb) {
            (false, "claim") => claim(kind, words, text),
            (false, _) => change(words),
            (true, _) => Interest::Names(self.all_names(kind, words)),
        };
        let request = Request { type_url: kind.to_string(), nonce, error, interest };
        self.stream.on_request(request).unwrap_or_else(|error| panic!("{error}: {place}"));
    }

    /// State-of-the-world requests repeat every name.
    fn all_names(&mut self, kind: &TypeUrl, words: &[&str]) -> Vec<String> {
        let names = self.names.entry(kind.clone()).or_default();
        for word in words {
            match word.strip_prefix('-') {
                Some(name) => names.remove(name),
                None => names.insert(word.trim_start_matches('+').to_owned()),
            };
        }
        names.iter().cloned().collect()
    }

    /// The next response as text, read back from its wire form.
    fn next(&mut self) -> Option<String> {
        let response = self.stream.next_response(&self.view, self.now)?;
        let (nonce, text) = read(&response);
        let nonces = self.nonces.entry(response.type_url.clone()).or_default();
        assert!(!nonces.contains(&nonce), "X7: the nonce must be fresh");
        nonces.push(nonce);
        let mut held: Vec<_> = self.stream.held(&response.type_url).map(|held| format!("{held:?}")).collect();
        held.sort();
        let (held, version) = (held.join(" "), response.version.to_string());
        let known = self.versions.entry(version.clone()).or_insert_with(|| held.clone());
        assert_eq!(*known, held, "X7: one version, one content: {version}");
        Some(sorted(&text))
    }

    fn state(&self, kind: &TypeUrl) -> String {
        let status = self.stream.status().into_iter().find(|status| status.type_url == *kind);
        status.map_or("UNKNOWN", |status| status.state.as_str()).to_owned()
    }

    fn error(&self, kind: &TypeUrl) -> String {
        let status = self.stream.status().into_iter().find(|status| status.type_url == *kind);
        status.and_then(|status| status.error).unwrap_or_default()
    }
}

/// Decodes what goes over the wire; checks what holds for every response.
fn read(response: &Response) -> (String, String) {
    let bytes = response.encode().concat();
    let mut text = vec![short(&response.type_url)];
    let show = |kind: &TypeUrl, any: &eastwest_proto::Any| {
        assert_eq!(any.type_url, kind.as_str(), "X7: one type in the response and in every Any");
    };
    let body = |any: &eastwest_proto::Any| String::from_utf8_lossy(&any.value).into_owned();
    let nonce = match response.variant {
        Variant::StateOfTheWorld => {
            let message = DiscoveryResponse::decode(bytes.as_slice()).unwrap();
            assert_eq!(message.version_info, response.version.to_string());
            for (any, resource) in message.resources.iter().zip(response.resources.iter()) {
                show(&response.type_url, any);
                let body = body(any);
                assert_eq!(resource.body(), body.as_bytes());
                text.push(format!("{}={body}", resource.name()));
            }
            message.nonce
        }
        Variant::Delta => {
            let message = DeltaDiscoveryResponse::decode(bytes.as_slice()).unwrap();
            for resource in message.resources {
                let any = resource.resource.unwrap();
                show(&response.type_url, &any);
                assert!(!resource.version.is_empty(), "X28: every resource has a version");
                text.push(format!("{}={}", resource.name, body(&any)));
            }
            text.extend(message.removed_resources.iter().map(|name| format!("-{name}")));
            message.nonce
        }
    };
    let unique: BTreeSet<_> = text.iter().collect();
    assert_eq!(unique.len(), text.len(), "X8: a name occurs once: {text:?}");
    (nonce, text.join(" "))
}

fn claim(kind: &TypeUrl, words: &[&str], names: &str) -> Interest {
    let version = |word: &&str| {
        let resource = resource(kind, word);
        let foreign = resource.body() == "?";
        let version = if foreign { "v1".to_owned() } else { resource.version().to_string() };
        (resource.name().to_string(), version)
    };
    let initial_versions = words.iter().map(version).collect();
    let subscribe = names.split_whitespace().map(str::to_owned).collect();
    Interest::Change { subscribe, unsubscribe: Vec::new(), initial_versions }
}

fn change(words: &[&str]) -> Interest {
    let (unsubscribe, subscribe): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.starts_with('-'));
    let bare =
        |words: Vec<&str>| words.into_iter().map(|w| w.trim_start_matches(['+', '-']).to_owned()).collect();
    Interest::Change {
        subscribe: bare(subscribe),
        unsubscribe: bare(unsubscribe),
        initial_versions: BTreeMap::new(),
    }
}

fn resource(kind: &TypeUrl, word: &str) -> EncodedResource {
    let (name, body) = word.split_once('=').unwrap_or((word, ""));
    match body.split_once('@') {
        Some((body, endpoints)) => {
            let whole = format!("{body}@{endpoints}");
            EncodedResource::new(kind.clone(), name, whole.as_bytes()).warmed_by(TypeUrl::ENDPOINT, endpoints)
        }
        None => EncodedResource::new(kind.clone(), name, body.as_bytes()),
    }
}

const TYPES: [(&str, TypeUrl); 5] = [
    ("CDS", TypeUrl::CLUSTER),
    ("EDS", TypeUrl::ENDPOINT),
    ("LDS", TypeUrl::LISTENER),
    ("RDS", TypeUrl::ROUTE),
    ("SDS", TypeUrl::SECRET),
];

fn type_url(word: &str) -> TypeUrl {
    let known = TYPES.into_iter().find(|(short, _)| *short == word);
    known.map_or_else(|| TypeUrl::parse(&format!("test/{word}")).unwrap(), |(_, url)| url)
}

fn short(type_url: &TypeUrl) -> String {
    let known = TYPES.into_iter().find(|(_, url)| url == type_url);
    known.map_or_else(|| type_url.as_str().replace("test/", ""), |(short, _)| short.to_owned())
}

/// Type first, then resources in order.
fn sorted(text: &str) -> String {
    let mut words: Vec<_> = text.split_whitespace().collect();
    if let Some(resources) = words.get_mut(1..) {
        resources.sort_unstable();
    }
    words.join(" ")
}
