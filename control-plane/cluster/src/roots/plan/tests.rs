use std::collections::BTreeSet;

use super::*;

/// What the API has.
#[derive(Default)]
struct Cluster {
    namespaces: KindFacts,
    config_maps: KindFacts,
    version: u32,
}

fn fact(version: u32, ending: bool, fields: &[Value]) -> Fact {
    let version = version.to_string().into();
    Fact { uid: "u".into(), generation: 0, version, ending, fields: fields.into(), since: 0 }
}

impl Cluster {
    fn of(names: &[&str]) -> Self {
        let mut cluster = Self::default();
        for name in names {
            cluster.namespace(name, false);
        }
        cluster
    }

    fn namespace(&mut self, name: &str, ending: bool) {
        let key = Key { namespace: "".into(), name: name.into() };
        self.namespaces.objects.insert(key, fact(1, ending, &[]));
    }

    /// Somebody writes the ConfigMap.
    fn set(&mut self, namespace: &str, roots: &str, label: &str) {
        self.version += 1;
        let fields = [json!({(LABEL.0): label}), json!({(FIELD): roots, "other": "stays"})];
        self.config_maps.objects.insert(Self::key(namespace), fact(self.version, false, &fields));
        self.config_maps.newest = self.version.into();
    }

    fn key(namespace: &str) -> Key {
        Key { namespace: namespace.into(), name: NAME.into() }
    }

    /// One step; every write succeeds and is seen at once. The namespaces written.
    fn round(&mut self, plan: &mut Plan, roots: &str, now: Instant) -> Vec<String> {
        let step = plan.step(&self.namespaces, &self.config_maps, roots, now);
        for name in &step.write {
            self.set(name, roots, "true");
            plan.written(name, Ok(self.version.to_string()), now);
        }
        step.write.iter().map(ToString::to_string).collect()
    }
}

fn refusal(code: u16, message: &str) -> Refusal {
    Refusal { code, message: message.to_owned() }
}

#[test]
fn every_namespace_is_written_once_and_again_only_when_something_differs() {
    let mut cluster = Cluster::of(&["kube-system", "shop"]);
    let (mut plan, now) = (Plan::default(), Instant::now());
    assert_eq!(cluster.round(&mut plan, "a", now), ["kube-system", "shop"]);
    assert!(cluster.round(&mut plan, "a", now).is_empty());
    cluster.namespace("new", false);
    assert_eq!(cluster.round(&mut plan, "a", now), ["new"]);
    cluster.set("shop", "other", "true");
    assert_eq!(cluster.round(&mut plan, "a", now), ["shop"], "somebody changed it");
    cluster.config_maps.objects.remove(&Cluster::key("shop"));
    assert_eq!(cluster.round(&mut plan, "a", now), ["shop"], "somebody deleted it");
    cluster.set("new", "a", "false");
    assert_eq!(cluster.round(&mut plan, "a", now), ["new"], "the label");
    assert_eq!(cluster.round(&mut plan, "b", now), ["kube-system", "new", "shop"], "other roots");
    assert_eq!(plan.problems().count(), 0);
}

#[test]
fn namespaces_that_end_are_left_alone() {
    let mut cluster = Cluster::of(&["shop"]);
    cluster.namespace("old", true);
    let (mut plan, now) = (Plan::default(), Instant::now());
    let step = plan.step(&cluster.namespaces, &cluster.config_maps, "a", now);
    assert_eq!((step.namespaces, step.write), (1, vec!["shop".into()]));
    // Refused because it ends, before its end was told: no problem, and not missing for readiness.
    let terminating =
        refusal(403, "unable to create new content in namespace shop because it is being terminated");
    plan.written("shop", Err(terminating), now);
    let step = plan.step(&cluster.namespaces, &cluster.config_maps, "a", now);
    assert_eq!((step.write.len(), step.missing, step.refused), (0, 1, 1));
    assert_eq!(plan.problems().count(), 0);
}

/// The watch shows a write a moment later than the answer to it.
#[test]
fn a_write_that_the_watch_has_not_shown_yet_is_not_repeated() {
    let cluster = Cluster::of(&["shop"]);
    let (mut plan, now) = (Plan::default(), Instant::now());
    let step = |plan: &mut Plan, roots: &str, now| {
        plan.step(&cluster.namespaces, &cluster.config_maps, roots, now).write.len()
    };
    assert_eq!(step(&mut plan, "a", now), 1);
    assert_eq!(step(&mut plan, "a", now), 0, "it is under way");
    plan.written("shop", Ok("7".to_owned()), now);
    assert_eq!(step(&mut plan, "a", now + Duration::from_secs(4)), 0);
    assert_eq!(step(&mut plan, "b", now + Duration::from_secs(4)), 1, "other roots do not wait");
    plan.written("shop", Ok("7".to_owned()), now);
    assert_eq!(step(&mut plan, "b", now + Duration::from_secs(6)), 1, "the watch lost it");
}

#[test]
fn a_rival_is_answered_ever_later_and_named() {
    let mut cluster = Cluster::of(&["shop", "quiet"]);
    let (mut plan, start) = (Plan::default(), Instant::now());
    let mut writes = BTreeSet::new();
    for second in 0..600 {
        let now = start + Duration::from_secs(second);
        cluster.set("shop", "theirs", "true");
        if cluster.round(&mut plan, "ours", now).contains(&"shop".to_owned()) {
            writes.insert(second);
        }
    }
    assert!((5..14).contains(&writes.len()), "{writes:?}");
    let problems: Vec<_> = plan.problems().collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].0 == "shop" && problems[0].1.contains("another controller"), "{problems:?}");
}

#[test]
fn a_failed_write_is_repeated_ever_later_and_a_refused_one_seldom() {
    let cluster = Cluster::of(&["shop"]);
    let (mut plan, mut now) = (Plan::default(), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..9 {
        let step = plan.step(&cluster.namespaces, &cluster.config_maps, "a", now);
        assert_eq!((step.write.len(), step.refused), (1, 0));
        plan.written("shop", Err(refusal(0, "no answer")), now);
        let wake = plan.step(&cluster.namespaces, &cluster.config_maps, "a", now).wake.unwrap();
        waits.push((wake - now).as_millis());
        now = wake;
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
    plan.step(&cluster.namespaces, &cluster.config_maps, "a", now);
    let forbidden = r#"configmaps is forbidden: User "x" cannot patch resource "configmaps""#;
    plan.written("shop", Err(refusal(403, forbidden)), now);
    let step = plan.step(&cluster.namespaces, &cluster.config_maps, "a", now);
    assert_eq!((step.wake, step.refused), (Some(now + REFUSED_PAUSE), 1));
    let (_, problem) = plan.problems().next().unwrap();
    assert!(
        problem.contains("shop/istio-ca-root-cert") && problem.contains("verbs: [create, patch]"),
        "{problem}"
    );
}
