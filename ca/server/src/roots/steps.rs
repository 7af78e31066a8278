//! One step of a rotation on disk: first new files, then the record, then the removal of old files. After a crash in
//! between, the next attempt replaces the files that are left.

use eastwest_ca::{
    NewRoot,
    rotation::{Phase, Refused, Rotation, Step},
};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::trust::{
    latest_expiry::LatestExpiry,
    state_dir::{StateDir, StateError},
};

/// Why a step was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The step is refused in this phase.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// When everything that was issued until `now` has expired: a certificate is valid for the whole of its last second.
pub(super) fn covered(latest_expiry: &LatestExpiry, now: OffsetDateTime) -> OffsetDateTime {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let latest = latest_expiry.latest();
    if latest < now { now } else { latest + Duration::SECOND }
}

/// Takes a step. Call it with the rotation's lock held.
pub(super) fn take(
    state: &StateDir,
    rotation: Rotation,
    step: Step,
    new: &NewRoot,
    force: bool,
    now: OffsetDateTime,
) -> Result<Rotation, RotateError> {
    let dropped = match rotation.phase() {
        Phase::Prepared { next } | Phase::Published { next, .. } => Some(next.generation),
        Phase::Steady | Phase::Retiring { .. } => None,
    };
    let rotation = match step {
        Step::Prepare => {
            rotation.check(step, now)?;
            let new = NewRoot { generation: rotation.next_generation(), ..new.clone() };
            rotation.prepare(state.make_root(&new, now)?, now)?
        }
        step => rotation.advance(step, force, now)?,
    };
    state.save_rotation(&rotation)?;
    match (step, dropped) {
        (Step::Retire, _) => state.destroy_retired_keys(&rotation)?,
        (Step::Abandon, Some(generation)) => state.forget_root(generation)?,
        _ => {}
    }
    Ok(rotation)
}
