//! Follows the rotation of a state directory and takes the steps that are due.

use eastwest_ca::{NewRoot, rotation::Rotation};
use time::OffsetDateTime;

use super::steps::{self, RotateError};
use crate::{
    issuing::certificate_authority::Replaced,
    trust::{
        latest_expiry::LatestExpiry,
        state_dir::{KeyMaterial, StateDir},
    },
};

/// Follows the rotation in a running server.
pub(super) struct Rotator {
    state: StateDir,
    new_root: NewRoot,
    /// Whether steps are taken when they are due.
    automatic: bool,
    rotation: Rotation,
    /// The generations that are in force in this process.
    installed: Vec<u32>,
    /// What signed before them; requests that began earlier may still meet it.
    replaced: Option<Replaced>,
}

impl Rotator {
    /// Of a server that starts with `rotation` in force.
    pub(super) fn new(state: StateDir, new_root: NewRoot, automatic: bool, rotation: Rotation) -> Self {
        let installed = rotation.trusted();
        Self { state, new_root, automatic, rotation, installed, replaced: None }
    }

    pub(super) fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// Whether the record should be read again soon.
    pub(super) fn is_busy(&self) -> bool {
        self.rotation.awaits_signer()
    }

    /// Reads the record and takes the step that is due; returns what to install, if that changed.
    pub(super) fn look(
        &mut self,
        latest_expiry: &LatestExpiry,
        now: OffsetDateTime,
    ) -> Result<Option<KeyMaterial>, RotateError> {
        self.rotation = self.state.rotation()?;
        if self.may_tell() || self.due(now) {
            self.act(latest_expiry, now)?;
        }
        if self.rotation.trusted() == self.installed {
            return Ok(None);
        }
        Ok(Some(self.state.load_rotation(&self.rotation, now)?))
    }

    /// What [`Self::look`] returned is in force, instead of `replaced`.
    pub(super) fn installed(&mut self, replaced: Replaced) {
        self.installed = self.rotation.trusted();
        self.replaced = Some(replaced);
    }

    fn act(&mut self, latest_expiry: &LatestExpiry, now: OffsetDateTime) -> Result<(), RotateError> {
        let _lock = self.state.lock_rotation()?;
        let mut rotation = self.state.rotation()?;
        if rotation == self.rotation && self.may_tell() {
            // Whatever was issued by what signed before has been noted: nobody signs with it any more.
            rotation = rotation.taken_up(steps::covered(latest_expiry, now));
            self.state.save_rotation(&rotation)?;
            self.replaced = None;
        }
        if let Some(step) = rotation.due(now).filter(|_| self.automatic) {
            rotation = steps::take(&self.state, rotation, step, &self.new_root, false, now)?;
            tracing::info!(%step, active = rotation.active().generation, "rotation of the root");
        }
        self.rotation = rotation;
        Ok(())
    }

    fn due(&self, now: OffsetDateTime) -> bool {
        self.automatic && self.rotation.due(now).is_some()
    }

    /// Whether the record waits for us to tell until when the certificates before the last step live, and we can.
    fn may_tell(&self) -> bool {
        let in_force = self.rotation.trusted() == self.installed;
        let drained = self.replaced.as_ref().is_none_or(|replaced| !replaced.is_in_use());
        self.rotation.awaits_signer() && in_force && drained
    }
}
