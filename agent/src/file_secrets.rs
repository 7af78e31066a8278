//! Certificates in files of the pod that policies name (POLICY.md O5): `file-cert:CERTIFICATE~KEY`, `file-root:FILE`
//! and `file-root:system`, the names that Istio's agent uses as well.
//!
//! A file is read when it is first requested and whenever it changes. A file that cannot be used is logged once and not
//! served, so connections that need it fail. After a file was read once, its last good content stays, until nobody requests
//! it any more. Rules name the files, and rules are written by others than the pod's owner: only regular files below the
//! allowed folders are opened, and read up to a limit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eastwest_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, TlsCertificate, secret::Type,
};
use eastwest_xds::EncodedResource;
use nix::libc::O_NONBLOCK;
use rustls::{Error, InconsistentKeys, crypto::ring::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::secret::{inline, secret};

/// How often files are checked for changes.
pub(crate) const POLL: Duration = Duration::from_secs(1);
/// Most names that are served; policies name a few.
const MAX_NAMES: usize = 256;
/// The largest file that is read, in bytes. A bundle of all public roots has a quarter of that.
const MAX_FILE: u64 = 1 << 20;
const PAIR: &str = "file-cert:";
const ROOTS: &str = "file-root:";
const SYSTEM: &str = "system";
/// Files of system roots: Debian and Alpine, Fedora, openSUSE, BSD.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whether the secret is a file.
pub(crate) fn is_file(name: &str) -> bool {
    name.starts_with(PAIR) || name.starts_with(ROOTS)
}

/// The requested files.
#[derive(Debug)]
pub(crate) struct FileSecrets {
    /// Folders below which files may be read.
    allowed: Vec<PathBuf>,
    held: BTreeMap<String, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    /// What the files looked like when they were read; `None` for one that was not there.
    seen: Option<Vec<Option<Signature>>>,
    resource: Option<Arc<EncodedResource>>,
    /// The problem that was logged last.
    failure: Option<String>,
}

/// What changes when the file changes; for a mounted Secret, the inode behind its symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl FileSecrets {
    /// Serves files below these folders once they are requested.
    pub(crate) fn new(allowed: Vec<PathBuf>) -> Self {
        Self { allowed, held: BTreeMap::new() }
    }

    /// Keeps the files that are requested, and forgets the others; names of other secrets are ignored.
    pub(crate) fn want(&mut self, names: &BTreeSet<String>) {
        self.held.retain(|name, _| names.contains(name));
        for name in names.iter().filter(|name| is_file(name)) {
            if self.held.contains_key(name) {
                continue;
            }
            if self.held.len() == MAX_NAMES {
                tracing::warn!("{name:?} is not served: more than {MAX_NAMES} files are asked for");
                return;
            }
            self.held.insert(name.clone(), Entry::default());
        }
    }

    /// Whether no file was requested.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Reads the files that changed. Returns all that can be served.
    pub(crate) fn resources(&mut self) -> Vec<Arc<EncodedResource>> {
        for (name, entry) in &mut self.held {
            entry.look(name, &self.allowed);
        }
        self.held.values().filter_map(|entry| entry.resource.clone()).collect()
    }
}

impl Entry {
    fn look(&mut self, name: &str, allowed: &[PathBuf]) {
        let paths = paths(name);
        let seen: Vec<_> = paths.iter().map(|path| signature(path)).collect();
        if self.seen.as_ref() == Some(&seen) {
            return;
        }
        self.seen = Some(seen);
        match read(name, &paths, allowed) {
            Ok(content) => {
                if self.resource.is_some() || self.failure.is_some() {
                    tracing::info!(secret = name, "read anew");
                }
                (self.resource, self.failure) = (Some(secret(name, content)), None);
            }
            Err(failure) => {
                let effect = match self.resource {
                    Some(_) => "the content read last stays in use",
                    None => "connections that need it fail",
                };
                if self.failure.as_ref() != Some(&failure) {
                    tracing::warn!(secret = name, "{failure}; {effect}");
                }
                self.failure = Some(failure);
            }
        }
    }
}

