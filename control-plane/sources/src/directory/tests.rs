use eastwest_manifest::merge::{Batch, Merge, SourceId};
use eastwest_model::{Change, Object, TrustDomain};

use super::*;

/// A directory, and what its updates come to.
struct Merged {
    directory: Directory,
    merge: Merge,
}

fn directory() -> Merged {
    let defaults = MeshConfig::new(TrustDomain::parse("cluster.local").unwrap(), "istio-system");
    Merged { directory: Directory::new(defaults), merge: Merge::default() }
}

impl Merged {
    fn update(&mut self, look: Look) -> Vec<Change> {
        let updates = self.directory.update(look);
        self.merge.apply(Batch { source: SourceId::new("directory"), updates }).changes
    }

    fn diagnostics(&self) -> &[Diagnostic] {
        self.merge.diagnostics()
    }
}

/// A PeerAuthentication `shop/NAME`.
fn policy(name: &str, mode: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: {name}, namespace: shop}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

fn look<'a>(files: impl IntoIterator<Item = (&'a str, Reading)>) -> Look {
    let files = files.into_iter().map(|(name, reading)| (name.into(), reading)).collect();
    Look { files, ..Look::default() }
}

fn text(text: impl Into<String>) -> Reading {
    Reading::Text(text.into())
}

/// `+name MODE` and `-name` for the changes.
fn show(changes: &[Change]) -> Vec<String> {
    let show = |change: &Change| match change {
        Change::Upsert(Object::PeerAuthentication(policy)) => {
            let mode = policy.mode.map_or("UNSET".to_owned(), |mode| mode.to_string());
            format!("+{} {mode}", policy.meta.name())
        }
        Change::Upsert(object) => format!("+{}", object.reference()),
        Change::Delete(reference) => format!("-{}", reference.name),
    };
    changes.iter().map(show).collect()
}

/// The errors and warnings as `object: message`.
fn wrong(directory: &Merged) -> Vec<String> {
    directory.diagnostics().iter().map(|d| format!("{}: {}", d.object, d.message)).collect()
}

#[test]
fn only_changes_are_sent() {
    let mut directory = directory();
    let two = policy("a", "STRICT") + &policy("b", "STRICT");
    assert_eq!(show(&directory.update(look([("x.yaml", text(&*two))]))), ["+a STRICT", "+b STRICT"]);
    assert_eq!(directory.update(look([("x.yaml", Reading::AsBefore)])), []);
    assert_eq!(directory.update(look([("x.yaml", text(two))])), []);
    let changed = policy("a", "STRICT") + &policy("c", "DISABLE");
    assert_eq!(show(&directory.update(look([("x.yaml", text(changed))]))), ["-b", "+c DISABLE"]);
    assert_eq!(show(&directory.update(look([]))), ["-a", "-c"]);
}

#[test]
fn a_document_that_does_not_parse_keeps_its_object_and_holds_no_other_back() {
    let mut directory = directory();
    let good = policy("a", "STRICT") + &policy("b", "STRICT");
    directory.update(look([("x.yaml", text(&*good)), ("y.yaml", text(policy("c", "STRICT")))]));
    let broken = policy("a", "DISABLE") + &policy("b", "[");
    let changes =
        directory.update(look([("x.yaml", text(broken)), ("y.yaml", text(policy("c", "DISABLE")))]));
    assert_eq!(show(&changes), ["+a DISABLE", "+c DISABLE"]);
    let wrong_now = wrong(&directory);
    assert_eq!(wrong_now.len(), 1);
    assert!(wrong_now[0].starts_with("x.yaml: this is not valid YAML"), "{wrong_now:?}");
    let stays = "; what was good before stays in force: PeerAuthentication/shop/b";
    assert!(wrong_now[0].ends_with(stays), "{wrong_now:?}");
    let changes = directory.update(look([("x.yaml", text(good)), ("y.yaml", Reading::AsBefore)]));
    assert_eq!(show(&changes), ["+a STRICT"]);
    assert_eq!(wrong(&directory), [""; 0]);
}

#[test]
fn what_can_be_read_of_a_file_broken_from_the_start_is_taken() {
    let mut directory = directory();
    let broken = policy("a", "STRICT") + "---\nkind: [\n" + &policy("b", "STRICT");
    assert_eq!(show(&directory.update(look([("x.yaml", text(broken))]))), ["+a STRICT", "+b STRICT"]);
    assert!(!wrong(&directory)[0].contains("stays in force"));
}

