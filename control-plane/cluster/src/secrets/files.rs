//! Files in memory: those of a Secret while they are read or changed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use eastwest_ca_server::{
    Place, StateError,
    storage::{Access, StateFiles},
};
use zeroize::Zeroizing;

use super::{data::Data, layout};

/// The files of one Secret.
#[derive(Debug)]
pub(super) struct Files {
    /// `NAMESPACE/NAME` of the Secret.
    secret: String,
    /// The generation that signs, for the names in messages.
    active: u32,
    data: Mutex<Data>,
}

impl Files {
    /// Those that `secret` has, whose content is `data`.
    pub(super) fn of(secret: &str, data: &Data) -> Self {
        let files = layout::files(data);
        Self { secret: secret.to_owned(), active: layout::active(data), data: Mutex::new(files) }
    }

    /// The content that the Secret should have.
    pub(super) fn secret(&self) -> Data {
        layout::secret(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateFiles for Files {
    fn place(&self, name: &str) -> Place {
        Place::key_of_secret(&self.secret, &layout::key_of(name, self.active))
    }

    fn all(&self) -> Place {
        Place::Secret(self.secret.clone())
    }

    fn exists(&self, name: &str) -> bool {
        self.lock().0.contains_key(name)
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        Ok(self.lock().0.get(name).cloned())
    }

    /// Who may read a Secret is a matter of RBAC.
    fn check_private(&self, _: &str) -> Result<(), StateError> {
        Ok(())
    }

    fn create(&self, name: &str, content: &[u8], access: Access) -> Result<bool, StateError> {
        let absent = !self.exists(name);
        if absent {
            self.replace(name, content, access)?;
        }
        Ok(absent)
    }

    fn replace(&self, name: &str, content: &[u8], _: Access) -> Result<(), StateError> {
        self.lock().0.insert(name.to_owned(), Zeroizing::new(content.to_vec()));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        self.lock().0.remove(name);
        Ok(())
    }
}
