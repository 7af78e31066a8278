//! Random histories of several sources against the rules written out without any economy, and against a merge that
//! knows only how they end.

use super::*;
use crate::parse::Broken;

const SEEDS: u64 = 100;
const STEPS: usize = 40;

/// The sources in their order: two directories around an API.
const SOURCES: [&str; 3] = ["directory one", CLUSTER, "directory two"];
const API: usize = 1;
const FILES: [&str; 3] = ["a.yaml", "b.yaml", "sub/a.yaml"];
const NAMES: [&str; 3] = ["x", "y", "z"];

/// A small generator (SplitMix64): the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// One of two kinds, in one of two versions, or refused.
    fn value(&mut self, name: &str, good: bool) -> Value {
        let refused = !good && self.below(4) == 0;
        let version = self.one_of(&["STRICT", "DISABLE"]);
        if self.below(3) == 0 {
            let label = if refused { json!(5) } else { json!(version) };
            return json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"l": label}}});
        }
        // What is refused for its ports has a stand-in if it is STRICT.
        let bad_ports = refused && self.below(2) == 0;
        let mode = if refused && !bad_ports { "nonsense" } else { version };
        let ports = if bad_ports { json!({"8080": {}}) } else { Value::Null };
        json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": name, "namespace": "shop"},
            // A warning.
            "spec": {"mtls": {"mode": mode}, "portLevelMtls": ports, "selecter": {}},
        })
    }

    fn text(&mut self, good: bool) -> String {
        let mut documents = Vec::new();
        for _ in 0..self.below(4) {
            let name = self.one_of(&NAMES);
            documents.push(self.value(name, good).to_string());
        }
        if !good {
            documents.extend((self.below(3) == 0).then(|| self.lost()));
            let first = self.below(3).min(documents.len());
            documents.rotate_left(first);
        }
        documents.join("\n---\n")
    }

    /// A document of which it is not certain which object it names.
    fn lost(&mut self) -> String {
        let name = self.one_of(&NAMES);
        match self.below(6) {
            0 => format!("kind: PeerAuthentication\nmetadata: {{name: {name}}}"),
            3 => "apiVersion: security.istio.io/v1\nkind: PeerAu".to_owned(),
            4 => format!(
                "apiVersion: securty.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}}}"
            ),
            1 => format!("kind: PeerAuthentication\nmetadata: {{name: {{{{ {name} }}}}}}"),
            2 => format!(
                "apiVersion: security.istio.io/v1\nkind: PeerAuthentification\nmetadata: {{name: {name}}}"
            ),
            _ => format!("apiVersion: v1\nkind: Namespace\nmetadata: !tag {{name: {name}}}"),
        }
    }

    fn resync(&mut self, kind: Kind, good: bool) -> Update {
        let names: BTreeSet<_> = (0..self.below(4)).map(|_| self.one_of(&NAMES)).collect();
        let entries = names.into_iter().map(|name| entry(&self.value(name, good)));
        let entries: Vec<_> = entries.filter(|entry| entry.reference.kind == kind).collect();
        Update::Resync { kind, entries }
    }

    fn update(&mut self, source: usize) -> Update {
        let (file, name) = (self.one_of(&FILES), self.one_of(&NAMES));
        match (source, self.below(8)) {
            (API, 0) => self.resync(Kind::Namespace, false),
            (API, 1) => self.resync(Kind::PeerAuthentication, false),
            (API, 2) => Update::Delete(entry(&self.value(name, true)).reference),
            (API, _) => Update::Upsert(entry(&self.value(name, false))),
            (_, 0) => gone(file),
            (_, 1) => Update::Unreadable { file: file.into(), problem: problem(file) },
            (_, 2) => Update::Problems((0..self.below(2)).map(|_| problem(file)).collect()),
            (_, _) => super::file(file, &self.text(false)),
        }
    }

    /// The whole of a source, without mistakes.
    fn end(&mut self, source: usize) -> Vec<Update> {
        if source == API {
            return [Kind::Namespace, Kind::PeerAuthentication].map(|kind| self.resync(kind, true)).into();
        }
        let files = FILES.map(|name| match self.below(3) {
            0 => gone(name),
            _ => super::file(name, &self.text(true)),
        });
        files.into_iter().chain([Update::Problems(Vec::new())]).collect()
    }
}

