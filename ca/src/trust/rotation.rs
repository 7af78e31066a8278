//! Rotation of the root without a failed handshake (CA.md C21).
//!
//! ```text
//! steady ──prepare──→ prepared ──publish──→ published ──activate──→ retiring ──retire──→ steady
//!    ↑                   │                      │
//!    └─────abandon───────┴──────────────────────┘
//! ```
//! | phase | signs | in the trust bundle |
//! |---|---|---|
//! | steady, prepared | the active root | the active root |
//! | published | the active root | both: workloads get the next one when they renew |
//! | retiring | the next root, now the active one | both: certificates of the old one are still valid |
//!
//! `activate` is safe when all certificates that were issued without the next root have expired, `retire` when all
//! certificates of the old root have. The functions are pure: they take `now` and return a state or a refusal.

use std::{cmp::max, fmt};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use crate::rfc3339;

/// The next root is prepared at half of the active one's life, but not earlier than this before its end.
const PREPARE_EARLY: Duration = Duration::days(30);
/// The next root signs from five sixths of the active one's life, but not earlier than this before its end.
const ACTIVATE_EARLY: Duration = Duration::days(7);

/// A root of the CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootSlot {
    /// Number of the root in its CA, from 1.
    pub generation: u32,
    /// SHA-256 of its certificate in hexadecimal.
    pub sha256: String,
    /// Start of its validity.
    #[serde(with = "rfc3339")]
    pub not_before: OffsetDateTime,
    /// End of its validity.
    #[serde(with = "rfc3339")]
    pub not_after: OffsetDateTime,
}

impl RootSlot {
    /// `longest` is how long certificates may live that were issued before the publication.
    fn prepare_at(&self, longest: Duration) -> OffsetDateTime {
        let life = self.not_after - self.not_before;
        let early = max(PREPARE_EARLY, longest.saturating_add(ACTIVATE_EARLY).saturating_add(Duration::DAY));
        max(self.not_before + life / 2, self.not_after.saturating_sub(early))
    }

    fn activate_at(&self) -> OffsetDateTime {
        let life = self.not_after - self.not_before;
        max(self.not_after - life / 6, self.not_after - ACTIVATE_EARLY)
    }
}

/// The phase of a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// One root; no next one.
    Steady,
    /// The next root exists; it is in no bundle.
    Prepared {
        /// The next root.
        next: RootSlot,
    },
    /// The next root is in the bundle.
    Published {
        /// The next root.
        next: RootSlot,
        /// Since when.
        #[serde(with = "rfc3339")]
        since: OffsetDateTime,
        /// When the last certificate expires that was issued without the next root; `None` until the signer has
        /// applied the publication.
        #[serde(with = "rfc3339::option", default)]
        covered: Option<OffsetDateTime>,
    },
    /// The next root signs, and the one before is still in the bundle.
    Retiring {
        /// The root before.
        old: RootSlot,
        /// Since when.
        #[serde(with = "rfc3339")]
        since: OffsetDateTime,
        /// When the last certificate expires that the old root signed; `None` until the signer has changed.
        #[serde(with = "rfc3339::option", default)]
        covered: Option<OffsetDateTime>,
    },
}

/// A step of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Make the next root.
    Prepare,
    /// Add it to the trust bundle.
    Publish,
    /// Sign with it.
    Activate,
    /// Take the old root out of the bundle. A person's word destroys its key, and the keys of all roots that retired before.
    Retire,
    /// Sign with the root before again; the present one stays trusted.
    Restore,
    /// Drop the next root, which has signed nothing yet.
    Abandon,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare",
            Self::Publish => "publish",
            Self::Activate => "activate",
            Self::Retire => "retire",
            Self::Restore => "restore",
            Self::Abandon => "abandon",
        })
    }
}

