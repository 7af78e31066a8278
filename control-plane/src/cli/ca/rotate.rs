//! `eastwest ca rotate`: the rotation of the root and its next step.

use std::{path::Path, thread, time::Duration};

use clap::{Args, ValueEnum};
use eastwest_ca::{
    NewKey,
    rotation::{Phase, Refused, RootSlot, Step},
};
use eastwest_ca_server::{
    StateDir, StateError,
    roots::{
        RotateError,
        manual_rotation::{self, RotationView},
    },
};
use eastwest_io::stdio;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{super::Mistyped, Exit, Failure, Result};
use crate::{
    config::{Problems, duration},
    output::{OutputArgs, table},
};

/// Between two looks at the clock while waiting for a safe time.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(
    after_help = "A rotation has four steps. prepare creates the next root; publish adds it to the trust bundle of all \
    workloads; activate signs with it; retire removes the old root. A server with --root-rotation auto takes the steps \
    itself when they are due. A manual step is refused as long as it would break connections.\n\n\
    Example:\n  eastwest ca rotate\n  eastwest ca rotate --step prepare\n  eastwest ca rotate --step publish\n  \
    eastwest ca rotate --step activate --wait\n  eastwest ca rotate --step retire --wait"
)]
pub(super) struct RotateArgs {
    /// The step to take [default: none; show the plan].
    #[arg(long, value_enum, env = "EASTWEST_ROTATE_STEP")]
    step: Option<StepArg>,
    /// Wait until the step is safe, instead of refusing it.
    #[arg(long, env = "EASTWEST_ROTATE_WAIT")]
    wait: bool,
    /// Take the step although it is not safe. The output says which connections break.
    #[arg(long, env = "EASTWEST_ROTATE_FORCE", conflicts_with = "wait")]
    force: bool,
    /// For prepare: type of the key of the next root, p256 or p384 [default: as the root before].
    #[arg(long, value_name = "KIND", env = "EASTWEST_ROOT_KEY_TYPE")]
    root_key_type: Option<String>,
    /// For prepare: lifetime of the next root [default: as the root before].
    #[arg(long, value_name = "DURATION", env = "EASTWEST_ROOT_TTL")]
    root_ttl: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// The steps on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StepArg {
    /// Create the next root. It is not given to anybody yet.
    Prepare,
    /// Add it to the trust bundle. Workloads get it when they renew.
    Publish,
    /// Sign with the next root.
    Activate,
    /// Remove the old root from the trust bundle and destroy its key, and the keys of roots that retired by themselves.
    Retire,
    /// Remove the next root before it signs.
    Abandon,
    /// Sign with the root before again, whose key is still there. The present one stays trusted.
    Restore,
}

impl From<StepArg> for Step {
    fn from(step: StepArg) -> Self {
        match step {
            StepArg::Prepare => Self::Prepare,
            StepArg::Publish => Self::Publish,
            StepArg::Activate => Self::Activate,
            StepArg::Retire => Self::Retire,
            StepArg::Abandon => Self::Abandon,
            StepArg::Restore => Self::Restore,
        }
    }
}

impl RotateArgs {
    pub(super) fn run(self, state_dir: &Path, now: OffsetDateTime) -> Result {
        let mut problems = Problems::default();
        let key: Option<Option<NewKey>> =
            problems.take("--root-key-type", self.root_key_type.as_deref().map(str::parse).transpose());
        let life = problems.take("--root-ttl", self.root_ttl.as_deref().map(duration).transpose());
        let (Some(key), Some(life)) = (key, life) else { return Err(Failure::Usage(problems)) };
        let opened = StateDir::open_existing(state_dir).and_then(|state| state.load(now).map(drop));
        if let Err(error @ StateError::NoCa(_)) = opened {
            let said = format!(
                "{error}. In Kubernetes mode the root is in the Secret istio-ca-secret: its leader takes each step when it is \
                 due, and `kubectl get secret istio-ca-secret -n istio-system -o jsonpath='{{.data.rotation\\.json}}' | base64 \
                 -d` tells how far it is"
            );
            return Err(Mistyped(said).into());
        }
        let view = match self.step {
            None => manual_rotation::view(state_dir, now)?,
            Some(step) => self.take(state_dir, step.into(), key, life)?,
        };
        self.output.print(&view, describe)?;
        Ok(Exit::Success)
    }

    fn take(
        &self,
        state_dir: &Path,
        step: Step,
        key: Option<NewKey>,
        life: Option<Duration>,
    ) -> anyhow::Result<RotationView> {
        let attempt = |force| {
            let like = |mut new: eastwest_ca::NewRoot| {
                new.key = key.unwrap_or(new.key);
                new.life = life.unwrap_or(new.life);
                new
            };
            manual_rotation::rotate(state_dir, step, like, force, OffsetDateTime::now_utc())
        };
        let mut waited = false;
        loop {
            match attempt(false) {
                Err(RotateError::Refused(Refused::Unsafe { .. })) if self.wait => {
                    waited = true;
                    thread::sleep(LOOK);
                }
                // The server took it by itself when it was safe.
                Err(RotateError::Refused(Refused::Order { .. })) if waited => {
                    return Ok(manual_rotation::view(state_dir, OffsetDateTime::now_utc())?);
                }
                Err(RotateError::Refused(refused @ Refused::Unsafe { .. })) if self.force => {
                    stdio::stderr().line(&format!("warning: forced. {refused}"));
                    return Ok(attempt(true)?);
                }
                Err(RotateError::Refused(refused @ Refused::Unsafe { .. })) => anyhow::bail!(
                    "{refused}. Nothing was changed. Wait with --wait; --force does it all the same"
                ),
                taken => return Ok(taken?),
            }
        }
    }
}

fn describe(view: &RotationView) -> String {
    let server = if view.served { "a server runs" } else { "no server runs" };
    let mut text = format!("state directory  {} ({server})\n", view.state_dir.display());
    text += &format!("signs            {}\n", root(view.rotation.active()));
    match view.rotation.phase() {
        Phase::Steady => {}
        Phase::Prepared { next } => text += &format!("next             {}, not published\n", root(next)),
        Phase::Published { next, since, .. } => {
            text += &format!("next             {}, published since {}\n", root(next), date(*since));
        }
        Phase::Retiring { old, since, .. } => {
            text += &format!("retiring         {}, since {}\n", root(old), date(*since));
        }
    }
    for kept in view.rotation.kept() {
        text +=
            &format!("key kept         {}, retired by itself; --step retire destroys it\n", root(&kept.root));
    }
    let until = view.issued_until.as_deref().unwrap_or("nothing was issued yet");
    text += &format!("issued until     {until}\n\n");
    let or = |time: Option<OffsetDateTime>, unknown: &str| time.map_or(unknown.to_owned(), date);
    let rows = view.plan.iter().map(|step| {
        [step.step.to_string(), or(step.safe_from, "-"), or(step.automatic_at, "-"), step.why.to_owned()]
    });
    text + &table(["STEP", "SAFE FROM", "AUTOMATIC", "WHY"], rows)
}

fn root(root: &RootSlot) -> String {
    let short = root.sha256.get(..16).unwrap_or(&root.sha256);
    format!("root {} (sha256 {short}…), until {}", root.generation, date(root.not_after))
}

fn date(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time);
    time.format(&Rfc3339).unwrap_or_default()
}
