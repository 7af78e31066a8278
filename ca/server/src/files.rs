//! Files that are whole or not there, and that only we may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Mode of files that hold a secret.
pub(crate) const SECRET: u32 = 0o600;
/// Mode of files for everybody.
pub(crate) const PUBLIC: u32 = 0o644;

/// Replaces or creates `path`: a reader, or a crash, meets the old content or the new one.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = Temporary::write(path, content, mode)?;
    fs::rename(&temporary.0, path)?;
    sync_parent(path)
}

/// Creates `path` as a whole, unless it is there already; says whether it was created.
pub(crate) fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    let temporary = Temporary::write(path, content, mode)?;
    match fs::hard_link(&temporary.0, path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes `path`, and makes that last.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_parent(path)
}

/// The permission bits of `path`.
pub(crate) fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

/// A file beside its target, removed when it is no longer needed.
struct Temporary(PathBuf);

impl Temporary {
    fn write(target: &Path, content: &[u8], mode: u32) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        let path = target.with_file_name(name);
        // Left behind by a process of the same number that crashed, perhaps in another PID namespace.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        let temporary = Self(path);
        file.write_all(content)?;
        file.sync_all()?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // renamed already, or of no use to anybody
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_private_and_first_come_first_served() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(create(&path, b"one", SECRET).unwrap());
        assert!(!create(&path, b"two", SECRET).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three", SECRET).unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path).unwrap()), (b"three".to_vec(), SECRET));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
