//! The store as `eastwest-ca-server` wants it.

use std::{fmt, io};

use eastwest_ca::{
    CertificateSummary, TrustBundle, TrustedIssuer,
    plugged::{self, PluggedFiles},
};
use eastwest_ca_server::{
    LatestExpiry, Place, PluggedSecret, StateError,
    root_files::{RootFiles, SVID_KEY},
    root_status::Source,
    roots::{IN_FORCE, LISTS, last_root},
    storage::{Access, CaStorage, Change, Edit, StateFiles, update},
};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{PLUGGED_SECRET, kept::Observed, rules::Which, store::Store};

/// The number of our trust bundle.
const BUNDLE_SEQUENCE: &str = "bundle-sequence.json";

/// The Secret that has a file.
fn home(name: &str) -> Which {
    match name {
        IN_FORCE | LISTS | SVID_KEY | BUNDLE_SEQUENCE => Which::Shared,
        _ => Which::Roots,
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.namespace).finish()
    }
}

impl Store {
    fn place(&self, which: Which) -> Place {
        Place::Secret(self.0.name(which))
    }
}

impl StateFiles for Store {
    fn place(&self, name: &str) -> Place {
        let which = home(name);
        match self.0.files(which) {
            Ok(files) => files.place(name),
            Err(_) => Place::key_of_secret(&self.0.name(which), name),
        }
    }

    fn all(&self) -> Place {
        self.place(Which::Roots)
    }

    fn exists(&self, name: &str) -> bool {
        self.0.files(home(name)).is_ok_and(|files| files.exists(name))
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        self.0.files(home(name))?.read(name)
    }

    fn check_private(&self, _: &str) -> Result<(), StateError> {
        Ok(())
    }

    fn create(&self, name: &str, content: &[u8], access: Access) -> Result<bool, StateError> {
        let mut created = false;
        self.0.change(home(name), false, &mut |files| {
            created = files.create(name, content, access)?;
            Ok(())
        })?;
        Ok(created)
    }

    fn replace(&self, name: &str, content: &[u8], access: Access) -> Result<(), StateError> {
        self.0.change(home(name), false, &mut |files| files.replace(name, content, access))
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        match self.exists(name) {
            true => self.0.change(home(name), false, &mut |files| files.remove(name)),
            false => Ok(()),
        }
    }
}

impl CaStorage for Store {
    fn source(&self) -> Source {
        Source::Secret(self.0.name(Which::Roots))
    }

    fn edit(
        &self,
        purpose: Edit,
        edit: &mut dyn FnMut(&dyn StateFiles) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        self.0.change(Which::Roots, purpose == Edit::FirstRoot, edit)
    }

    fn update(&self, name: &str, access: Access, change: &mut Change<'_>) -> Result<(), StateError> {
        self.0.change(home(name), false, &mut |files| update(files, name, access, change))
    }

    fn latest_expiry(&self) -> LatestExpiry {
        LatestExpiry::of_replicas(self.0.longest)
    }

    /// Tokens come from the cluster.
    fn own_tokens(&self) -> Result<Option<TrustedIssuer>, StateError> {
        Ok(None)
    }

    fn refuse_foreign_anchor(&self) -> Result<(), StateError> {
        let Some(last) = last_root(self)? else { return Ok(()) };
        let own = match RootFiles::of(&self.0.files(Which::Roots)?).all_certificates() {
            Ok(own) => own,
            // Others tell what is wrong with it.
            Err(_) => return Ok(()),
        };
        if own.is_some_and(|own| own.contains(&last)) {
            return Ok(());
        }
        let summary = CertificateSummary::of(&last);
        let root = summary.map_or_else(String::new, |CertificateSummary { subject, sha256, .. }| {
            format!("{subject}, SHA-256 {sha256}")
        });
        Err(StateError::Unavailable {
            place: StateFiles::place(self, IN_FORCE),
            reason: format!(
                "the last signer was below another root ({root}), which neither Secret {0}/{PLUGGED_SECRET} \
                 nor Secret {1} has now: create the Secret again that had it; or remove this key to sign with what is \
                 there, which no workload trusts until it renews",
                self.0.namespace,
                self.0.name(Which::Roots)
            ),
        })
    }

    /// Agents read it from the ConfigMap of their namespace.
    fn publish_roots(&self, _: &TrustBundle) -> Result<(), StateError> {
        Ok(())
    }

    fn is_writer(&self) -> bool {
        self.0.leads()
    }

    fn refresh(&self, own_root: bool, now: OffsetDateTime) -> Result<bool, StateError> {
        let roots = if own_root { self.0.follow_up(Which::Roots, now) } else { Ok(false) };
        self.0.follow_up(Which::Shared, now)?;
        roots
    }
}

/// The Secret with a CA that is plugged in.
pub(super) struct Plugged {
    pub(super) name: String,
    pub(super) store: Store,
}

impl fmt::Debug for Plugged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}", self.name)
    }
}

impl PluggedSecret for Plugged {
    fn name(&self) -> &str {
        &self.name
    }

    fn files(&self) -> io::Result<PluggedFiles> {
        let observed = self.store.0.plugged();
        match &*observed {
            Observed::Unknown => Err(io::Error::other(format!("Secret {} has not been read yet", self.name))),
            Observed::Absent => Ok(PluggedFiles::default()),
            Observed::Present(snapshot) => {
                let content = |name: &'static str| Some((name, snapshot.data.0.get(name)?.clone()));
                Ok(plugged::FILES.into_iter().filter_map(content).collect())
            }
        }
    }
}
