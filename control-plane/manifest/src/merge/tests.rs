mod random;

use eastwest_model::{MeshConfig, TrustDomain};
use serde_json::{Value, json};

use super::*;
use crate::parse::{self, Document};

const DIRECTORY: &str = "directory manifests";
const CLUSTER: &str = "the cluster";

fn defaults() -> MeshConfig {
    MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system")
}

/// A directory, and after it a cluster.
fn merge() -> Merge {
    Merge::new([DIRECTORY, CLUSTER].map(SourceId::new))
}

/// A PeerAuthentication `shop/NAME` as a document of a file; a mode that there is not makes it refused.
fn policy(name: &str, mode: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: {name}, namespace: shop}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

fn file(name: &str, text: &str) -> Update {
    Update::File { file: name.into(), parsed: parse::documents(text, name, &defaults()) }
}

fn gone(name: &str) -> Update {
    Update::Gone(name.into())
}

fn entry(value: &Value) -> Entry {
    match parse::object(value, &Origin::default(), &defaults()) {
        Document::Entry(entry) => entry,
        other => panic!("{other:?}"),
    }
}

/// The same as [`policy`] out of an API.
fn object(name: &str, mode: &str) -> Entry {
    entry(&json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"mtls": {"mode": mode}},
    }))
}

fn upsert(name: &str, mode: &str) -> Update {
    Update::Upsert(object(name, mode))
}

fn delete(name: &str) -> Update {
    Update::Delete(ObjectRef::new(Kind::PeerAuthentication, "shop", name))
}

fn resync(entries: &[(&str, &str)]) -> Update {
    let entries = entries.iter().map(|(name, mode)| object(name, mode)).collect();
    Update::Resync { kind: Kind::PeerAuthentication, entries }
}

/// `+name MODE` and `-name` for the changes that a batch makes.
#[track_caller]
fn check(merge: &mut Merge, source: &str, updates: impl IntoIterator<Item = Update>, golden: &[&str]) {
    let batch = Batch { source: SourceId::new(source), updates: updates.into_iter().collect() };
    let show = |change: &Change| match change {
        Change::Upsert(Object::PeerAuthentication(policy)) => {
            let mode = policy.mode.map_or("UNSET".to_owned(), |mode| mode.to_string());
            format!("+{} {mode}", policy.meta.name())
        }
        Change::Upsert(object) => format!("+{}", object.reference()),
        Change::Delete(reference) => format!("-{}", reference.name),
    };
    assert_eq!(merge.apply(batch).changes.iter().map(show).collect::<Vec<_>>(), golden);
}

/// The diagnostics as `object: message`.
fn wrong(merge: &Merge) -> Vec<String> {
    merge.diagnostics().iter().map(|one| format!("{}: {}", one.object, one.message)).collect()
}

const STAYS: &str = EARLIER;

#[test]
fn an_object_that_moves_with_a_mistake_keeps_its_last_good_version() {
    let mut merge = merge();
    let (good, bad) = (policy("a", "STRICT"), policy("a", "strict"));
    check(&mut merge, DIRECTORY, [file("a.yaml", &good)], &["+a STRICT"]);
    check(&mut merge, DIRECTORY, [gone("a.yaml"), file("b.yaml", &bad)], &[]);
    assert!(wrong(&merge)[0].ends_with(STAYS), "{:?}", wrong(&merge));
    // In two steps, too; and whoever states it takes it back.
    check(&mut merge, DIRECTORY, [file("c.yaml", &policy("a", "DISABLE"))], &["+a DISABLE"]);
    assert!(wrong(&merge).len() == 1 && !wrong(&merge)[0].ends_with(STAYS), "{:?}", wrong(&merge));
    check(&mut merge, DIRECTORY, [gone("c.yaml")], &[]);
    assert!(wrong(&merge)[0].ends_with(STAYS), "{:?}", wrong(&merge));
    check(&mut merge, DIRECTORY, [gone("b.yaml")], &["-a"]);
    // What is gone does not come back.
    check(&mut merge, DIRECTORY, [file("b.yaml", &bad)], &[]);
    assert!(!wrong(&merge)[0].ends_with(STAYS), "{:?}", wrong(&merge));
}