/// Why a step is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refused {
    /// The step does not follow the phase. It cannot be forced.
    #[error("{step}: {reason}")]
    Order {
        /// The step.
        step: Step,
        /// Why, and which step comes first.
        reason: &'static str,
    },
    /// The step would break connections. It can be forced.
    #[error("{step}: {}; {breaks}", earliest.map_or_else(
        || "not safe yet: the running server has not applied the last step".to_owned(),
        |earliest| format!("not safe before {}", rfc3339::text(earliest)),
    ))]
    Unsafe {
        /// The step.
        step: Step,
        /// When it becomes safe, if that is known.
        earliest: Option<OffsetDateTime>,
        /// What would break.
        breaks: &'static str,
    },
}

/// A step that is still to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// The step.
    pub step: Step,
    /// When it becomes safe, as far as is known.
    #[serde(with = "rfc3339::option")]
    pub safe_from: Option<OffsetDateTime>,
    /// When a server takes it automatically, as far as is known.
    #[serde(with = "rfc3339::option")]
    pub automatic_at: Option<OffsetDateTime>,
    /// When the step is safe or automatic, and why.
    pub why: &'static str,
}

const BREAKS_ACTIVATE: &str = "workloads that have not renewed since the next root was published do not trust it, and would \
                               reject all certificates that it signs";
const BREAKS_RETIRE: &str = "certificates that the old root signed are still in use, and workloads that renew would \
                             reject them";

const BREAKS_RESTORE: &str = "workloads that have renewed since the root before retired do not trust it, and would reject \
                              all certificates that it signs";
const DESTROYS: &str = "destroys the keys of roots that retired by themselves; else a server does so after 30 days in which it runs";

/// How long a server runs until the key of a root that retired by itself is destroyed.
pub const KEEP_KEY: Duration = Duration::days(30);

/// A root that retired by itself. Its key is kept, unused, in case the clock was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRoot {
    /// The root.
    pub root: RootSlot,
    /// For how many seconds servers have run since; real time, not that of the wall clock.
    pub seconds: u64,
}

/// The roots of a CA and the rotation from one to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The root that signs.
    active: RootSlot,
    #[serde(flatten)]
    phase: Phase,
    /// Roots that retired by themselves, the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kept: Vec<KeptRoot>,
}

impl Rotation {
    /// A CA with one root.
    pub fn of(active: RootSlot) -> Self {
        Self { active, phase: Phase::Steady, kept: Vec::new() }
    }

    /// The root that signs.
    pub fn active(&self) -> &RootSlot {
        &self.active
    }

    /// The phase.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The roots that retired by themselves and whose keys are kept.
    pub fn kept(&self) -> &[KeptRoot] {
        &self.kept
    }

    /// The generations in the trust bundle; the one that signs is first.
    pub fn trusted(&self) -> Vec<u32> {
        let other = match &self.phase {
            Phase::Published { next, .. } => Some(next),
            Phase::Retiring { old, .. } => Some(old),
            Phase::Steady | Phase::Prepared { .. } => None,
        };
        [&self.active].into_iter().chain(other).map(|root| root.generation).collect()
    }

    /// The number of a root that is to be made.
    pub fn next_generation(&self) -> u32 {
        let other = match &self.phase {
            Phase::Prepared { next } | Phase::Published { next, .. } => next.generation,
            Phase::Retiring { old, .. } => old.generation,
            Phase::Steady => 0,
        };
        let kept = self.kept.iter().map(|kept| kept.root.generation).max().unwrap_or(0);
        self.active.generation.max(other).max(kept).saturating_add(1)
    }

    /// Whether the end of the certificates before the last step is not known yet.
    pub fn awaits_signer(&self) -> bool {
        matches!(self.phase, Phase::Published { covered: None, .. } | Phase::Retiring { covered: None, .. })
    }

    /// Records that the signer has applied the last step, and that everything it issued before expires by `until`.
    #[must_use]
    pub fn taken_up(mut self, until: OffsetDateTime) -> Self {
        if let Phase::Published { covered, .. } | Phase::Retiring { covered, .. } = &mut self.phase {
            covered.get_or_insert(until);
        }
        self
    }

