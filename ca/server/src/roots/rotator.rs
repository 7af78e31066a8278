//! Follows the rotation of our own roots and takes the steps that are due.

use std::sync::Arc;

use eastwest_ca::{NewRoot, rotation::Rotation};
use time::OffsetDateTime;

use super::steps::{self, RotateError};
use crate::{
    issuing::certificate_authority::Replaced,
    trust::{
        latest_expiry::LatestExpiry,
        root_files::{RootFiles, Roots},
        storage::{CaStorage, Edit, StateFiles},
    },
};

/// Follows the rotation in a running server.
pub(super) struct Rotator {
    state: Arc<dyn CaStorage>,
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
    pub(super) fn new(
        state: Arc<dyn CaStorage>,
        new_root: NewRoot,
        automatic: bool,
        rotation: Rotation,
    ) -> Self {
        let installed = rotation.trusted();
        Self { state, new_root, automatic, rotation, installed, replaced: None }
    }

    pub(super) fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// Whether the roots that the record names are those that were installed.
    pub(super) fn is_in_force(&self) -> bool {
        self.rotation.trusted() == self.installed
    }

    /// Whether the record should be read again soon.
    pub(super) fn is_busy(&self) -> bool {
        self.rotation.awaits_signer()
    }

    /// Reads the record and takes the step that is due; returns what to install, if that changed. `replaced` says that
    /// the files may be others although the record is the same.
    pub(super) fn look(
        &mut self,
        latest_expiry: &LatestExpiry,
        replaced: bool,
        now: OffsetDateTime,
    ) -> Result<Option<Roots>, RotateError> {
        self.rotation = RootFiles::of(&*self.state).rotation()?;
        if self.state.is_writer() && (self.may_tell(replaced) || self.due(latest_expiry, now)) {
            self.act(latest_expiry, replaced, now)?;
        }
        if self.is_in_force() && !replaced {
            return Ok(None);
        }
        Ok(Some(RootFiles::of(&*self.state).load_rotation(&self.rotation, now)?))
    }

    /// What [`Self::look`] returned is in force, instead of `replaced`.
    pub(super) fn installed(&mut self, replaced: Replaced) {
        self.installed = self.rotation.trusted();
        self.replaced = Some(replaced);
    }

    fn act(
        &mut self,
        latest_expiry: &LatestExpiry,
        replaced: bool,
        now: OffsetDateTime,
    ) -> Result<(), RotateError> {
        let (seen, may_tell) = (self.rotation.clone(), self.may_tell(replaced));
        let (automatic, new_root) = (self.automatic, &self.new_root);
        let mut acted = None;
        let mut edit = |files: &dyn StateFiles| {
            let roots = RootFiles::of(files);
            let mut rotation = roots.rotation()?;
            let tells = rotation == seen && may_tell;
            if tells {
                // Whatever was issued by what signed before has been noted: nobody signs with it any more.
                let covered = steps::covered(latest_expiry, &rotation, now);
                rotation = rotation.taken_up(covered);
                roots.save_rotation(&rotation)?;
            }
            let step = rotation.due_before(latest_expiry.longest(), now).filter(|_| automatic);
            let taken = step.map(|step| steps::take(roots, rotation.clone(), step, new_root, false, now));
            acted = Some(match taken {
                None => (Ok(rotation), None, tells),
                Some(Err(RotateError::State(error))) => return Err(error),
                Some(taken) => (taken, step, tells),
            });
            Ok(())
        };
        self.state.edit(Edit::Rotation, &mut edit)?;
        let Some((rotation, step, told)) = acted else { return Ok(()) };
        if told {
            self.replaced = None;
        }
        self.rotation = rotation?;
        if let Some(step) = step {
            tracing::info!(%step, active = self.rotation.active().generation, "rotation of the root");
        }
        Ok(())
    }

    fn due(&self, latest_expiry: &LatestExpiry, now: OffsetDateTime) -> bool {
        self.automatic && self.rotation.due_before(latest_expiry.longest(), now).is_some()
    }

    /// Whether the record waits for us to tell until when the certificates before the last step live, and we can.
    fn may_tell(&self, replaced: bool) -> bool {
        let in_force = self.is_in_force() && !replaced;
        let drained = self.replaced.as_ref().is_none_or(|replaced| !replaced.is_in_use());
        self.rotation.awaits_signer() && in_force && drained
    }
}
