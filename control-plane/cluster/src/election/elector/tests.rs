//! Electors before one Lease, in simulated time.

use serde_json::{Value, json};

use super::*;

/// A Lease that refuses writes to another version than its own.
#[derive(Default)]
struct Api {
    lease: Option<(u64, Value)>,
    version: u64,
    /// Requests of these electors fail.
    cut: Vec<&'static str>,
}

impl Api {
    fn lease(&self) -> Answer {
        match &self.lease {
            None => Answer::Absent,
            Some((version, value)) => {
                let mut value = value.clone();
                value["metadata"] = json!({"resourceVersion": version.to_string()});
                Answer::Lease(Lease::parse(&value.to_string()).unwrap())
            }
        }
    }

    fn write(&mut self, body: &[u8]) -> Answer {
        let value: Value = serde_json::from_slice(body).unwrap();
        let version = value["metadata"]["resourceVersion"].as_str().map(|text| text.parse::<u64>().unwrap());
        if version != self.lease.as_ref().map(|(version, _)| *version) {
            return Answer::Conflict;
        }
        self.version += 1;
        self.lease = Some((self.version, value));
        self.lease()
    }

    fn answer(&mut self, who: &str, act: &Act) -> Answer {
        if self.cut.iter().any(|cut| who.starts_with(cut)) {
            return Answer::Failed;
        }
        match act {
            Act::Read => self.lease(),
            Act::Create(record) => self.write(&Lease::named("x").with(record)),
            Act::Write(lease, record) => self.write(&lease.with(record)),
            Act::Wait(_) => unreachable!(),
        }
    }

    fn record(&self) -> Record {
        match self.lease() {
            Answer::Lease(lease) => lease.record(),
            _ => Record::default(),
        }
    }
}

struct World {
    api: Api,
    electors: Vec<(Elector, bool)>,
    start: Instant,
    now: Instant,
}

impl World {
    fn of(names: &[&str]) -> Self {
        let now = Instant::now();
        let elector = |name: &&str| (Elector::new((*name).to_owned(), Times::default(), now), true);
        Self { api: Api::default(), electors: names.iter().map(elector).collect(), start: now, now }
    }

    /// Lets time pass in steps of a tenth of a second. There is never more than one leader.
    fn pass(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        while self.now < end {
            // The time of day of each elector is nonsense, which must not matter.
            let wall = format!("{}", (self.now - self.start).as_millis());
            for (elector, alive) in &mut self.electors {
                for _ in 0..5 {
                    let act = elector.next(self.now, &wall);
                    if !*alive || matches!(act, Act::Wait(_)) {
                        break;
                    }
                    let answer = self.api.answer(&elector.identity.clone(), &act);
                    elector.answered(&act, answer, self.now, self.now);
                }
            }
            assert!(self.leaders().len() <= 1, "{:?}", self.leaders());
            self.now += Duration::from_millis(100);
        }
    }

    fn leaders(&self) -> Vec<&str> {
        let leads = |(elector, alive): &&(Elector, bool)| *alive && elector.leads_until(self.now).is_some();
        self.electors.iter().filter(leads).map(|(elector, _)| elector.identity.as_str()).collect()
    }

    /// How many seconds pass until somebody leads.
    fn until_led(&mut self) -> f64 {
        let begin = self.now;
        while self.leaders().is_empty() {
            self.pass(0.1);
            assert!(self.now - begin < Duration::from_secs(60), "nobody leads");
        }
        (self.now - begin).as_secs_f64()
    }
}

#[test]
fn one_of_many_leads_and_keeps_the_lease() {
    let mut world = World::of(&["a", "b", "c"]);
    assert!(world.until_led() < 0.3);
    assert_eq!(world.leaders(), ["a"]);
    let first = world.api.record();
    world.pass(120.0);
    assert_eq!(world.leaders(), ["a"]);
    let record = world.api.record();
    assert_eq!((record.transitions, record.acquired), (0, first.acquired));
    assert!(record.renewed != first.renewed);
    assert!((20..30).contains(&world.api.version), "a write every five seconds: {}", world.api.version);
}

#[test]
fn a_dead_leader_is_followed_within_the_lease_and_not_before() {
    let mut world = World::of(&["a", "b", "c"]);
    world.pass(33.0);
    world.electors[0].1 = false;
    let taken = world.until_led();
    assert!((9.0..17.2).contains(&taken), "{taken}");
    assert_eq!(world.api.record().transitions, 1);
}

#[test]
fn a_leader_without_the_api_stops_before_another_begins() {
    let mut world = World::of(&["a", "b"]);
    world.pass(31.0);
    world.api.cut.push("a");
    world.pass(10.1);
    assert!(world.leaders().is_empty(), "ten seconds after its last renewal at most");
    world.until_led();
    assert_eq!(world.leaders(), ["b"]);
    world.api.cut.clear();
    world.pass(60.0);
    assert_eq!((world.leaders(), world.api.record().transitions), (vec!["b"], 1));
}

#[test]
fn a_short_failure_changes_nothing() {
    let mut world = World::of(&["a", "b"]);
    world.pass(5.5);
    world.api.cut.push("a");
    world.pass(6.0);
    assert_eq!(world.leaders(), ["a"]);
    world.api.cut.clear();
    world.pass(30.0);
    assert_eq!((world.leaders(), world.api.record().transitions), (vec!["a"], 0));
}

#[test]
fn a_lease_that_is_given_up_is_taken_within_the_retry() {
    let mut world = World::of(&["a", "b"]);
    world.pass(12.0);
    let (lease, record) = world.electors[0].0.release("x").unwrap();
    assert!(world.leaders().is_empty(), "it does not lead while it gives up");
    assert!(matches!(world.api.write(&lease.with(&record)), Answer::Lease(_)));
    world.electors[0].1 = false;
    assert!(world.until_led() < 2.3);
    assert_eq!((world.leaders(), world.api.record().transitions), (vec!["b"], 1));
    assert!(world.electors[0].0.release("x").is_some(), "once more is a conflict, and no harm");
    let (_, stale) = world.electors[0].0.release("x").unwrap();
    assert_eq!(world.api.write(&lease.with(&stale)), Answer::Conflict);
}

#[test]
fn a_lease_that_is_deleted_or_stolen_is_noticed() {
    let mut world = World::of(&["a"]);
    world.pass(12.0);
    world.api.lease = None;
    world.pass(10.0);
    assert_eq!((world.leaders(), world.api.record().holder.as_str()), (vec!["a"], "a"));
    let stolen = Record { holder: "z".to_owned(), seconds: 15, ..world.api.record() };
    let Answer::Lease(lease) = world.api.lease() else { panic!() };
    world.api.write(&lease.with(&stolen));
    world.pass(6.0);
    assert!(world.leaders().is_empty());
    assert_eq!(world.electors[0].0.holder().as_deref(), Some("z"));
    world.pass(20.0);
    assert_eq!(world.leaders(), ["a"], "its thief never renewed it");
}

/// A record that says it was renewed in the future, or long ago, counts from when it was seen.
#[test]
fn clocks_of_others_do_not_matter() {
    for renewed in ["2001-01-01T00:00:00.000000Z", "2101-01-01T00:00:00.000000Z"] {
        let mut world = World::of(&["a"]);
        let record =
            Record { holder: "z".to_owned(), seconds: 15, renewed: renewed.to_owned(), ..Record::default() };
        world.api.write(&Lease::named("x").with(&record));
        world.pass(14.0);
        assert!(world.leaders().is_empty());
        assert!(world.until_led() < 3.5);
    }
}
