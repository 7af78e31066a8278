//! Replacing, creating and removing files so that a reader or a crash finds the old content or the new one, never a
//! part.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Mode of files that hold a secret.
pub const SECRET: u32 = 0o600;
/// Mode of files that every user may read.
pub const PUBLIC: u32 = 0o644;

/// Replaces or creates `path`: writes a temporary file beside it, syncs it, renames it, and syncs the parent folder.
///
/// # Errors
/// Those of the file system; the old content is then still in place, except if only the last step failed.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = Temporary::write(path, content, mode)?;
    fs::rename(&temporary.0, path)?;
    sync_parent(path)
}

/// Creates `path` with its whole content, unless it exists. Returns whether it was created.
///
/// # Errors
/// Those of the file system.
pub fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    let temporary = Temporary::write(path, content, mode)?;
    match fs::hard_link(&temporary.0, path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes `path` and syncs the parent folder.
///
/// # Errors
/// Those of the file system, also if there is no such file.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_parent(path)
}

/// Creates the folder `path` and missing folders above it, with mode 0700. An existing folder stays as it is.
///
/// # Errors
/// Those of the file system.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What a folder must still have room for: a record or two.
const ROOM: u64 = 64 << 10;

/// Whether there is room for another record on the file system of `path`. One that does not tell has room.
pub fn has_room(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .map_or(true, |found| found.f_blocks == 0 || found.f_bavail.saturating_mul(found.f_frsize) >= ROOM)
}

/// Whether `path` lies in a file system that the kernel makes up, such as /proc or /sys: it has no end, and reading may act.
pub fn is_of_the_kernel(path: &Path) -> bool {
    // procfs, sysfs, debugfs, tracefs, cgroup, cgroup2, devpts (linux/magic.h)
    const KINDS: [u64; 7] = [0x9fa0, 0x6265_6572, 0x6462_6720, 0x7472_6163, 0x0027_e0eb, 0x6367_7270, 0x1cd1];
    rustix::fs::statfs(path)
        .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| KINDS.contains(&kind)))
}

/// Why a folder is no place for files that we trust: who else may replace them. `None` if nobody but root may.
///
/// # Errors
/// Those of the file system, also if there is no such folder.
pub fn writers_beside_us(path: &Path) -> io::Result<Option<String>> {
    let found = fs::metadata(path)?;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mode = found.permissions().mode() & 0o7777;
    Ok(if found.uid() != user && found.uid() != 0 {
        Some(format!("user {} owns it", found.uid()))
    } else if mode & 0o002 != 0 {
        Some(format!("every user may write to it (mode {mode:04o})"))
    } else if mode & 0o020 != 0 && found.gid() != group {
        Some(format!("group {} may write to it (mode {mode:04o})", found.gid()))
    } else {
        None
    })
}

/// The permission bits of `path`.
///
/// # Errors
/// Those of the file system, also if there is no such file.
pub fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

/// A file beside its target, removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn write(target: &Path, content: &[u8], mode: u32) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        let path = target.with_file_name(name);
        // Left by a crashed process with the same number, perhaps of another PID namespace. Its mode could differ.
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
        let _ = fs::remove_file(&self.0); // fails if it was renamed
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
    fn files_are_replaced_and_created_whole() {
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
