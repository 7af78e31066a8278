//! Where a CA keeps its state: small files by name, in a directory or in something else that has such.

use std::{fmt, io, path::Path};

use eastwest_ca::TrustBundle;
use eastwest_ca::TrustedIssuer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::trust::{
    latest_expiry::LatestExpiry,
    root_status::Source,
    state_error::{Place, StateError},
};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// We alone.
    Private,
    /// Everybody on the machine, where there is such a difference.
    Public,
}

/// Named small files of a CA's state. Every file is read and written as a whole.
pub trait StateFiles: fmt::Debug + Send + Sync {
    /// Where a file is, for messages.
    fn place(&self, name: &str) -> Place;

    /// Where all of them are, for messages.
    fn all(&self) -> Place;

    /// Whether there is such a file.
    fn exists(&self, name: &str) -> bool;

    /// The content of a file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError>;

    /// That nobody else may read a file.
    ///
    /// # Errors
    /// Others may.
    fn check_private(&self, name: &str) -> Result<(), StateError>;

    /// Writes a file unless there is one; returns whether it did. Of several who do it at once, one does.
    ///
    /// # Errors
    /// It cannot be written.
    fn create(&self, name: &str, content: &[u8], access: Access) -> Result<bool, StateError>;

    /// Writes a file, in place of the one that may be there.
    ///
    /// # Errors
    /// It cannot be written; the old content stays.
    fn replace(&self, name: &str, content: &[u8], access: Access) -> Result<(), StateError>;

    /// Removes a file, if there is one.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(&self, name: &str) -> Result<(), StateError>;
}

/// Makes the new content of a file of its old one; `None`: it stays.
pub type Change<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// The purpose of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// The first root is made, unless there is one.
    FirstRoot,
    /// The rotation changes. One at a time.
    Rotation,
}

/// A place for the state of a CA.
pub trait CaStorage: StateFiles + 'static {
    /// The source of a signer that lies here.
    fn source(&self) -> Source;

    /// Runs `edit`, which changes several files. Where several processes share the storage, its changes come into force
    /// together or not at all, and `edit` is run again if another process was faster.
    ///
    /// # Errors
    /// That of `edit`, or the files cannot be written.
    fn edit(
        &self,
        purpose: Edit,
        edit: &mut dyn FnMut(&dyn StateFiles) -> Result<(), StateError>,
    ) -> Result<(), StateError>;

    /// Replaces a file by what `change` makes of its content, if it makes something; `None` stands for a file that is not
    /// there or cannot be read. `change` is called again if another process was faster.
    ///
    /// # Errors
    /// It cannot be written; the old content stays.
    fn update(&self, name: &str, access: Access, change: &mut Change<'_>) -> Result<(), StateError>;

    /// Until when the certificates live that were issued from here.
    fn latest_expiry(&self) -> LatestExpiry;

    /// The issuer of our own tokens; `None` where there are none.
    ///
    /// # Errors
    /// Its key cannot be read or made.
    fn own_tokens(&self) -> Result<Option<TrustedIssuer>, StateError>;

    /// Refuses to sign with our own root when the last trust anchor was that of another CA.
    ///
    /// # Errors
    /// It was.
    fn refuse_foreign_anchor(&self) -> Result<(), StateError>;

    /// Writes the trust anchor for agents, where they read it from here.
    ///
    /// # Errors
    /// It cannot be written.
    fn publish_roots(&self, roots: &TrustBundle) -> Result<(), StateError>;

    /// Whether this process takes the steps of the rotation and writes what is in force. Of several processes that share
    /// the storage, one does.
    fn is_writer(&self) -> bool {
        true
    }

    /// Takes up what other processes wrote, and puts back what was lost; returns whether our own root and its files may
    /// have been replaced as a whole. `own_root` says whether our own root signs.
    ///
    /// # Errors
    /// What is wrong with the files. Those before stay in force.
    fn refresh(&self, own_root: bool, now: OffsetDateTime) -> Result<bool, StateError> {
        let _ = (own_root, now);
        Ok(false)
    }

    /// The folder that must be watched to notice changes.
    fn folder(&self) -> Option<&Path> {
        None
    }
}

/// Reads and replaces a file: [`CaStorage::update`] where there is nobody else.
///
/// # Errors
/// It cannot be written.
pub fn update(
    files: &dyn StateFiles,
    name: &str,
    access: Access,
    change: &mut Change<'_>,
) -> Result<(), StateError> {
    let before = files.read(name).ok().flatten();
    match change(before.as_ref().map(|content| content.as_slice())) {
        Some(content) => files.replace(name, &content, access),
        None => Ok(()),
    }
}

/// Writes a file if its content differs.
pub(crate) fn write(
    files: &(impl StateFiles + ?Sized),
    name: &str,
    content: &[u8],
    access: Access,
) -> Result<(), StateError> {
    match files.read(name) {
        Ok(Some(old)) if *old == content => Ok(()),
        _ => files.replace(name, content, access),
    }
}

/// The content of a file as text; `None` if there is none.
///
/// # Errors
/// It cannot be read, or is not text.
pub(crate) fn read_text(
    files: &(impl StateFiles + ?Sized),
    name: &str,
) -> Result<Option<Zeroizing<String>>, StateError> {
    let Some(content) = files.read(name)? else { return Ok(None) };
    let text = std::str::from_utf8(&content).map_err(|_| StateError::Io {
        action: "read",
        place: files.place(name),
        source: io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"),
    })?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}