    /// Whether `step` may be taken at `now`.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn check(&self, step: Step, now: OffsetDateTime) -> Result<(), Refused> {
        let order = |reason| Err(Refused::Order { step, reason });
        match (step, &self.phase) {
            (Step::Prepare, Phase::Steady)
            | (Step::Publish, Phase::Prepared { .. })
            | (Step::Abandon, Phase::Prepared { .. } | Phase::Published { .. }) => Ok(()),
            (Step::Activate, Phase::Published { next, covered, .. }) => {
                safe(step, covered.map(|covered| covered.max(next.not_before)), BREAKS_ACTIVATE, now)
            }
            (Step::Retire, Phase::Retiring { covered, .. }) => safe(step, *covered, BREAKS_RETIRE, now),
            (Step::Retire, Phase::Steady) if !self.kept.is_empty() => Ok(()),
            (Step::Restore, Phase::Retiring { .. }) => Ok(()),
            (Step::Restore, Phase::Steady) if !self.kept.is_empty() => safe(step, None, BREAKS_RESTORE, now),
            (Step::Restore, Phase::Steady) => order("there is no root before whose key is kept"),
            (Step::Restore, _) => order("there is a next root; abandon it first"),
            (Step::Prepare, Phase::Retiring { .. }) => {
                order("the old root is still trusted; run the step retire first")
            }
            (Step::Prepare, _) => {
                order("there is a next root already; publish and activate it, or abandon it")
            }
            (Step::Publish | Step::Activate | Step::Abandon, Phase::Steady | Phase::Retiring { .. }) => {
                order("there is no next root; run the step prepare first")
            }
            (Step::Publish, Phase::Published { .. }) => order("the next root is published already"),
            (Step::Activate, Phase::Prepared { .. }) => {
                order("the next root is not published; run the step publish first")
            }
            (Step::Retire, _) => order("there is no old root; run the step activate first"),
        }
    }

    /// Makes `next` the next root.
    ///
    /// # Errors
    /// There is one, or an old one has not retired.
    pub fn prepare(self, next: RootSlot, now: OffsetDateTime) -> Result<Self, Refused> {
        self.check(Step::Prepare, now)?;
        Ok(Self { phase: Phase::Prepared { next }, ..self })
    }

    /// Takes a step other than [`Step::Prepare`]; with `force`, also one that breaks connections.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn advance(self, step: Step, force: bool, now: OffsetDateTime) -> Result<Self, Refused> {
        match self.check(step, now) {
            Err(Refused::Unsafe { .. }) if force => {}
            checked => checked?,
        }
        let Self { active, phase, mut kept } = self;
        Ok(match (step, phase) {
            (Step::Publish, Phase::Prepared { next }) => {
                Self { active, phase: Phase::Published { next, since: now, covered: None }, kept }
            }
            (Step::Activate, Phase::Published { next, .. }) => {
                Self { active: next, phase: Phase::Retiring { old: active, since: now, covered: None }, kept }
            }
            (Step::Restore, Phase::Retiring { old, .. }) => {
                Self { active: old, phase: Phase::Retiring { old: active, since: now, covered: None }, kept }
            }
            (Step::Restore, _) => {
                let Some(last) = kept.pop() else {
                    return Err(Refused::Order { step, reason: "there is no root before whose key is kept" });
                };
                let phase = Phase::Retiring { old: active, since: now, covered: None };
                Self { active: last.root, phase, kept }
            }
            (Step::Abandon, _) => Self { kept, ..Self::of(active) },
            (Step::Prepare, phase) => {
                let _ = phase;
                return Err(Refused::Order { step, reason: "prepare needs a new root" });
            }
            (Step::Publish | Step::Activate | Step::Retire, _) => Self::of(active),
        })
    }

    /// Takes a step that a server takes by itself, if it is safe. The key of a root that retires is kept.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn advance_by_itself(self, step: Step, now: OffsetDateTime) -> Result<Self, Refused> {
        let mut kept = self.kept.clone();
        if let (Step::Retire, Phase::Retiring { old, .. }) = (step, &self.phase) {
            kept.push(KeptRoot { root: old.clone(), seconds: 0 });
        }
        Ok(Self { kept, ..self.advance(step, false, now)? })
    }

    /// Notes that a server ran for `seconds` more, and lets go of the roots that were kept for [`KEEP_KEY`].
    #[must_use]
    pub fn kept_for(mut self, seconds: u64) -> Self {
        self.kept.iter_mut().for_each(|kept| kept.seconds = kept.seconds.saturating_add(seconds));
        self.kept.retain(|kept| {
            i64::try_from(kept.seconds).is_ok_and(|seconds| seconds < KEEP_KEY.whole_seconds())
        });
        self
    }

    /// The step that is due at `now` by the schedule, if one is, and safe.
    pub fn due(&self, now: OffsetDateTime) -> Option<Step> {
        self.due_before(Duration::ZERO, now)
    }

    /// The same where it is as if every certificate lived for `longest`: the next root is published early enough for it
    /// to sign before the end of the active one.
    pub fn due_before(&self, longest: Duration, now: OffsetDateTime) -> Option<Step> {
        let next = self.planned(longest, now).into_iter().next()?;
        let due = next.automatic_at.is_some_and(|at| at <= now) && self.check(next.step, now).is_ok();
        due.then_some(next.step)
    }

    /// The steps until one root is left, in order; times that are not known yet are `None`.
    pub fn plan(&self, now: OffsetDateTime) -> Vec<PlannedStep> {
        self.planned(Duration::ZERO, now)
    }

    fn planned(&self, longest: Duration, now: OffsetDateTime) -> Vec<PlannedStep> {
        let step = |step, safe_from, automatic_at, why| PlannedStep { step, safe_from, automatic_at, why };
        let active = &self.active;
        let prepare = step(
            Step::Prepare,
            Some(now),
            Some(active.prepare_at(longest)),
            "automatic at half of the root's lifetime, at most 30 days before its end",
        );
        let publish = |safe| {
            step(
                Step::Publish,
                safe,
                Some(active.prepare_at(longest)),
                "automatic right after prepare; another root in the bundle breaks no connection",
            )
        };
        let activate = |safe: Option<OffsetDateTime>| {
            let at = active.activate_at();
            step(
                Step::Activate,
                safe,
                safe.map(|safe| safe.max(at)),
                "safe when all certificates that were issued before the publication have expired: until then a workload may not \
                 trust the next root; automatic from five sixths of the root's lifetime, at most 7 days before its end",
            )
        };
        let retire = |safe| {
            step(Step::Retire, safe, safe, "safe when all certificates that the old root signed have expired")
        };
        match &self.phase {
            Phase::Steady => {
                let destroy = step(Step::Retire, Some(now), None, DESTROYS);
                let first = (!self.kept.is_empty()).then_some(destroy);
                [prepare, publish(None), activate(None), retire(None)].into_iter().chain(first).collect()
            }
            Phase::Prepared { .. } => vec![publish(Some(now)), activate(None), retire(None)],
            Phase::Published { next, covered, .. } => {
                vec![activate(covered.map(|covered| covered.max(next.not_before))), retire(None)]
            }
            Phase::Retiring { covered, .. } => vec![retire(*covered)],
        }
    }
}

fn safe(
    step: Step,
    earliest: Option<OffsetDateTime>,
    breaks: &'static str,
    now: OffsetDateTime,
) -> Result<(), Refused> {
    match earliest {
        Some(earliest) if earliest <= now => Ok(()),
        _ => Err(Refused::Unsafe { step, earliest, breaks }),
    }
}

#[cfg(test)]
mod tests;
