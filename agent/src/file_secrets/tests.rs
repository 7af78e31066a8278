use std::os::unix::fs::symlink;

use eastwest_proto::{
    Message,
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::Secret,
    },
};

use super::*;

/// A certificate and its key, PEM.
fn pair_of(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn content(source: Option<DataSource>) -> String {
    match source.unwrap().specifier {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        _ => panic!("not inline"),
    }
}

/// What is served: certificate and key, or roots, by name.
fn served(secrets: &mut FileSecrets) -> BTreeMap<String, Vec<String>> {
    let decoded = secrets.resources().into_iter().map(|one| Secret::decode(one.body()).unwrap());
    decoded
        .map(|secret| {
            let texts = match secret.r#type.unwrap() {
                Type::TlsCertificate(pair) => {
                    vec![content(pair.certificate_chain), content(pair.private_key)]
                }
                Type::ValidationContext(context) => vec![content(context.trusted_ca)],
                _ => panic!("neither"),
            };
            (secret.name, texts)
        })
        .collect()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Replaced in one step, so that it is another file.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path("draft"), text).unwrap();
        fs::rename(self.path("draft"), self.path(name)).unwrap();
    }

    fn names(&self) -> (String, String) {
        let path = |name| self.path(name).display().to_string();
        (
            format!("file-cert:{}~{}", path("cert.pem"), path("key.pem")),
            format!("file-root:{}", path("ca.pem")),
        )
    }
}

fn folder() -> Folder {
    Folder(tempfile::tempdir().unwrap())
}

#[test]
fn files_are_served_as_soon_as_they_are_there_and_again_when_they_change() {
    let folder = folder();
    let (pair, roots) = folder.names();
    let mut secrets = FileSecrets::new(vec!["/".into()]);
    secrets.want(&BTreeSet::from([pair.clone(), roots.clone(), "default".to_owned()]));
    assert_eq!(served(&mut secrets), BTreeMap::new(), "what is missing is not served, nor what is no file");

    let (certificate, key) = pair_of("one");
    folder.write("ca.pem", &certificate);
    assert_eq!(served(&mut secrets), BTreeMap::from([(roots.clone(), vec![certificate.clone()])]));
    folder.write("cert.pem", &certificate);
    folder.write("key.pem", &key);
    assert_eq!(served(&mut secrets)[&pair], [certificate.clone(), key.clone()]);

    let (next, next_key) = pair_of("two");
    folder.write("cert.pem", &next);
    assert_eq!(served(&mut secrets)[&pair], [certificate, key], "half a renewal is none");
    folder.write("key.pem", &next_key);
    assert_eq!(served(&mut secrets)[&pair], [next.clone(), next_key.clone()]);
    for broken in ["", "text", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        folder.write("cert.pem", broken);
        assert_eq!(served(&mut secrets)[&pair], [next.clone(), next_key.clone()], "the last good one stays");
    }
    fs::remove_file(folder.path("ca.pem")).unwrap();
    assert!(served(&mut secrets).contains_key(&roots));
}

#[test]
fn only_files_below_the_allowed_folders_are_read_wherever_links_lead() {
    let (inside, outside) = (folder(), folder());
    let (certificate, _) = pair_of("one");
    for folder in [&inside, &outside] {
        folder.write("ca.pem", &certificate);
    }
    symlink(outside.path("ca.pem"), inside.path("link.pem")).unwrap();
    symlink(inside.path("ca.pem"), inside.path("mounted.pem")).unwrap();
    let name = |path: PathBuf| format!("file-root:{}", path.display());
    let allowed = [name(inside.path("ca.pem")), name(inside.path("mounted.pem"))];
    let refused = [
        name(inside.path("link.pem")),
        name(outside.path("ca.pem")),
        name(inside.path("../").join(outside.0.path().file_name().unwrap()).join("ca.pem")),
        "file-root:".to_owned(),
        "file-cert:/only-one".to_owned(),
    ];
    let mut secrets = FileSecrets::new(vec![inside.0.path().to_owned()]);
    secrets.want(&allowed.iter().chain(&refused).cloned().collect());
    assert_eq!(served(&mut secrets).into_keys().collect::<BTreeSet<_>>(), BTreeSet::from(allowed));
}

#[test]
fn the_systems_roots_need_no_permission() {
    let mut secrets = FileSecrets::new(vec!["/nowhere".into()]);
    secrets.want(&BTreeSet::from(["file-root:system".to_owned()]));
    let there = SYSTEM_ROOTS.iter().any(|path| Path::new(path).is_file());
    assert_eq!(served(&mut secrets).len(), usize::from(there));
}

/// A rule may name anything: a pipe that nobody writes to, devices, a file without an end.
#[test]
fn only_regular_files_up_to_a_limit_are_read_and_they_are_forgotten_with_the_rule() {
    let folder = folder();
    let (certificate, _) = pair_of("one");
    folder.write("ca.pem", &certificate);
    assert!(std::process::Command::new("mkfifo").arg(folder.path("pipe")).status().unwrap().success());
    let large = fs::File::create(folder.path("large")).unwrap();
    large.set_len(MAX_FILE + 1).unwrap();
    let name = |path: &Path| format!("file-root:{}", path.display());
    let good = name(&folder.path("ca.pem"));
    let bad = [folder.path("pipe"), folder.path("large"), folder.0.path().to_owned()];
    let devices = ["/dev/zero", "/dev/ptmx", "/dev/stdin", "/proc/self/environ"].map(PathBuf::from);
    let mut wanted: BTreeSet<_> = bad.iter().chain(&devices).map(|path| name(path)).collect();
    wanted.insert(good.clone());
    let mut secrets = FileSecrets::new(vec!["/".into()]);
    secrets.want(&wanted);
    assert_eq!(served(&mut secrets), BTreeMap::from([(good.clone(), vec![certificate])]));
    secrets.want(&BTreeSet::new());
    assert!(served(&mut secrets).is_empty() && secrets.is_empty());
}
