use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A clock well after everything that a test writes, so that files count as settled.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The files of a look as `name=text`, `name.` (as before) or `name!reason`.
fn show(look: &Look) -> Vec<String> {
    let show = |(name, reading): (&Name, &Reading)| match reading {
        Reading::AsBefore => format!("{name}."),
        Reading::Text(text) => format!("{name}={text}"),
        Reading::Unreadable(reason) => format!("{name}!{reason}"),
    };
    look.files.iter().map(show).collect()
}

#[test]
fn manifests_are_found_in_every_visible_folder() {
    let folder = folder(&[
        ("b.yaml", "1"),
        ("a/x.yml", "2"),
        ("a/deep/er/y.json", "3"),
        ("notes.txt", "4"),
        (".hidden.yaml", "5"),
        (".git/z.yaml", "6"),
        ("c.yaml~", "7"),
    ]);
    symlink(folder.path(), folder.path().join("a/loop")).unwrap();
    let mut scanner = Scanner::open(folder.path()).unwrap();
    assert_eq!(show(&scanner.look(later())), ["a/deep/er/y.json=3", "a/x.yml=2", "b.yaml=1"]);
    assert_eq!(show(&scanner.look(later())), ["a/deep/er/y.json.", "a/x.yml.", "b.yaml."]);
    assert_eq!(scanner.folders().len(), 4);
}

#[test]
fn replaced_rewritten_and_removed_files_are_noticed() {
    let folder = folder(&[("a.yaml", "old"), ("b.yaml", "old"), ("c.yaml", "old")]);
    let mut scanner = Scanner::open(folder.path()).unwrap();
    scanner.look(later());
    let time = fs::metadata(folder.path().join("a.yaml")).unwrap().modified().unwrap();
    // As long and as old as before: only the inode tells.
    fs::write(folder.path().join("new"), "new").unwrap();
    fs::File::options().write(true).open(folder.path().join("new")).unwrap().set_modified(time).unwrap();
    fs::rename(folder.path().join("new"), folder.path().join("a.yaml")).unwrap();
    fs::write(folder.path().join("b.yaml"), "newer").unwrap();
    fs::remove_file(folder.path().join("c.yaml")).unwrap();
    assert_eq!(show(&scanner.look(later())), ["a.yaml=new", "b.yaml=newer"]);
}

#[test]
fn a_file_just_written_is_read_again_and_ignored_if_empty() {
    let folder = folder(&[("a.yaml", "text"), ("b.yaml", "# head\n")]);
    let mut scanner = Scanner::open(folder.path()).unwrap();
    let now = fs::metadata(folder.path().join("b.yaml")).unwrap().modified().unwrap();
    assert_eq!(show(&scanner.look(now)), ["a.yaml=text", "b.yaml."]);
    assert!(scanner.is_unsettled());
    assert_eq!(show(&scanner.look(now)), ["a.yaml=text", "b.yaml."]);
    assert_eq!(show(&scanner.look(now + FRESH)), ["a.yaml=text", "b.yaml=# head\n"]);
    assert!(!scanner.is_unsettled());
    assert_eq!(show(&scanner.look(now + FRESH)), ["a.yaml.", "b.yaml."]);
}

#[test]
fn a_config_map_is_swapped_as_a_whole() {
    let folder =
        folder(&[("..1/a.yaml", "a1"), ("..1/b.yaml", "b1"), ("..2/a.yaml", "a2"), ("..2/b.yaml", "b2")]);
    let at = |name: &str| folder.path().join(name);
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    symlink("..data/b.yaml", at("b.yaml")).unwrap();
    let mut scanner = Scanner::open(folder.path()).unwrap();
    assert_eq!(show(&scanner.look(later())), ["a.yaml=a1", "b.yaml=b1"]);
    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    assert_eq!(show(&scanner.look(later())), ["a.yaml=a2", "b.yaml=b2"]);
    fs::remove_file(at("..2/b.yaml")).unwrap();
    assert_eq!(show(&scanner.look(later())), ["a.yaml.", "b.yaml!No such file or directory (os error 2)"]);
}

