//! Rotation at the command line. A running server picks up each step; without a server it works as well.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use eastwest_ca::{
    NewRoot,
    rotation::{PlannedStep, Rotation, Step},
};
use serde::Serialize;
use time::OffsetDateTime;

use super::steps::{self, By, RotateError};
use crate::trust::{
    root_status::rfc3339,
    state_dir::{StateDir, StateLock},
    state_error::StateError,
    storage::CaStorage as _,
};

/// The longest time to wait until a running server has applied a step.
const PATIENCE: Duration = Duration::from_secs(15);
/// Interval between two checks.
const LOOK: Duration = Duration::from_millis(50);

/// The phase of a rotation and its next steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RotationView {
    /// Where the roots are kept.
    pub state_dir: PathBuf,
    /// Whether a server signs with them.
    pub served: bool,
    /// When the last certificate runs out that was issued until now, or somewhat later; RFC 3339. `None` if none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_until: Option<String>,
    /// The roots, and the phase.
    #[serde(flatten)]
    pub rotation: Rotation,
    /// The steps to come.
    pub plan: Vec<PlannedStep>,
}

/// The rotation of the CA in `dir`.
///
/// # Errors
/// There is no CA, or it cannot be used.
pub fn view(dir: &Path, now: OffsetDateTime) -> Result<RotationView, StateError> {
    let state = StateDir::open_existing(dir)?;
    let served = unserved(&state)?.is_none();
    seen(&state, served, now)
}

/// Takes a step; with `force`, also one that breaks connections. `like` sets key type and lifetime of a next root;
/// the default is those of the root before. With a running server, waits until it has applied the step.
///
/// # Errors
/// The step is refused, or the directory cannot be used.
pub fn rotate(
    dir: &Path,
    step: Step,
    like: impl FnOnce(NewRoot) -> NewRoot,
    force: bool,
    now: OffsetDateTime,
) -> Result<RotationView, RotateError> {
    let state = StateDir::open_existing(dir)?;
    let alone = unserved(&state)?;
    state.refuse_foreign_anchor()?;
    {
        let _lock = state.lock_rotation()?;
        let roots = state.roots();
        let before = roots.rotation()?;
        let new = like(roots.new_root_like(before.active().generation)?);
        let rotation = steps::take(roots, before, step, &new, By::Person { force }, now)?;
        if alone.is_some() {
            let covered = steps::covered(&state.latest_expiry(), &rotation, now);
            let rotation = rotation.taken_up(covered);
            roots.save_rotation(&rotation)?;
            state.publish_roots(&roots.load_rotation(&rotation, now)?.bundle)?;
        }
    }
    let asked = Instant::now();
    while alone.is_none() && state.roots().rotation()?.awaits_signer() && asked.elapsed() < PATIENCE {
        thread::sleep(LOOK);
    }
    Ok(seen(&state, alone.is_none(), now)?)
}

fn seen(state: &StateDir, served: bool, now: OffsetDateTime) -> Result<RotationView, StateError> {
    let rotation = state.roots().rotation()?;
    let issued_until = state.latest_expiry().latest();
    Ok(RotationView {
        state_dir: state.path().to_owned(),
        served,
        issued_until: (issued_until > OffsetDateTime::UNIX_EPOCH).then(|| rfc3339(issued_until)),
        plan: rotation.plan(now),
        rotation,
    })
}

/// The lock of the server, if no server runs; `None` if one runs.
fn unserved(state: &StateDir) -> Result<Option<StateLock>, StateError> {
    match state.lock() {
        Ok(lock) => Ok(Some(lock)),
        Err(StateError::Locked(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