/// Each sort of document that cannot be read, beside good ones that are edited.
#[test]
fn a_bad_document_holds_no_other_back() {
    let bad = [
        "kind: PeerAuthentication\nmetadata: {name: x}",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentification\nmetadata: {name: x}",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {generateName: x-}",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: {{ .Values.x }}}",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: !ref {name: x}",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nkind: Pod\nmetadata: {name: x}",
        "apiVersion: security.istio.io/v7\nkind: PeerAuthentication\nmetadata: {name: x}",
        "just text",
        "q: [",
    ];
    for bad in bad {
        let mut merge = merge();
        let file = |documents: &[String]| file("a.yaml", &documents.join("---\n"));
        let bad = format!("{bad}\n");
        check(
            &mut merge,
            DIRECTORY,
            [file(&[policy("a", "STRICT"), policy("b", "STRICT")])],
            &["+a STRICT", "+b STRICT"],
        );
        let edit = file(&[bad.clone(), policy("a", "DISABLE"), policy("b", "STRICT")]);
        let batch = Batch { source: SourceId::new(DIRECTORY), updates: vec![edit] };
        let changed = merge.apply(batch).changes;
        assert!(changed.iter().any(|change| matches!(change, Change::Upsert(Object::PeerAuthentication(one)) if one.mode.unwrap().to_string() == "DISABLE")), "{bad}");
        assert_eq!(merge.diagnostics().len(), 1, "{bad}");
        check(
            &mut merge,
            DIRECTORY,
            [file(&[policy("a", "DISABLE"), policy("b", "STRICT"), bad.clone()])],
            &["+a DISABLE", "+b STRICT"],
        );
        // A later edit counts as well, and what is taken out is gone.
        check(
            &mut merge,
            DIRECTORY,
            [file(&[policy("b", "PERMISSIVE"), bad.clone()])],
            &["-a", "+b PERMISSIVE"],
        );
    }
}

#[test]
fn a_file_in_which_nothing_can_be_read_keeps_its_objects() {
    let mut merge = merge();
    check(&mut merge, DIRECTORY, [file("a.yaml", &policy("a", "STRICT"))], &["+a STRICT"]);
    check(&mut merge, DIRECTORY, [file("a.yaml", "<<<<<<< HEAD")], &[]);
    assert!(wrong(&merge)[0].ends_with("stays in force: PeerAuthentication/shop/a"), "{:?}", wrong(&merge));
    // A file that says nothing is no mistake.
    check(&mut merge, DIRECTORY, [file("a.yaml", "# empty\n")], &["-a"]);
}

#[test]
fn a_file_that_may_be_cut_off_keeps_what_is_gone() {
    let mut merge = merge();
    let whole = ["a", "b", "c"].map(|name| policy(name, "STRICT"));
    check(&mut merge, DIRECTORY, [file("a.yaml", &whole.concat())], &["+a STRICT", "+b STRICT", "+c STRICT"]);
    for cut in ["---\napiVersion: security.isti", "---\nkind: [", "---\napiVersion: v1\nkind: Pod\n"] {
        check(&mut merge, DIRECTORY, [file("a.yaml", &(whole[0].clone() + cut))], &[]);
        assert!(
            wrong(&merge)[0].ends_with("PeerAuthentication/shop/b, PeerAuthentication/shop/c"),
            "{:?}",
            wrong(&merge)
        );
    }
    // Also a document that can be read may be cut off, and then it is refused, or of a kind that nobody knows.
    let named = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: b, namespace: shop}\n";
    let refused = format!("{named}spec: {{mtls: {{mode: STR}}}}");
    check(&mut merge, DIRECTORY, [file("a.yaml", &(whole[0].clone() + &refused))], &[]);
    assert!(wrong(&merge)[0].ends_with("stays in force: PeerAuthentication/shop/c"), "{:?}", wrong(&merge));
    let unknown = "---\napiVersion: security.istio.io/v1\nkind: PeerAu";
    check(&mut merge, DIRECTORY, [file("a.yaml", &(whole[0].clone() + unknown))], &[]);
    assert!(
        wrong(&merge)[0].ends_with("PeerAuthentication/shop/b, PeerAuthentication/shop/c"),
        "{:?}",
        wrong(&merge)
    );
    // A key without a value at the end is no mistake, and may be a cut.
    let bare = format!("{named}spec:\n  mtls:\n");
    check(&mut merge, DIRECTORY, [file("a.yaml", &(whole[0].clone() + &bare))], &["+b UNSET"]);
    assert!(
        wrong(&merge)[0].contains("ends with \"mtls\"")
            && wrong(&merge)[0].ends_with("PeerAuthentication/shop/c")
    );
    // The same end again is no cut: what goes now is taken out.
    let bad = "---\nkind: [";
    check(&mut merge, DIRECTORY, [file("a.yaml", &(whole.concat() + bad))], &["+b STRICT"]);
    check(&mut merge, DIRECTORY, [file("a.yaml", &(whole[..2].concat() + bad))], &["-c"]);
}

