//! The Secrets as the storage of a CA.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use eastwest_ca_server::{Place, StateError, storage::StateFiles};
use eastwest_kubernetes::Update;
use time::OffsetDateTime;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::watch,
};

use super::{
    data::{self, Data, Snapshot},
    files::Files,
    kept::{Kept, Observed},
    rules::{self, Which},
};
use crate::collection::{Collection, Failure};

/// Deadline of one request.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// How often a change is tried while others change the same Secret.
const ATTEMPTS: usize = 5;

/// What all handles share.
pub(super) struct Inner {
    pub(super) namespace: String,
    pub(super) leads: watch::Receiver<bool>,
    pub(super) longest: time::Duration,
    secrets: Collection,
    runtime: Handle,
    kept: Mutex<[Kept; 2]>,
    plugged: Mutex<Observed>,
    /// Notifies of each update.
    pub(super) updates: watch::Sender<()>,
    /// Held during a change: one at a time in this process.
    turn: Mutex<()>,
}

impl Inner {
    pub(super) fn new(
        client: kube::Client,
        namespace: &str,
        leads: watch::Receiver<bool>,
        longest: time::Duration,
    ) -> Self {
        Self {
            namespace: namespace.to_owned(),
            leads,
            longest,
            secrets: Collection::secrets(client, namespace, ANSWER),
            runtime: Handle::current(),
            kept: Mutex::default(),
            plugged: Mutex::default(),
            updates: watch::channel(()).0,
            turn: Mutex::default(),
        }
    }

    /// `NAMESPACE/NAME` of a Secret.
    pub(super) fn name(&self, which: Which) -> String {
        format!("{}/{}", self.namespace, which.name())
    }

    fn place(&self, which: Which) -> Place {
        Place::Secret(self.name(which))
    }

    /// What the API said of the Secret with a plugged-in CA.
    pub(super) fn plugged(&self) -> MutexGuard<'_, Observed> {
        self.plugged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up an update of the watches.
    pub(super) fn take_up(&self, update: Update<Snapshot>) {
        let name = update.object.as_ref().map(|key| key.name.to_string());
        let which = Which::ALL.into_iter().find(|which| Some(which.name()) == name.as_deref());
        match which {
            Some(which) => self.kept(which).get_mut().observe(update.delta),
            None => {
                let mut plugged = Kept::default();
                plugged.observe(update.delta);
                *self.plugged() = plugged.observed;
            }
        }
        self.updates.send_replace(());
    }