fn problem(place: &str) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        object: place.to_owned(),
        origin: Origin { file: Some(place.into()), line: None },
        field: String::new(),
        message: "cannot be read".to_owned(),
        beaten_by: None,
        effect: None,
    }
}

type World = BTreeMap<ObjectRef, Object>;

/// A source as the rules have it.
#[derive(Default)]
struct Model {
    parts: BTreeMap<Part, Known>,
    problems: usize,
    /// The accepted versions in force of this source alone.
    world: World,
    /// What stands in where it has none.
    stand_ins: World,
}

#[derive(Default)]
struct Known {
    stated: Vec<Object>,
    /// With what stands in for each.
    open: BTreeMap<ObjectRef, Option<Object>>,
    /// The texts of the broken documents.
    broken: BTreeSet<Name>,
    /// The texts of those that an object may be which the file no longer names.
    suspects: BTreeMap<ObjectRef, BTreeSet<Name>>,
    diagnostics: usize,
}

impl Known {
    /// The texts of the content that comes next which this object of the file may be.
    fn suspected(&self, reference: &ObjectRef, next: &Parsed) -> BTreeSet<Name> {
        let names = |one: &ObjectRef| {
            next.refused.contains(one) || next.objects.iter().any(|object| object.reference() == one)
        };
        if names(reference) {
            return BTreeSet::new();
        }
        let known = || self.stated.iter().map(Object::reference).chain(self.open.keys());
        let says = |text: &Name, one: &ObjectRef| {
            text.split(|c: char| !c.is_alphanumeric()).any(|word| *word == *one.name)
        };
        let may_be = |document: &Broken| {
            if self.broken.contains(&document.text) {
                return self.suspects.get(reference).is_some_and(|texts| texts.contains(&document.text));
            }
            document.is_last
                || match &document.names {
                    Some(name) => known().all(|one| one != name),
                    None => {
                        says(&document.text, reference)
                            || !known().any(|one| !names(one) && says(&document.text, one))
                    }
                }
        };
        next.broken.iter().filter(|one| may_be(one)).map(|one| one.text.clone()).collect()
    }
}

impl Model {
    fn apply(&mut self, updates: &[Update]) {
        updates.iter().for_each(|update| self.update(update));
        let mut world = World::new();
        for object in self.parts.values().flat_map(|known| &known.stated) {
            world.entry(object.reference().clone()).or_insert_with(|| object.clone());
        }
        self.stand_ins.clear();
        for (reference, stand_in) in self.parts.values().flat_map(|known| &known.open) {
            if let (false, Some(last)) = (world.contains_key(reference), self.world.get(reference)) {
                world.insert(reference.clone(), last.clone());
            }
            if let Some(stand_in) = stand_in {
                self.stand_ins.entry(reference.clone()).or_insert_with(|| stand_in.clone());
            }
        }
        self.world = world;
    }

    fn update(&mut self, update: &Update) {
        match update {
            Update::Resync { kind, entries } => {
                let listed: BTreeSet<_> = entries.iter().map(|entry| &entry.reference).collect();
                let stays = |part: &Part| match part {
                    Part::Object(object) => object.kind != *kind || listed.contains(object),
                    Part::File(_) => true,
                };
                self.parts.retain(|part, _| stays(part));
                entries.iter().for_each(|entry| self.update(&Update::Upsert(entry.clone())));
            }
            Update::Upsert(Entry { reference, object, refused, stand_in, diagnostics }) => {
                let parsed = Parsed {
                    objects: object.iter().cloned().collect(),
                    diagnostics: diagnostics.clone(),
                    refused: refused.then(|| reference.clone()).into_iter().collect(),
                    stand_ins: stand_in.iter().cloned().collect(),
                    ..Parsed::default()
                };
                self.replace(Part::Object(reference.clone()), &parsed);
            }
            Update::Delete(reference) => drop(self.parts.remove(&Part::Object(reference.clone()))),
            Update::File { file, parsed } => self.replace(Part::File(file.clone()), parsed),
            Update::Unreadable { file, .. } => {
                let known = self.parts.entry(Part::File(file.clone())).or_default();
                known.open.extend(known.stated.drain(..).map(|object| (object.reference().clone(), None)));
                (known.broken, known.suspects, known.diagnostics) = (BTreeSet::new(), BTreeMap::new(), 1);
            }
            Update::Gone(file) => drop(self.parts.remove(&Part::File(file.clone()))),
            Update::Problems(problems) => self.problems = problems.len(),
        }
    }