/// The name itself may be what is wrong, or an end of the file that was broken before may have been mended.
#[test]
fn an_object_stays_for_as_long_as_the_broken_document_that_it_may_be() {
    let strict = ["a", "b", "c"].map(|name| policy(name, "STRICT"));
    let renamed = policy("d", "strict");
    let nameless =
        "---\napiVersion: securty.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: q}\nspec: {}\n"
            .to_owned();
    for broken in [renamed, nameless] {
        let mut merge = merge();
        let old = "---\nkind: [\n";
        let start = ["+a STRICT", "+b STRICT", "+c STRICT"];
        check(&mut merge, DIRECTORY, [file("a.yaml", &(old.to_owned() + &strict.concat()))], &start);
        let edit = |parts: &[&str]| file("a.yaml", &parts.concat());
        check(&mut merge, DIRECTORY, [edit(&[old, &broken, &strict[1], &strict[2]])], &[]);
        assert!(wrong(&merge).iter().any(|one| one.ends_with("stays in force: PeerAuthentication/shop/a")));
        check(&mut merge, DIRECTORY, [edit(&[old, &broken, &strict[2]])], &["-b", "+c STRICT"]);
        check(&mut merge, DIRECTORY, [edit(&[old, &strict[2]])], &["-a", "+c STRICT"]);
    }
}

#[test]
fn an_object_that_a_lost_document_mentions_stays() {
    let mut merge = merge();
    let both = policy("a", "STRICT") + &policy("b", "STRICT");
    check(&mut merge, DIRECTORY, [file("a.yaml", &both)], &["+a STRICT", "+b STRICT"]);
    let broken = policy("a", "[STRICT") + &policy("c", "STRICT");
    check(&mut merge, DIRECTORY, [file("a.yaml", &broken)], &["-b", "+c STRICT"]);
    assert!(wrong(&merge)[0].ends_with("stays in force: PeerAuthentication/shop/a"), "{:?}", wrong(&merge));
    // Whoever states it is not held back.
    check(&mut merge, DIRECTORY, [file("b.yaml", &policy("a", "DISABLE"))], &["+a DISABLE"]);
    assert!(!wrong(&merge)[0].contains(STAYS), "{:?}", wrong(&merge));
    check(&mut merge, DIRECTORY, [gone("b.yaml")], &[]);
    check(&mut merge, DIRECTORY, [file("a.yaml", &policy("c", "STRICT"))], &["-a", "+c STRICT"]);
}

/// A policy that asks for STRICT must not become PERMISSIVE because a process that starts does not know what was good.
#[test]
fn of_a_refused_policy_that_is_strict_the_rest_stands_in_until_a_good_version_comes() {
    let mut merge = merge();
    let strict = |spec: &str| {
        format!(
            "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: a, namespace: shop}}, \
             spec: {spec}}}"
        )
    };
    let refused = strict("{mtls: {mode: STRICT}, portLevelMtls: {'8080': {mode: DISABLE}}}");
    let reference = ObjectRef::new(Kind::PeerAuthentication, "shop", "a");
    check(&mut merge, DIRECTORY, [file("b.yaml", &refused)], &["+a STRICT"]);
    assert!(wrong(&merge)[0].ends_with(STAND_IN) && !merge.lacks(&reference), "{:?}", wrong(&merge));
    // A good version of another place goes before it, and is no conflict; also one of another source.
    check(&mut merge, CLUSTER, [upsert("a", "DISABLE")], &["+a DISABLE"]);
    assert!(wrong(&merge).len() == 1 && !wrong(&merge)[0].ends_with(STAND_IN), "{:?}", wrong(&merge));
    check(&mut merge, CLUSTER, [delete("a")], &["+a STRICT"]);
    // It is never taken for a good version.
    check(&mut merge, DIRECTORY, [file("b.yaml", &strict("{mtls: {mode: nonsense}}"))], &["-a"]);
    assert!(merge.lacks(&reference) && merge.diagnostics()[0].effect == Some(Ineffective::None));
    check(&mut merge, DIRECTORY, [file("b.yaml", &policy("a", "DISABLE"))], &["+a DISABLE"]);
    assert!(!merge.lacks(&reference) && wrong(&merge).is_empty());
    check(&mut merge, DIRECTORY, [file("b.yaml", &refused)], &[]);
    assert!(wrong(&merge)[0].ends_with(STAYS), "{:?}", wrong(&merge));
}

