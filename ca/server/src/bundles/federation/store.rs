//! The newest bundle of each foreign domain, kept over restarts.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::Arc,
};

use eastwest_ca::SpiffeBundle;
use eastwest_identity::TrustDomain;
use eastwest_io::files;
use tokio::sync::watch;

use super::Foreign;

/// The newest bundle of each foreign domain. Each stands for itself: nothing puts two together.
pub struct Store {
    bundles: watch::Sender<Arc<Foreign>>,
    /// A file for each domain, if they are kept.
    dir: Option<PathBuf>,
}

impl Store {
    /// A store that keeps what endpoints gave in `dir`, created if absent, and begins with what was kept there for
    /// `domains`, else with the bundle beside each.
    pub fn open(dir: Option<PathBuf>, domains: Vec<(TrustDomain, Option<SpiffeBundle>)>) -> Self {
        if let Some(dir) = &dir
            && let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(dir)
        {
            tracing::warn!("{}: {error}; bundles of other domains are not kept", dir.display());
        }
        let store = Self { bundles: watch::channel(Arc::default()).0, dir };
        let mut first = BTreeMap::new();
        for (domain, bootstrap) in domains {
            first.extend(store.kept(&domain).or(bootstrap).map(|bundle| (domain, bundle)));
        }
        store.bundles.send_replace(Arc::new(first));
        store
    }

    /// The bundles now and whenever they change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Foreign>> {
        self.bundles.subscribe()
    }

    /// The bundles now.
    pub fn bundles(&self) -> Arc<Foreign> {
        self.bundles.borrow().clone()
    }

    /// Takes what an endpoint gave, unless its number says that it is older than what is there: a copy that somebody
    /// held back must not bring a withdrawn key back.
    pub(super) fn offer(&self, domain: &TrustDomain, bundle: SpiffeBundle) {
        let before = self.bundles().get(domain).and_then(SpiffeBundle::sequence);
        match (before, bundle.sequence()) {
            (Some(before), Some(now)) if now < before => {
                let file = self.file(domain).map_or_else(String::new, |path| path.display().to_string());
                tracing::warn!(
                    %domain, before, now,
                    "the trust bundle's number went back: refused, the last good one stays; if the domain began anew, \
                     remove {file} and start again"
                );
            }
            _ => {
                self.keep(domain, &bundle);
                self.set(domain, bundle);
            }
        }
    }

    /// Stores a bundle of a file.
    pub(super) fn set(&self, domain: &TrustDomain, bundle: SpiffeBundle) {
        self.change(domain, Some(bundle));
    }

    /// Removes a domain whose file was removed.
    pub(super) fn remove(&self, domain: &TrustDomain) {
        self.change(domain, None);
    }

    fn change(&self, domain: &TrustDomain, bundle: Option<SpiffeBundle>) {
        self.bundles.send_if_modified(|bundles| {
            let differs = bundles.get(domain) != bundle.as_ref();
            if differs {
                let roots = bundle.as_ref().map_or(0, |bundle| bundle.certificates().len());
                tracing::info!(%domain, roots, "trust bundle of another domain");
                let mut next = Foreign::clone(bundles);
                match bundle {
                    Some(bundle) => next.insert(domain.clone(), bundle),
                    None => next.remove(domain),
                };
                *bundles = Arc::new(next);
            }
            differs
        });
    }

    fn file(&self, domain: &TrustDomain) -> Option<PathBuf> {
        // A trust domain has no slash, so this is a name in the directory.
        Some(self.dir.as_ref()?.join(format!("{domain}.json")))
    }

    fn kept(&self, domain: &TrustDomain) -> Option<SpiffeBundle> {
        SpiffeBundle::from_json(&fs::read_to_string(self.file(domain)?).ok()?).ok()
    }

    fn keep(&self, domain: &TrustDomain, bundle: &SpiffeBundle) {
        if self.bundles().get(domain) == Some(bundle) {
            return;
        }
        if let Some(path) = self.file(domain)
            && let Err(error) = files::replace(&path, bundle.to_json().as_bytes(), files::SECRET)
        {
            tracing::warn!("{}: {error}; the bundle of {domain} is not kept over a restart", path.display());
        }
    }
}
