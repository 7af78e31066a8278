//! What a change of the input comes to, in the log.

use std::collections::{BTreeMap, BTreeSet};

use eastwest_engine::compute::weakened;
use eastwest_manifest::merge::Effect;
use eastwest_model::{Change, Diagnostic, Effect as Ineffective, Group, Object, Severity};

/// How many lines of one sort one change makes. A whole directory may change at once.
const LINES: usize = 50;

/// Writes what is newly wrong, what no longer is, and which policies are no longer in force.
pub(super) fn write(effect: &Effect) {
    limited(&effect.found, "findings", found);
    let again: BTreeSet<_> = effect.found.iter().map(|one| (&one.object, &one.field)).collect();
    // A mistake that only reads otherwise now is not mended.
    let solved = effect.solved.iter().filter(|one| one.severity == Severity::Error);
    let solved: Vec<_> = solved.filter(|one| !again.contains(&(&one.object, &one.field))).collect();
    limited(&solved, "findings that are gone", |solved| {
        tracing::info!(object = %solved.object, field = %solved.field, "no longer refused");
    });
    let policies: Vec<_> = effect.gone.iter().filter(|object| is_policy(object)).collect();
    limited(&policies, "policies that are gone", |object| gone(object));
    let upserts = effect.changes.iter().filter_map(|change| match change {
        Change::Upsert(now) if is_policy(now) => Some((now.reference(), now)),
        _ => None,
    });
    let now: BTreeMap<_, _> = upserts.collect();
    let replaced = effect.replaced.iter().filter(|object| is_policy(object));
    let replaced = replaced.map(|object| (object, weakened(object, now.get(object.reference()).copied())));
    let weaker: Vec<_> = replaced.filter(|(_, lost)| !lost.is_empty()).collect();
    limited(&weaker, "objects that ask for less", |(object, lost)| {
        let lost = lost.join("; ");
        tracing::warn!(object = %object.reference(), was = %object.meta().origin, "no longer asks for {lost}");
    });
}

fn limited<T>(all: &[T], what: &str, line: impl Fn(&T)) {
    all.iter().take(LINES).for_each(line);
    if let Some(more @ 1..) = all.len().checked_sub(LINES) {
        tracing::warn!("{more} more {what}: `eastwest check --server` lists what is wrong now");
    }
}

fn found(finding: &Diagnostic) {
    let Diagnostic { severity, object, origin, field, message, effect, .. } = finding;
    match (severity, effect) {
        (Severity::Error, Some(Ineffective::None)) => tracing::error!(
            %object, at = %origin, %field,
            "refused, and no earlier version of it is known, so nothing of it is in force: {message}"
        ),
        (Severity::Error, _) => tracing::warn!(%object, at = %origin, %field, "refused: {message}"),
        (Severity::Warning, _) => tracing::info!(%object, at = %origin, %field, "{message}"),
    }
}

fn is_policy(object: &Object) -> bool {
    matches!(object.reference().kind.group(), Group::Security | Group::Networking)
        || matches!(object, Object::MeshConfig(..))
}

fn gone(object: &Object) {
    let (reference, at) = (object.reference(), &object.meta().origin);
    let lost = weakened(object, None);
    if lost.is_empty() {
        tracing::info!(object = %reference, was = %at, "no longer in force: its source has it no longer");
    } else {
        let lost = lost.join("; ");
        tracing::warn!(
            object = %reference, was = %at,
            "no longer in force: its source has it no longer; it asked for {lost}"
        );
    }
}