/// The files behind a name.
fn paths(name: &str) -> Vec<PathBuf> {
    match (name.strip_prefix(PAIR), name.strip_prefix(ROOTS)) {
        (Some(pair), _) => pair.splitn(2, '~').map(PathBuf::from).collect(),
        (_, Some(SYSTEM)) => {
            let found = SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.is_file());
            vec![found.unwrap_or_else(|| SYSTEM_ROOTS[0].into())]
        }
        (_, root) => root.map(PathBuf::from).into_iter().collect(),
    }
}

fn signature(path: &Path) -> Option<Signature> {
    let found = fs::metadata(path).ok()?;
    let modified = (found.mtime(), found.mtime_nsec());
    Some(Signature { inode: found.ino(), length: found.len(), modified })
}

fn read(name: &str, paths: &[PathBuf], allowed: &[PathBuf]) -> Result<Type, String> {
    let allowed = if name == format!("{ROOTS}{SYSTEM}") { &[] } else { allowed };
    match (name.starts_with(PAIR), paths) {
        (true, [certificate, key]) => pair(certificate, key, allowed),
        (false, [roots]) => {
            let pem = text(roots, allowed)?;
            certificates(roots, &pem)?;
            Ok(Type::ValidationContext(CertificateValidationContext {
                trusted_ca: inline(&pem),
                ..Default::default()
            }))
        }
        _ => Err(format!("{name:?} names no files: {PAIR}CERTIFICATE~KEY or {ROOTS}FILE is expected")),
    }
}

fn pair(certificate: &Path, key: &Path, allowed: &[PathBuf]) -> Result<Type, String> {
    let (chain_pem, key_pem) = (text(certificate, allowed)?, text(key, allowed)?);
    let chain = certificates(certificate, &chain_pem)?;
    let der = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|_| format!("{} holds no private key in PEM", key.display()))?;
    // Envoy may support kinds of keys that are not supported here.
    let same = any_supported_type(&der).map(|signer| CertifiedKey::new(chain, signer).keys_match());
    if let Ok(Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch))) = same {
        return Err(format!("the key in {} does not belong to {}", key.display(), certificate.display()));
    }
    Ok(Type::TlsCertificate(TlsCertificate {
        certificate_chain: inline(&chain_pem),
        private_key: inline(&key_pem),
        ..Default::default()
    }))
}

fn certificates(path: &Path, pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| format!("{} holds no certificate in PEM", path.display()))
}

/// The text of a file, if its real path is below an allowed folder.
fn text(path: &Path, allowed: &[PathBuf]) -> Result<Zeroizing<String>, String> {
    let unreadable = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let real = path.canonicalize().map_err(unreadable)?;
    let below = |folder: &PathBuf| folder.canonicalize().is_ok_and(|folder| real.starts_with(folder));
    if !allowed.is_empty() && !allowed.iter().any(below) {
        let allowed: Vec<_> = allowed.iter().map(|folder| folder.display().to_string()).collect();
        return Err(format!(
            "{} is outside of --certificate-dir ({}): move it there, or give the agent its folder as well",
            path.display(),
            allowed.join(", ")
        ));
    }
    read_regular(&real).map_err(unreadable)
}

/// The text of a regular file. Another one is not even opened, as far as can be seen: to open a device or a pipe may do
/// something, or wait.
fn read_regular(path: &Path) -> io::Result<Zeroizing<String>> {
    let refused = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let check = |found: &fs::Metadata| match found.is_file() {
        false => Err(refused("it is no regular file".to_owned())),
        true if found.len() > MAX_FILE => {
            Err(refused(format!("it has {} bytes, and the limit is {MAX_FILE}", found.len())))
        }
        true => Ok(()),
    };
    check(&fs::symlink_metadata(path)?)?;
    // It may be another file by now.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    check(&file.metadata()?)?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