    /// What is known of a Secret.
    pub(super) fn kept(&self, which: Which) -> Held<'_> {
        Held(self.kept.lock().unwrap_or_else(PoisonError::into_inner), which)
    }

    pub(super) fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    /// The files in force.
    pub(super) fn files(&self, which: Which) -> Result<Files, StateError> {
        let kept = self.kept(which);
        let known = kept.get().in_force().map(|known| known.map(|known| known.data.clone()));
        let data = known.ok_or_else(|| self.unavailable(which, "it has not been read yet"))?;
        Ok(self.files_of(which, &data.unwrap_or_default()))
    }

    fn files_of(&self, which: Which, data: &Data) -> Files {
        Files::of(&self.name(which), data)
    }

    fn unavailable(&self, which: Which, reason: impl Into<String>) -> StateError {
        StateError::Unavailable { place: self.place(which), reason: reason.into() }
    }

    /// Changes a Secret: `edit` is run again on what others wrote if they were faster. With `only_absent`, a Secret that is
    /// there is taken up as it is, if it is good.
    pub(super) fn change(
        &self,
        which: Which,
        only_absent: bool,
        edit: &mut dyn FnMut(&dyn StateFiles) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.read(which)?;
            }
            let base = self.base(which)?;
            if let Some(base) = base.as_ref().filter(|_| which == Which::Roots) {
                rules::check(which, &self.files_of(which, &base.data), OffsetDateTime::now_utc())?;
                self.kept(which).get_mut().accepted = Some(base.clone());
                if only_absent {
                    return Ok(());
                }
            }
            let before = base.as_ref().map(|base| base.data.clone()).unwrap_or_default();
            let files = self.files_of(which, &before);
            edit(&files)?;
            rules::complete(which, &files)?;
            if self.write(which, base.as_ref(), &files.secret())? {
                return Ok(());
            }
        }
        Err(self.io(which, "write", Failure::Conflict.to_string()))
    }

    /// What a change begins with.
    fn base(&self, which: Which) -> Result<Option<Snapshot>, StateError> {
        let kept = self.kept(which);
        match (&kept.get().observed, &kept.get().accepted) {
            (Observed::Unknown, _) => Err(self.unavailable(which, "it has not been read yet")),
            (Observed::Present(snapshot), _) => Ok(Some(snapshot.clone())),
            (Observed::Absent, None) => Ok(None),
            (Observed::Absent, Some(_)) => Err(self.unavailable(which, "it was deleted")),
        }
    }

    /// Writes `data` in place of `base`; returns whether nobody else was faster.
    fn write(&self, which: Which, base: Option<&Snapshot>, data: &Data) -> Result<bool, StateError> {
        let (secrets, name) = (self.secrets.clone(), which.name());
        let answer = match base.map(|base| data::patch(base, data)) {
            Some(None) => {
                // Another process has written the same before; its content is what this change is based on.
                self.kept(which).get_mut().accepted = base.cloned();
                return Ok(true);
            }
            Some(Some(patch)) => self.wait(async move { secrets.patch(name, patch).await }),
            None => {
                let body = data::creation(name, which.kind(), data);
                self.wait(async move { secrets.create(body).await })
            }
        };
        match answer {
            Ok(text) => {
                let snapshot = Snapshot::parse(&text).map_err(|reason| self.io(which, "write", reason))?;
                self.kept(which).get_mut().wrote(snapshot);
                Ok(true)
            }
            Err(Failure::NotFound) if base.is_none() => {
                let namespace = &self.namespace;
                let reason = format!(
                    "there is no namespace {namespace}: create it, or name another one with --namespace"
                );
                Err(self.io(which, "write", reason))
            }
            Err(Failure::Conflict | Failure::NotFound) => Ok(false),
            Err(failure) => Err(self.io(which, "write", failure.to_string())),
        }
    }

    /// Reads a Secret anew.
    fn read(&self, which: Which) -> Result<Option<Snapshot>, StateError> {
        let (secrets, name) = (self.secrets.clone(), which.name());
        let found = match self.wait(async move { secrets.get(name).await }) {
            Ok(text) => Some(Snapshot::parse(&text).map_err(|reason| self.io(which, "read", reason))?),
            Err(Failure::NotFound) => None,
            Err(failure) => return Err(self.io(which, "read", failure.to_string())),
        };
        self.kept(which).get_mut().read(found.clone());
        Ok(found)
    }

    fn io(&self, which: Which, action: &'static str, reason: String) -> StateError {
        StateError::Io { action, place: self.place(which), source: io::Error::other(reason) }
    }

    /// Takes up what others wrote, and puts back what was lost if we lead; returns whether what is in force changed.
    pub(super) fn follow_up(&self, which: Which, now: OffsetDateTime) -> Result<bool, StateError> {
        let (observed, accepted) = {
            let kept = self.kept(which);
            (kept.get().observed.clone(), kept.get().accepted.clone())
        };
        let lost = match (observed, &accepted) {
            (Observed::Unknown, _) | (Observed::Absent, None) => return Ok(false),
            (Observed::Present(new), Some(accepted)) if new.version == accepted.version => return Ok(false),
            (Observed::Present(new), _) => match self.accept(which, new, now) {
                Ok(changed) => return Ok(changed),
                Err(error) if accepted.is_none() => return Err(error),
                Err(error) => error,
            },
            (Observed::Absent, Some(_)) => self.unavailable(which, "it was deleted"),
        };
        match accepted.filter(|_| self.leads()) {
            Some(accepted) => self.put_back(which, &accepted.data, &lost, now),
            None => Err(self.lost(which, &lost)),
        }
    }

    /// Takes up a content, if it is good; returns whether it differs from the one in force.
    fn accept(&self, which: Which, new: Snapshot, now: OffsetDateTime) -> Result<bool, StateError> {
        rules::check(which, &self.files_of(which, &new.data), now)?;
        let mut kept = self.kept(which);
        let before = kept.get_mut().accepted.replace(new.clone());
        Ok(before.is_none_or(|before| before.data != new.data))
    }

    fn lost(&self, which: Which, lost: &StateError) -> StateError {
        match lost {
            StateError::Unavailable { place, reason } => StateError::Unavailable {
                place: place.clone(),
                reason: format!("{reason}; the leader puts it back from its memory"),
            },
            other => self
                .unavailable(which, format!("is damaged ({other}); the leader puts it back from its memory")),
        }
    }

    /// Writes what is in force over what is there, unless that has become good meanwhile.
    fn put_back(
        &self,
        which: Which,
        data: &Data,
        lost: &StateError,
        now: OffsetDateTime,
    ) -> Result<bool, StateError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.read(which)?;
        if let Some(found) = &found
            && let Ok(changed) = self.accept(which, found.clone(), now)
        {
            return Ok(changed);
        }
        if self.write(which, found.as_ref(), data)? {
            let place = self.place(which);
            tracing::error!("{place} was put back from memory, for it was lost: {lost}");
        }
        Ok(false)
    }

    /// Waits for an answer, at most for its deadline. Works in threads of our own and in those of a runtime with several.
    fn wait<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, outcome) = mpsc::channel();
        self.runtime.spawn(async move { done.send(request.await) });
        let receive = || {
            let outcome = outcome.recv_timeout(ANSWER + Duration::from_secs(1));
            outcome.unwrap_or_else(|_| {
                Err(Failure::Other("the Kubernetes API does not answer in time".to_owned()))
            })
        };
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(receive),
            Ok(_) => Err(Failure::Other("there is no thread that could wait for the API".to_owned())),
            Err(_) => receive(),
        }
    }
}

/// What is known of a Secret, locked.
pub(super) struct Held<'a>(MutexGuard<'a, [Kept; 2]>, Which);

impl Held<'_> {
    pub(super) fn get(&self) -> &Kept {
        &self.0[self.1 as usize]
    }

    pub(super) fn get_mut(&mut self) -> &mut Kept {
        &mut self.0[self.1 as usize]
    }
}

/// A handle, as the CA has it.
#[derive(Clone)]
pub(super) struct Store(pub(super) Arc<Inner>);