#[test]
fn an_unreadable_file_keeps_what_it_kept_before() {
    let mut merge = merge();
    check(&mut merge, DIRECTORY, [file("a.yaml", &policy("a", "STRICT"))], &["+a STRICT"]);
    check(&mut merge, DIRECTORY, [file("a.yaml", &policy("a", "strict"))], &[]);
    let origin = Origin { file: Some("a.yaml".into()), line: None };
    let found = Diagnostic {
        object: "a.yaml".to_owned(),
        origin,
        message: "cannot be read".to_owned(),
        ..merge.diagnostics()[0].clone()
    };
    let unreadable = Update::Unreadable { file: "a.yaml".into(), problem: found };
    check(&mut merge, DIRECTORY, [unreadable], &[]);
    assert_eq!(wrong(&merge), [format!("a.yaml: cannot be read{STAYS}")]);
    check(&mut merge, DIRECTORY, [file("a.yaml", &policy("a", "Strict"))], &[]);
    assert!(wrong(&merge).len() == 1 && wrong(&merge)[0].ends_with(STAYS), "{:?}", wrong(&merge));
}

#[test]
fn a_refused_object_of_an_api_keeps_its_last_good_version() {
    let mut merge = merge();
    check(&mut merge, CLUSTER, [upsert("a", "STRICT"), upsert("b", "strict")], &["+a STRICT"]);
    check(&mut merge, CLUSTER, [upsert("a", "strict")], &[]);
    assert!(wrong(&merge)[0].starts_with("PeerAuthentication/shop/a: \"strict\" is not among"));
    assert!(wrong(&merge)[0].ends_with(STAYS) && !wrong(&merge)[1].ends_with(STAYS), "{:?}", wrong(&merge));
    check(&mut merge, CLUSTER, [resync(&[("a", "Strict"), ("b", "DISABLE")])], &["+b DISABLE"]);
    assert_eq!(wrong(&merge).len(), 1);
    check(&mut merge, CLUSTER, [delete("a")], &["-a"]);
    assert_eq!(wrong(&merge), [""; 0]);
}

#[test]
fn a_resync_is_all_of_one_kind_of_one_source() {
    let mut merge = merge();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let namespace = Update::Upsert(entry(&namespace));
    let changes = ["+Namespace/shop", "+a STRICT", "+b STRICT"];
    check(&mut merge, CLUSTER, [namespace, upsert("a", "STRICT"), upsert("b", "STRICT")], &changes);
    check(&mut merge, DIRECTORY, [file("c.yaml", &policy("c", "STRICT"))], &["+c STRICT"]);
    let changes = ["-a", "+b DISABLE", "+d STRICT"];
    check(&mut merge, CLUSTER, [resync(&[("d", "STRICT"), ("b", "DISABLE")])], &changes);
    check(&mut merge, CLUSTER, [resync(&[])], &["-b", "-d"]);
}

#[test]
fn the_source_registered_first_wins_a_conflict() {
    let mut merge = merge();
    check(&mut merge, CLUSTER, [upsert("a", "DISABLE")], &["+a DISABLE"]);
    check(&mut merge, DIRECTORY, [file("a.yaml", &policy("a", "STRICT"))], &["+a STRICT"]);
    let conflict = "PeerAuthentication/shop/a: is ignored here (the cluster): the object also stands, otherwise, at \
                    a.yaml:2 in directory manifests; keep one of them";
    assert_eq!(wrong(&merge), [conflict]);
    // The same twice is harmless, and so is the end of the one that did not count.
    check(&mut merge, CLUSTER, [upsert("a", "STRICT")], &[]);
    assert_eq!(wrong(&merge), [""; 0]);
    check(&mut merge, CLUSTER, [delete("a")], &[]);
    check(&mut merge, CLUSTER, [resync(&[("a", "DISABLE")])], &[]);
    assert_eq!(wrong(&merge), [conflict]);
    // The second takes over when the first goes.
    check(&mut merge, DIRECTORY, [gone("a.yaml")], &["+a DISABLE"]);
    assert_eq!(wrong(&merge), [""; 0]);
    check(&mut merge, "directory of an unknown rank", [file("x.yaml", &policy("a", "PERMISSIVE"))], &[]);
    let message =
        "(x.yaml:2 in directory of an unknown rank): the object also stands, otherwise, at the cluster;";
    assert!(wrong(&merge)[0].contains(message), "{:?}", wrong(&merge));
}