    fn replace(&mut self, part: Part, parsed: &Parsed) {
        let Parsed { objects, refused, stand_ins, broken, diagnostics } = parsed;
        let before = self.parts.remove(&part).unwrap_or_default();
        let named = before.stated.iter().map(Object::reference).chain(before.open.keys());
        let suspected = named.map(|one| (one.clone(), before.suspected(one, parsed)));
        let suspects: BTreeMap<_, _> = suspected.filter(|(_, texts)| !texts.is_empty()).collect();
        let free = |one: &&ObjectRef| objects.iter().all(|object| object.reference() != *one);
        let maybe = |one: &ObjectRef| (one.clone(), before.open.get(one).cloned().flatten());
        let stand_in = |one: &ObjectRef| stand_ins.iter().find(|object| object.reference() == one).cloned();
        let mut open: BTreeMap<_, _> = suspects.keys().map(maybe).collect();
        open.extend(refused.iter().filter(free).map(|one| (one.clone(), stand_in(one))));
        let broken = broken.iter().map(|one| one.text.clone()).collect();
        let (stated, diagnostics) = (objects.clone(), diagnostics.len());
        self.parts.insert(part, Known { stated, open, broken, suspects, diagnostics });
    }

    /// Every version of an object that the source has, the one in force first.
    fn versions(&self, reference: &ObjectRef) -> Vec<&Object> {
        let own = self.parts.values().flat_map(|known| &known.stated);
        let own: Vec<_> = own.filter(|object| object.reference() == reference).collect();
        if own.is_empty() { self.world.get(reference).into_iter().collect() } else { own }
    }
}

/// What the rules make of all sources: the world, and the places of the objects that are ignored in it.
fn expected(models: &[Model]) -> (World, Vec<(String, Origin)>) {
    let (mut world, mut ignored) = (World::new(), Vec::new());
    let references = models.iter().flat_map(|model| model.world.keys().chain(model.stand_ins.keys()));
    for reference in references.collect::<BTreeSet<_>>() {
        let stand_in = models.iter().find_map(|model| model.stand_ins.get(reference));
        let mut versions = models.iter().flat_map(|model| model.versions(reference));
        let first = versions.next().or(stand_in).unwrap();
        let others = versions.filter(|other| !first.says_the_same(other));
        ignored.extend(others.map(|other| (reference.to_string(), other.meta().origin.clone())));
        world.insert(reference.clone(), first.clone());
    }
    ignored.sort();
    (world, ignored)
}

/// A merge, and the world that its changes lead to.
struct Followed {
    merge: Merge,
    world: World,
}

impl Followed {
    fn new() -> Self {
        Self { merge: Merge::new(SOURCES.map(SourceId::new)), world: World::new() }
    }

    /// Applies a batch; no change may be without need, and found and solved are the difference of the lists.
    fn apply(&mut self, source: usize, updates: Vec<Update>) {
        let set = |merge: &Merge| merge.diagnostics().iter().cloned().collect::<BTreeSet<_>>();
        let before = set(&self.merge);
        let effect = self.merge.apply(Batch { source: SourceId::new(SOURCES[source]), updates });
        let mut before_it = effect.gone.iter().chain(&effect.replaced);
        assert!(before_it.all(|object| self.world.get(object.reference()) == Some(object)));
        for change in effect.changes {
            match change {
                Change::Upsert(object) => {
                    let before = self.world.insert(object.reference().clone(), object.clone());
                    assert_ne!(before, Some(object));
                }
                Change::Delete(reference) => assert!(self.world.remove(&reference).is_some(), "{reference}"),
            }
        }
        let now = set(&self.merge);
        assert_eq!(effect.found, now.difference(&before).cloned().collect::<Vec<_>>());
        assert_eq!(effect.solved, before.difference(&now).cloned().collect::<Vec<_>>());
        assert!(self.merge.diagnostics().is_sorted());
    }
}

