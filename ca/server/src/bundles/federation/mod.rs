//! Bundles of other trust domains: named on the command line, fetched and followed (SPIFFE Federation §4 to §6).
//!
//! Each relationship is one-way, names the trust domain it is about, and brings that domain's bundle alone. The last
//! good bundle stays, also over a restart, until a newer one comes; one with a lower number is refused.

mod client;
mod relationship;
mod store;
mod verifier;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use eastwest_ca::{
    SpiffeBundle, TrustBundle,
    bundle::BundleError,
    spiffe_bundle::{self, SpiffeBundleError},
};
use eastwest_identity::TrustDomain;
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet, time::sleep};

pub use self::{
    client::FetchError,
    relationship::{EndpointUrl, Profile, Relationship, RelationshipError, Source},
    store::Store,
};

/// Bundles of other domains, each under its name.
pub type Foreign = BTreeMap<TrustDomain, SpiffeBundle>;

/// How often an endpoint is asked that gives no hint (SPIFFE Federation §4.1 recommends it).
const USUAL_POLL: Duration = Duration::from_secs(300);
/// Bounds of what a hint may bring about.
const POLL_BOUNDS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(24 * 60 * 60)];
/// How soon an endpoint is asked again that has never answered.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// How often a file is looked at.
const FILE_POLL: Duration = Duration::from_secs(5);

/// Why a file holds no bundle.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is JSON, but no bundle.
    #[error(transparent)]
    Bundle(#[from] SpiffeBundleError),
    /// It is no JSON, and holds no roots in PEM either.
    #[error(transparent)]
    Pem(#[from] BundleError),
}

/// The bundle in a file: a bundle document, or roots in PEM.
///
/// # Errors
/// See [`FileError`].
pub fn bundle_file(path: &Path) -> Result<SpiffeBundle, FileError> {
    let text = fs::read_to_string(path)?;
    match text.trim_start().starts_with('{') {
        true => Ok(SpiffeBundle::from_json(&text)?),
        false => Ok(SpiffeBundle::of_roots(&TrustBundle::from_pem(&text)?)),
    }
}

/// The bundles in a file that names their domains.
fn map_file(path: &Path) -> Result<Foreign, FileError> {
    Ok(spiffe_bundle::map_from_json(&fs::read_to_string(path)?)?)
}

/// Keeps `store` up to date for ever. Ends at once if there are no relationships.
pub async fn follow(relationships: Vec<Relationship>, store: Arc<Store>) {
    let mut following = JoinSet::new();
    for relationship in relationships {
        let store = Arc::clone(&store);
        following.spawn(async move {
            match relationship.source {
                Source::Map(path) => poll_map(&path, &store).await,
                Source::File(domain, path) => poll_file(&domain, &path, &store).await,
                Source::Endpoint { domain, url, profile } => poll(&domain, &url, &profile, &store).await,
            }
        });
    }
    following.join_all().await;
}

async fn poll(domain: &TrustDomain, url: &EndpointUrl, profile: &Profile, store: &Store) {
    loop {
        match client::fetch(url, profile, &store.bundles()).await {
            Ok(bundle) => store.offer(domain, bundle),
            Err(error) => tracing::warn!(%domain, %url, "no trust bundle: {error}; the last good one stays"),
        }
        sleep(pause(store.bundles().get(domain))).await;
    }
}

/// How long to wait until an endpoint is asked again; a failure is no reason to ask sooner (SPIFFE Federation §6.2),
/// unless there is nothing yet.
fn pause(current: Option<&SpiffeBundle>) -> Duration {
    let [shortest, longest] = POLL_BOUNDS;
    match current {
        None => FIRST_RETRY,
        Some(bundle) => bundle.refresh_hint().unwrap_or(USUAL_POLL).clamp(shortest, longest),
    }
}

async fn poll_file(domain: &TrustDomain, path: &Path, store: &Store) {
    loop {
        match bundle_file(path) {
            Ok(bundle) => store.set(domain, bundle),
            Err(error) => warn(path, &error),
        }
        sleep(FILE_POLL).await;
    }
}

async fn poll_map(path: &Path, store: &Store) {
    let mut before = Foreign::new();
    loop {
        match map_file(path) {
            Ok(bundles) => {
                for gone in before.keys().filter(|domain| !bundles.contains_key(*domain)) {
                    store.remove(gone);
                }
                bundles.iter().for_each(|(domain, bundle)| store.set(domain, bundle.clone()));
                before = bundles;
            }
            Err(error) => warn(path, &error),
        }
        sleep(FILE_POLL).await;
    }
}

fn warn(path: &Path, error: &FileError) {
    tracing::warn!("--federate: {}: {error}; its last good content stays", path.display());
}

/// No bundles of other domains.
pub fn nobody() -> watch::Receiver<Arc<Foreign>> {
    watch::channel(Arc::default()).1
}

#[cfg(test)]
mod tests;