#[test]
fn a_refused_object_keeps_its_own_last_good_version() {
    let mut directory = directory();
    directory.update(look([("x.yaml", text(policy("a", "STRICT") + &policy("b", "STRICT")))]));
    let one_bad = policy("a", "strict") + &policy("b", "DISABLE");
    assert_eq!(show(&directory.update(look([("x.yaml", text(one_bad))]))), ["+b DISABLE"]);
    assert!(wrong(&directory)[0].starts_with("PeerAuthentication/shop/a: \"strict\" is not among the modes"));
    assert!(wrong(&directory)[0].ends_with("; what was good before stays in force"));
    // `b` is told again because its line is another.
    assert_eq!(
        show(&directory.update(look([("x.yaml", text(policy("b", "DISABLE")))]))),
        ["-a", "+b DISABLE"]
    );
    let never_good = policy("b", "DISABLE") + &policy("c", "strict");
    assert_eq!(directory.update(look([("x.yaml", text(never_good))])), []);
    assert!(!wrong(&directory)[0].contains("stays in force"));
}

#[test]
fn an_unreadable_file_keeps_its_content_and_a_closed_folder_its_files() {
    let mut directory = directory();
    let files = ["a", "sub/b", "subject"].map(|name| (name, text(policy(&name.replace('/', "-"), "STRICT"))));
    assert_eq!(directory.update(look(files)).len(), 3);
    let unreadable = Reading::Unreadable("Permission denied".to_owned());
    let mut closed = look([("a", unreadable)]);
    closed.closed.insert("sub".into(), "Permission denied".to_owned());
    assert_eq!(show(&directory.update(closed)), ["-subject"]);
    assert_eq!(
        wrong(&directory),
        [
            "a: cannot be read: Permission denied; what was good before stays in force",
            "sub: cannot be read: Permission denied"
        ]
    );
    let mut vanished = look([]);
    vanished.closed.insert("".into(), "No such file or directory".to_owned());
    assert_eq!(directory.update(vanished), []);
    assert_eq!(
        wrong(&directory),
        [
            ".: cannot be read: No such file or directory",
            "a: cannot be read: Permission denied; what was good before stays in force"
        ]
    );
    assert_eq!(show(&directory.update(look([]))), ["-a", "-sub-b"]);
    assert_eq!(wrong(&directory), [""; 0]);
}

#[test]
fn of_two_places_the_first_by_path_wins() {
    let mut directory = directory();
    let changes = directory.update(look([
        ("b.yaml", text(policy("a", "DISABLE"))),
        ("a.yaml", text(policy("x", "STRICT") + &policy("a", "STRICT"))),
    ]));
    assert_eq!(show(&changes), ["+a STRICT", "+x STRICT"]);
    assert_eq!(
        wrong(&directory),
        [
            "PeerAuthentication/shop/a: is ignored here (b.yaml:2): the object also stands, otherwise, at a.yaml:7; keep one of them"
        ]
    );
    // The second takes over when the first goes.
    assert_eq!(show(&directory.update(look([("b.yaml", Reading::AsBefore)]))), ["-x", "+a DISABLE"]);
    assert_eq!(wrong(&directory), [""; 0]);
    let twice = policy("a", "STRICT") + &policy("a", "DISABLE");
    assert_eq!(show(&directory.update(look([("b.yaml", text(twice))]))), ["+a STRICT"]);
    assert!(wrong(&directory)[0].contains("b.yaml:7"), "{:?}", wrong(&directory));
}

#[test]
fn saying_the_same_twice_is_harmless() {
    let mut directory = directory();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let changes =
        directory.update(look([("a.yaml", text(namespace)), ("b.yaml", text(format!("\n{namespace}")))]));
    assert_eq!(show(&changes), ["+Namespace/shop"]);
    assert_eq!(wrong(&directory), [""; 0]);
}

#[test]
fn a_file_that_reads_as_before_is_no_update() {
    let mut directory = directory().directory;
    let broken = policy("a", "STRICT") + "---\nkind: [\n";
    let again = || {
        let unreadable = Reading::Unreadable("Permission denied".to_owned());
        look([("a.yaml", text(policy("a", "strict"))), ("b.yaml", text(&*broken)), ("c.yaml", unreadable)])
    };
    assert_eq!(directory.update(again()).len(), 3);
    assert_eq!(directory.update(again()), []);
}