#[test]
fn every_history_comes_to_what_the_rules_say() {
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let (mut followed, mut models) = (Followed::new(), SOURCES.map(|_| Model::default()));
        for step in 0..STEPS {
            let source = random.below(SOURCES.len());
            let updates: Vec<_> = (0..=random.below(3)).map(|_| random.update(source)).collect();
            models[source].apply(&updates);
            followed.apply(source, updates);
            let (world, ignored) = expected(&models);
            assert_eq!(followed.world, world, "seed {seed}, step {step}");
            let (conflicts, others): (Vec<_>, Vec<_>) = followed
                .merge
                .diagnostics()
                .iter()
                .partition(|one| one.message.contains("the object also stands"));
            let conflicts: Vec<_> =
                conflicts.iter().map(|one| (one.object.clone(), one.origin.clone())).collect();
            assert_eq!(conflicts, ignored, "seed {seed}, step {step}");
            let found: usize = models
                .iter()
                .map(|model| {
                    model.problems + model.parts.values().map(|known| known.diagnostics).sum::<usize>()
                })
                .sum();
            assert_eq!(others.len(), found, "seed {seed}, step {step}");
        }
    }
}

#[test]
fn a_history_that_ends_well_leaves_no_trace() {
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut followed = Followed::new();
        for _ in 0..STEPS {
            let source = random.below(SOURCES.len());
            let updates = (0..=random.below(3)).map(|_| random.update(source)).collect();
            followed.apply(source, updates);
        }
        let mut fresh = Followed::new();
        for source in [1, 2, 0] {
            let end = random.end(source);
            followed.apply(source, end.clone());
            fresh.apply(source, end);
        }
        assert_eq!(followed.world, fresh.world, "seed {seed}");
        assert_eq!(followed.merge.diagnostics(), fresh.merge.diagnostics(), "seed {seed}");
        assert_eq!(followed.merge.claims, fresh.merge.claims, "seed {seed}");
    }
}

/// A directory that is edited again and again against one that is read for the first time: what can be read is in force in
/// both, and what is in force beyond that is the last good version of an object that the edited one has as open.
#[test]
fn an_edit_takes_what_a_start_takes() {
    for seed in 0..SEEDS * 5 {
        let mut random = Random(seed);
        let (mut edited, mut texts) = (Followed::new(), BTreeMap::new());
        for step in 0..STEPS / 2 {
            let name = random.one_of(&FILES);
            let text = random.text(false);
            edited.apply(0, vec![super::file(name, &text)]);
            texts.insert(name, text);
            let mut started = Followed::new();
            started.apply(0, texts.iter().map(|(name, text)| super::file(name, text)).collect());
            let place = format!("seed {seed}, step {step}");
            for (reference, object) in &started.world {
                let states = |parsed: Parsed| parsed.objects.iter().any(|one| one.reference() == reference);
                let found = edited.world.get(reference);
                // Of a refused object a start has what stands in for it.
                let same =
                    if parse_all(&texts).any(states) { found == Some(object) } else { found.is_some() };
                assert!(same, "{place}: {found:?} and {object:?}");
            }
            for reference in edited.world.keys().filter(|one| !started.world.contains_key(*one)) {
                let open = parse_all(&texts).any(|parsed| !parsed.broken.is_empty());
                assert!(open, "{place}: {reference} outlives its document");
            }
        }
    }
}

fn parse_all<'a>(texts: &'a BTreeMap<&str, String>) -> impl Iterator<Item = Parsed> + 'a {
    texts.iter().map(|(name, text)| parse::documents(text, name, &defaults()))
}