/// A swap during a look: all files are of before, or all of after.
#[test]
fn a_look_is_of_one_moment() {
    let names: Vec<String> = (0..40).map(|i| format!("{i:02}.yaml")).collect();
    let files =
        ["..0", "..1"].map(|version| names.iter().map(move |name| (format!("{version}/{name}"), version)));
    let files: Vec<_> = files.into_iter().flatten().collect();
    let folder = folder(&files.iter().map(|(name, text)| (name.as_str(), *text)).collect::<Vec<_>>());
    let at = |name: &str| folder.path().join(name);
    symlink("..0", at("..data")).unwrap();
    names.iter().for_each(|name| symlink(format!("..data/{name}"), at(name)).unwrap());
    let mut scanner = Scanner::open(folder.path()).unwrap();
    let mut seen: BTreeMap<Name, String> = BTreeMap::new();
    for swap in 0..200 {
        symlink(format!("..{}", swap % 2), at("..data_tmp")).unwrap();
        let look = std::thread::scope(|scope| {
            scope.spawn(|| fs::rename(at("..data_tmp"), at("..data")).unwrap());
            scanner.look(later())
        });
        for (name, reading) in look.files {
            if let Reading::Text(text) = reading {
                seen.insert(name, text);
            }
        }
        let versions: std::collections::BTreeSet<_> = seen.values().collect();
        assert_eq!((seen.len(), versions.len()), (names.len(), 1), "torn at swap {swap}");
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let folder = folder(&[("a.yaml", "x"), ("big.yaml", ""), ("sub/c.yaml", "x")]);
    fs::write(folder.path().join("bytes.yaml"), b"a: 1\nb: \xff\n").unwrap();
    fs::File::create(folder.path().join("big.yaml")).unwrap().set_len(MAX_SIZE + 1).unwrap();
    let mut scanner = Scanner::open(folder.path()).unwrap();
    assert_eq!(
        show(&scanner.look(later())),
        [
            "a.yaml=x",
            "big.yaml!it has more than 16 MiB: split it",
            "bytes.yaml!line 2 is not UTF-8: save the file as UTF-8",
            "sub/c.yaml=x",
        ]
    );
    fs::remove_dir_all(folder.path()).unwrap();
    let look = scanner.look(later());
    assert!(look.files.is_empty());
    assert_eq!(look.closed, [("".into(), "No such file or directory (os error 2)".to_owned())].into());
}

#[test]
fn a_single_file_is_a_directory_of_one() {
    let folder = folder(&[("a.manifest", "x")]);
    let mut scanner = Scanner::open(&folder.path().join("a.manifest")).unwrap();
    assert_eq!(show(&scanner.look(later())), ["a.manifest=x"]);
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let error = Scanner::open(Path::new("/no/such")).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot read /no/such: No such file or directory (os error 2); name a file or directory of manifests"
    );
}

/// Links of which each folder has two to the next: 2^40 paths to one file. And links out of the tree.
#[test]
fn a_folder_is_walked_through_once_and_the_kernels_are_not() {
    let folder = folder(&[("40/x.yaml", "1")]);
    let at = |name: &str| folder.path().join(name);
    for level in 0..40 {
        fs::create_dir_all(at(&level.to_string())).unwrap();
        for link in ["l", "r"] {
            symlink(at(&(level + 1).to_string()), at(&format!("{level}/{link}"))).unwrap();
        }
    }
    symlink("/proc", at("proc")).unwrap();
    symlink("/sys", at("sys")).unwrap();
    let look = Scanner::open(folder.path()).unwrap().look(later());
    let files: Vec<_> = look.files.keys().map(ToString::to_string).collect();
    assert_eq!(files, [format!("0/{}x.yaml", "l/".repeat(40))]);
    let kernels = look.left_out.iter().filter(|(_, reason)| reason.contains("of the kernel"));
    assert_eq!(kernels.map(|(name, _)| name.to_string()).collect::<Vec<_>>(), ["proc", "sys"]);
    assert!(look.closed.is_empty() && look.left_out.len() < 100, "{:?}", look.left_out);
}

/// What is deeper than anybody needs is told, and stays as it was.
#[test]
fn a_tree_has_bounds() {
    let deep = "d/".repeat(70);
    let folder = folder(&[("a.yaml", "1"), (&format!("{deep}x.yaml"), "2")]);
    let look = Scanner::open(folder.path()).unwrap().look(later());
    assert_eq!(show(&look), ["a.yaml=1"]);
    let (closed, reason) = look.closed.first_key_value().unwrap();
    assert!(closed.starts_with("d/d/") && reason.contains("more than 64 folders"), "{closed}: {reason}");
}
