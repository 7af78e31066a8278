//! Follows the rotation of our own roots and takes the steps that are due.

use std::{sync::Arc, time::Duration};

use eastwest_ca::{NewRoot, rotation::Rotation, wall_clock::Reading};
use time::OffsetDateTime;

use super::steps::{self, By, RotateError};
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
    /// The real time until which kept keys have been counted.
    counted: Duration,
    /// How many steps this process took by itself.
    steps: u64,
}

/// What the clocks allow at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// The wall clock and real time.
    pub(super) now: Reading,
    /// The wall clock agrees with real time.
    pub(super) is_believed: bool,
    /// A step that cannot be taken back may be taken.
    pub(super) may_step: bool,
}

/// How often the real time of kept keys is recorded.
const COUNT: Duration = Duration::from_secs(60 * 60);

impl Rotator {
    /// Of a server that starts with `rotation` in force.
    pub(super) fn new(
        state: Arc<dyn CaStorage>,
        new_root: NewRoot,
        automatic: bool,
        rotation: Rotation,
    ) -> Self {
        let installed = rotation.trusted();
        Self {
            state,
            new_root,
            automatic,
            rotation,
            installed,
            replaced: None,
            counted: Duration::ZERO,
            steps: 0,
        }
    }

    pub(super) fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// How many steps this process took by itself.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether the roots that the record names are those that were installed.
    pub(super) fn is_in_force(&self) -> bool {
        self.rotation.trusted() == self.installed
    }

    /// Whether the record should be read again soon.
    pub(super) fn is_busy(&self) -> bool {
        self.rotation.awaits_signer()
    }

    /// Reads the record and takes the step that is due, where the clocks allow it; returns what to install, if that changed.
    /// `replaced` says that the files may be others although the record is the same.
    pub(super) fn look(
        &mut self,
        latest_expiry: &LatestExpiry,
        replaced: bool,
        moment: Moment,
    ) -> Result<Option<Roots>, RotateError> {
        let now = moment.now.wall;
        self.rotation = RootFiles::of(&*self.state).rotation()?;
        self.count_kept(moment.now.running)?;
        let acts = self.may_tell(replaced) || moment.may_step && self.due(latest_expiry, now);
        if self.state.is_writer() && moment.is_believed && acts {
            self.act(latest_expiry, replaced, moment)?;
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

    /// Adds real time to the keys that are kept, and destroys those that were kept long enough.
    fn count_kept(&mut self, running: Duration) -> Result<(), RotateError> {
        if self.rotation.kept().is_empty() || !self.state.is_writer() {
            self.counted = running;
            return Ok(());
        }
        let more = running.saturating_sub(self.counted);
        if more < COUNT {
            return Ok(());
        }
        self.counted = running;
        let mut edit = |files: &dyn StateFiles| {
            let roots = RootFiles::of(files);
            let rotation = roots.rotation()?.kept_for(more.as_secs());
            roots.save_rotation(&rotation)?;
            roots.destroy_retired_keys(&rotation)
        };
        self.state.edit(Edit::Rotation, &mut edit)?;
        self.rotation = RootFiles::of(&*self.state).rotation()?;
        Ok(())
    }

    fn act(
        &mut self,
        latest_expiry: &LatestExpiry,
        replaced: bool,
        Moment { now: Reading { wall: now, .. }, may_step, .. }: Moment,
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
            let step = rotation.due_before(latest_expiry.longest(), now).filter(|_| automatic && may_step);
            let taken =
                step.map(|step| steps::take(roots, rotation.clone(), step, new_root, By::Itself, now));
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
            self.steps += 1;
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