#[test]
fn what_is_refused_claims_nothing_in_other_sources() {
    let mut merge = merge();
    check(&mut merge, DIRECTORY, [file("a.yaml", &policy("a", "strict"))], &[]);
    check(&mut merge, CLUSTER, [upsert("a", "STRICT")], &["+a STRICT"]);
    check(&mut merge, CLUSTER, [delete("a")], &["-a"]);
    assert_eq!(wrong(&merge).len(), 1);
    assert!(!wrong(&merge)[0].ends_with(STAYS));
}

#[test]
fn what_is_stated_again_changes_nothing() {
    let mut merge = merge();
    let warned = policy("a", "STRICT}, selecter: {") + &policy("b", "strict");
    let updates = [
        (DIRECTORY, file("a.yaml", &warned)),
        (CLUSTER, resync(&[("c", "STRICT"), ("d", "strict"), ("a", "DISABLE")])),
    ];
    let batch = |(source, update): &(&str, Update)| Batch {
        source: SourceId::new(*source),
        updates: vec![update.clone()],
    };
    assert!(updates.iter().all(|update| !merge.apply(batch(update)).is_empty()));
    let before = merge.diagnostics().clone();
    assert!(before.len() >= 3, "{before:?}");
    assert!(updates.iter().all(|update| merge.apply(batch(update)).is_empty()));
    assert!(Arc::ptr_eq(&before, merge.diagnostics()), "the list is made anew only if it differs");
}

#[test]
fn an_update_replaces_only_its_own_diagnostics() {
    let mut merge = merge();
    let batch = |updates: Vec<Update>| Batch { source: SourceId::new(CLUSTER), updates };
    merge.apply(batch(vec![upsert("a", "strict"), upsert("b", "strict")]));
    let effect = merge.apply(batch(vec![upsert("b", "STRICT"), upsert("c", "strict")]));
    let objects = |list: &[Diagnostic]| list.iter().map(|one| one.object.clone()).collect::<Vec<_>>();
    assert_eq!(objects(&effect.found), ["PeerAuthentication/shop/c"]);
    assert_eq!(objects(&effect.solved), ["PeerAuthentication/shop/b"]);
    assert_eq!(objects(merge.diagnostics()), ["PeerAuthentication/shop/a", "PeerAuthentication/shop/c"]);
    let problem = Diagnostic { object: "watch".to_owned(), ..effect.found[0].clone() };
    let effect = merge.apply(batch(vec![Update::Problems(vec![problem.clone()])]));
    assert_eq!(effect, Effect { found: vec![problem.clone()], ..Effect::default() });
    let effect = merge.apply(batch(vec![Update::Problems(Vec::new())]));
    assert_eq!(effect, Effect { solved: vec![problem], ..Effect::default() });
}

/// Were each update to walk over all objects, this would take minutes.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test measures time")]
fn an_update_costs_what_it_names() {
    const OBJECTS: usize = 20_000;
    let start = std::time::Instant::now();
    let (mut merge, names) = (merge(), (0..OBJECTS).map(|i| format!("n{i}")));
    let first = object("a", "STRICT");
    let Some(Object::PeerAuthentication(first)) = &first.object else { panic!("{first:?}") };
    let named = |name: String, refused: bool| {
        let mut policy = (**first).clone();
        policy.meta.object.name = name.into();
        policy.mode = None;
        let reference = policy.meta.object.clone();
        let object = Some(Object::PeerAuthentication(Arc::new(policy))).filter(|_| !refused);
        Entry { reference, object, refused, stand_in: None, diagnostics: Vec::new() }
    };
    let entries: Vec<_> = names.map(|name| named(name, false)).collect();
    let batch = |update| Batch { source: SourceId::new(CLUSTER), updates: vec![update] };
    let all = batch(Update::Resync { kind: Kind::PeerAuthentication, entries: entries.clone() });
    assert_eq!(merge.apply(all).changes.len(), OBJECTS);
    for entry in entries {
        let name = entry.reference.name.to_string();
        assert!(merge.apply(batch(Update::Upsert(entry.clone()))).is_empty());
        assert!(merge.apply(batch(Update::Upsert(named(name, true)))).is_empty());
        assert_eq!(merge.apply(batch(Update::Delete(entry.reference))).changes.len(), 1);
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
