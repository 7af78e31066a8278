//! Where a CA is plugged in. A directory is read until two reads agree: files may be written one after the other, and a
//! mounted Secret is replaced as a whole through a symbolic link. A Secret of the Kubernetes API always is one whole.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use eastwest_ca::plugged::{self, PluggedFiles};
use zeroize::Zeroizing;

use crate::trust::{root_status::Source, state_error::Place};

/// Larger files are no certificates.
const MAX_FILE: u64 = 1 << 20;

/// What a look found.
pub(super) enum Look {
    /// The same as was taken last.
    Unchanged,
    /// Something that was not there a moment ago; look again soon.
    Settling,
    /// Something new that two looks agreed on.
    Changed(PluggedFiles),
}

/// A Secret in which a CA lies or may appear.
pub trait PluggedSecret: fmt::Debug + Send + Sync {
    /// `NAMESPACE/NAME`.
    fn name(&self) -> &str;

    /// Its files; none if there is no such Secret.
    ///
    /// # Errors
    /// It is not known whether there is one.
    fn files(&self) -> io::Result<PluggedFiles>;
}

/// Where a CA lies that is plugged in, or may appear.
#[derive(Debug, Clone)]
pub enum PluggedSource {
    /// A directory.
    Directory(PathBuf),
    /// A Secret of the Kubernetes API.
    Secret(Arc<dyn PluggedSecret>),
}

impl PluggedSource {
    /// Where it is, for messages.
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Directory(path) => path.clone().into(),
            Self::Secret(secret) => Place::Secret(secret.name().to_owned()),
        }
    }

    /// The source of a signer that lies there.
    pub(super) fn source(&self) -> Source {
        match self {
            Self::Directory(path) => Source::PluggedIn(path.clone()),
            Self::Secret(secret) => Source::PluggedInSecret(secret.name().to_owned()),
        }
    }

    /// The folder that must be watched.
    pub(super) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Secret(_) => None,
        }
    }

    fn read(&self) -> io::Result<PluggedFiles> {
        match self {
            Self::Directory(path) => read(path),
            Self::Secret(secret) => secret.files(),
        }
    }
}

/// A source of a CA, and what was read from it.
pub(super) struct PluggedIn {
    source: PluggedSource,
    taken: PluggedFiles,
    last: Option<PluggedFiles>,
}

impl PluggedIn {
    pub(super) fn new(source: PluggedSource) -> Self {
        Self { source, taken: PluggedFiles::default(), last: None }
    }

    pub(super) fn source(&self) -> &PluggedSource {
        &self.source
    }

    /// What was taken last.
    pub(super) fn taken(&self) -> &PluggedFiles {
        &self.taken
    }

    /// Takes what is there now.
    pub(super) fn take(&mut self) -> io::Result<&PluggedFiles> {
        self.taken = self.source.read()?;
        Ok(&self.taken)
    }

    pub(super) fn look(&mut self) -> io::Result<Look> {
        let found = self.source.read()?;
        if found == self.taken {
            self.last = None;
            return Ok(Look::Unchanged);
        }
        let whole = matches!(self.source, PluggedSource::Secret(_));
        if whole || self.last.as_ref() == Some(&found) {
            self.last = None;
            self.taken = found.clone();
            return Ok(Look::Changed(found));
        }
        self.last = Some(found);
        Ok(Look::Settling)
    }
}

/// The files of a CA in `dir`; none if there is no such directory.
fn read(dir: &Path) -> io::Result<PluggedFiles> {
    let content = |name: &'static str| {
        let path = dir.join(name);
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        match fs::metadata(&path) {
            Err(error) if absent(&error) => None,
            Err(error) => Some(Err(told(error))),
            Ok(metadata) if metadata.len() > MAX_FILE => {
                Some(Err(told(io::Error::other("larger than a mebibyte, so no certificate"))))
            }
            Ok(_) => match fs::read(&path) {
                Err(error) if absent(&error) => None,
                content => Some(content.map_err(told).map(|content| (name, Zeroizing::new(content)))),
            },
        }
    };
    plugged::FILES.into_iter().filter_map(content).collect()
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn of_dir(path: PathBuf) -> PluggedIn {
        PluggedIn::new(PluggedSource::Directory(path))
    }

    fn changed(look: io::Result<Look>) -> bool {
        matches!(look.unwrap(), Look::Changed(_))
    }

    #[test]
    fn two_looks_must_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent");
        let mut plugged = of_dir(path.clone());
        assert!(plugged.take().unwrap().is_empty());
        assert!(matches!(plugged.look().unwrap(), Look::Unchanged));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("ca-cert.pem"), "1").unwrap();
        assert!(matches!(plugged.look().unwrap(), Look::Settling));
        fs::write(path.join("ca-key.pem"), "1").unwrap();
        assert!(matches!(plugged.look().unwrap(), Look::Settling), "it is still being written");
        assert!(changed(plugged.look()));
        assert!(matches!(plugged.look().unwrap(), Look::Unchanged));
        fs::write(path.join("notes.txt"), "1").unwrap();
        assert!(matches!(plugged.look().unwrap(), Look::Unchanged), "other files are nobody's");
        fs::remove_dir_all(&path).unwrap();
        assert!(matches!(plugged.look().unwrap(), Look::Settling));
        assert!(changed(plugged.look()));
        assert!(plugged.taken().is_empty());
    }

    /// As a kubelet mounts a Secret: every file is a link through `..data`, which is exchanged.
    #[test]
    fn a_mounted_secret_is_followed_through_its_links() {
        let dir = tempfile::tempdir().unwrap();
        for (version, text) in [("..v1", "one"), ("..v2", "two")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("tls.crt"), text).unwrap();
        }
        symlink("..v1", dir.path().join("..data")).unwrap();
        symlink("..data/tls.crt", dir.path().join("tls.crt")).unwrap();
        let mut plugged = of_dir(dir.path().to_owned());
        let one = plugged.take().unwrap().clone();
        symlink("..v2", dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert!(!changed(plugged.look()) && changed(plugged.look()));
        assert!(*plugged.taken() != one);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ca-key.pem")).unwrap();
        let told = of_dir(dir.path().to_owned()).take().map(|_| ()).unwrap_err().to_string();
        assert!(told.contains("ca-key.pem"), "{told}");
    }
}
