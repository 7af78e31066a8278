//! What a server begins to sign with.

use std::sync::Arc;

use eastwest_ca::{Needs, NewRoot, PluggedCa, plugged::PluggedFiles};
use time::OffsetDateTime;

use super::{config::RootsError, plugged_source::PluggedIn, rotator::Rotator};
use crate::trust::{
    key_material::KeyMaterial,
    root_files::{self, RootFiles},
    root_status::Source,
    storage::CaStorage,
};

/// A root of our own, where no CA is plugged in.
pub(super) struct OwnRoot {
    /// What it is, if it must be made.
    pub(super) new_root: NewRoot,
    /// Whether one of another trust domain is refused.
    pub(super) keeps_trust_domain: bool,
    /// Whether it is rotated automatically.
    pub(super) automatic_rotation: bool,
}

/// A signer and its source.
pub(super) struct Start {
    pub(super) source: Source,
    /// Of our own root; `None` where a CA is plugged in.
    pub(super) rotator: Option<Rotator>,
    pub(super) material: KeyMaterial,
}

impl Start {
    /// The CA in `files` of `plugged`, if there is one; else our own root, made if absent.
    pub(super) fn with(
        state: &Arc<dyn CaStorage>,
        plugged: Option<&PluggedIn>,
        files: &PluggedFiles,
        own: OwnRoot,
        needs: &Needs,
        now: OffsetDateTime,
    ) -> Result<Self, RootsError> {
        if let Some(found) = plugged.map(PluggedIn::source).filter(|_| !files.is_empty()) {
            let ca = PluggedCa::load(files, needs, now)
                .map_err(|source| RootsError::Plugged { place: found.place(), source: Box::new(source) })?;
            let material = KeyMaterial {
                issuer: Arc::new(ca.issuer),
                roots: ca.roots,
                latest_expiry: Arc::new(state.latest_expiry()),
                own_tokens: state.own_tokens()?,
            };
            return Ok(Self { source: found.source(), rotator: None, material });
        }
        state.refuse_foreign_anchor()?;
        let OwnRoot { new_root, keeps_trust_domain, automatic_rotation } = own;
        let wanted = &new_root.trust_domain;
        let material = root_files::load_or_create(&**state, &new_root, now)?;
        let found = root_files::trust_domain(material.issuer.root());
        if let Some(found) = found.filter(|found| keeps_trust_domain && found != wanted) {
            let wanted = wanted.clone();
            return Err(RootsError::TrustDomain { place: state.all(), found, wanted });
        }
        let material = root_files::adopt(&**state, material)?;
        let rotation = RootFiles::of(&**state).rotation()?;
        let rotator = Rotator::new(Arc::clone(state), new_root, automatic_rotation, rotation);
        Ok(Self { source: state.source(), rotator: Some(rotator), material })
    }
}

/// Logs what signs.
pub(super) fn tell(source: &Source, plugged: Option<&PluggedIn>) {
    let place = plugged.map(|plugged| plugged.source().place());
    match (source, place) {
        (Source::PluggedIn(dir), _) => tracing::info!(dir = %dir.display(), "signing with the plugged-in CA"),
        (Source::PluggedInSecret(secret), _) => tracing::info!(secret, "signing with the plugged-in CA"),
        (Source::StateDir(state), Some(place)) => tracing::warn!(
            "no CA in {place} yet; signing with our own root of {} until one appears",
            state.display()
        ),
        (Source::Secret(_), Some(place)) => {
            tracing::info!("no CA in {place}; signing with our own root of {source}");
        }
        (Source::StateDir(_) | Source::Secret(_), None) => {}
    }
}
