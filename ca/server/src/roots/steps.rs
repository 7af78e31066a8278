//! One step of a rotation among the files of a CA: first new files, then the record, then the removal of old files. After a crash in
//! between, the next attempt replaces the files that are left.

use eastwest_ca::{
    NewRoot,
    rotation::{Phase, Refused, Rotation, Step},
};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::trust::{latest_expiry::LatestExpiry, root_files::RootFiles, state_error::StateError};

/// Why a step was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The files cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The step is refused in this phase.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// When nothing lives any more that was issued until `now` by the signer before the last step of `rotation`:
/// certificates are good for the whole of their last second.
pub(super) fn covered(
    latest_expiry: &LatestExpiry,
    rotation: &Rotation,
    now: OffsetDateTime,
) -> OffsetDateTime {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let signer = match rotation.phase() {
        Phase::Retiring { old, .. } => old,
        _ => rotation.active(),
    };
    let latest = latest_expiry.horizon(signer.not_after, now);
    if latest < now { now } else { latest + Duration::SECOND }
}

/// Who takes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A server, because it is due. The key of a root that retires is kept.
    Itself,
    /// A person, by force also one that breaks connections.
    Person {
        /// By force.
        force: bool,
    },
}

/// Takes a step. Call it within an edit of the rotation.
pub(super) fn take(
    roots: RootFiles<'_>,
    rotation: Rotation,
    step: Step,
    new: &NewRoot,
    by: By,
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
            rotation.prepare(roots.make_root(&new, now)?, now)?
        }
        step => match by {
            By::Itself => rotation.advance_by_itself(step, now)?,
            By::Person { force } => rotation.advance(step, force, now)?,
        },
    };
    roots.save_rotation(&rotation)?;
    match (step, dropped) {
        (Step::Retire, _) => roots.destroy_retired_keys(&rotation)?,
        (Step::Abandon, Some(generation)) => roots.forget_root(generation)?,
        _ => {}
    }
    Ok(rotation)
}
