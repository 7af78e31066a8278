//! The key material of the CA in Secrets, shared by all replicas.
//!
//! | Secret | content |
//! |---|---|
//! | `istio-ca-secret` | our own root: key, certificate and roots as istiod has them, the record of its rotation, next and retired roots |
//! | `eastwest-ca-state` | what else replicas share: key of JWT-SVIDs, what was in force last, revocation lists, number of the bundle |
//! | `cacerts` | a CA that is plugged in; only read |
//!
//! ```text
//! watch ─► kept (observed, accepted) ─► store ─► storage: files for eastwest-ca-server's RootManager
//!              ▲                          │
//!              └───── answer ◄── request ◄┘  compare and swap by resourceVersion
//! ```
//! A task keeps a copy of each Secret up to date. The thread of the `RootManager` reads these copies, judges what changed,
//! and writes. What was good stays in force when a Secret is deleted or damaged.

mod data;
mod files;
mod kept;
mod layout;
mod rules;
mod storage;
mod store;

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use eastwest_ca::{NewRoot, ServingNames, jwt::SvidKey};
use eastwest_ca_server::{
    KeyMaterial, PluggedSource, RootManager, RootsConfig, bundles::svid_key, storage::CaStorage,
};
use eastwest_kubernetes::{Api, Key, NamedObject, NamedSource, Statuses, Timing, Update};
use futures_util::FutureExt as _;
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};

use self::{
    data::Snapshot,
    kept::Observed,
    rules::Which,
    storage::Plugged,
    store::{Inner, Store},
};

/// The Secret with our own root.
pub const ROOTS_SECRET: &str = "istio-ca-secret";
/// The Secret with what else replicas share.
pub const SHARED_SECRET: &str = "eastwest-ca-state";
/// The Secret with a CA that is plugged in.
pub const PLUGGED_SECRET: &str = "cacerts";

/// The pause before the Secrets are tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often an error is repeated in the log.
const REPEAT: Duration = Duration::from_secs(60);

/// The Secrets of a CA, followed for as long as this lives.
pub struct CaSecrets {
    store: Store,
    source: NamedSource,
    problem: Mutex<Option<String>>,
}

impl CaSecrets {
    /// Follows the Secrets in `namespace`. `leads` says whether this replica may take steps of the rotation and put lost
    /// Secrets back; `longest` is the longest life of a certificate that any replica issues.
    ///
    /// The API does not have to be available yet. Must be called within a tokio runtime, which must not end before the
    /// CA.
    pub fn follow(
        api: &Api,
        namespace: &str,
        leads: watch::Receiver<bool>,
        longest: Duration,
        timing: Timing,
    ) -> Self {
        let longest = longest.try_into().unwrap_or(time::Duration::MAX);
        let store = Store(Arc::new(Inner::new(api.client(), namespace, leads, longest)));
        let object = |name: &str| NamedObject::Secret(Key { namespace: namespace.into(), name: name.into() });
        let names = BTreeSet::from([ROOTS_SECRET, SHARED_SECRET, PLUGGED_SECRET].map(object));
        let (source, updates) =
            NamedSource::start(api, timing, &names, |_, object| Snapshot::take(object.version, object.value));
        tokio::spawn(keep(Arc::clone(&store.0), updates));
        Self { store, source, problem: Mutex::default() }
    }

    /// The storage of the CA.
    pub fn storage(&self) -> Arc<dyn CaStorage> {
        Arc::new(self.store.clone())
    }

    /// Where a CA may be plugged in.
    pub fn plugged_in(&self) -> PluggedSource {
        let name = format!("{}/{PLUGGED_SECRET}", self.store.0.namespace);
        PluggedSource::Secret(Arc::new(Plugged { name, store: self.store.clone() }))
    }

    /// The state of the watches.
    pub fn statuses(&self) -> Statuses {
        self.source.statuses()
    }

    /// Why [`Self::open`] or [`Self::svid_key`] has not returned yet, for readiness; `None` if it has or has just begun.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens the CA: takes over what the Secrets have, or makes a root like `new_root` where there is none. Waits for the
    /// API and for Secrets that can be used, which a CA is that allows `serving_names`; each problem is logged when it
    /// appears, and once a minute.
    ///
    /// Then call [`RootManager::follow`].
    pub async fn open(
        &self,
        new_root: NewRoot,
        serving_names: ServingNames,
        automatic_rotation: bool,
    ) -> (RootManager, KeyMaterial) {
        let config = RootsConfig {
            state: self.storage(),
            plugged_in: Some(self.plugged_in()),
            new_root,
            // The mesh configuration decides it.
            keeps_trust_domain: false,
            serving_names,
            automatic_rotation,
        };
        let open = move || RootManager::open(config.clone(), OffsetDateTime::now_utc());
        self.persist(move || open().map_err(|error| error.to_string())).await
    }

    /// The key for JWT-SVIDs, which is made if there is none. Waits as [`Self::open`] does.
    pub async fn svid_key(&self) -> SvidKey {
        let storage = self.storage();
        self.persist(move || svid_key(&*storage).map_err(|error| error.to_string())).await
    }

    /// Repeats `attempt` until it succeeds; each problem is logged when it appears, and once a minute.
    async fn persist<T: Send + 'static>(
        &self,
        attempt: impl Fn() -> Result<T, String> + Clone + Send + 'static,
    ) -> T {
        let mut updates = self.store.0.updates.subscribe();
        let (mut pause, mut logged) = (FIRST_PAUSE, None);
        loop {
            updates.borrow_and_update();
            if let Some(problem) = self.unread() {
                // The watches log what fails.
                self.set_problem(Some(problem));
                let _ = timeout(FIRST_PAUSE, updates.changed()).await;
                continue;
            }
            let problem = match in_thread(attempt.clone()).await {
                Ok(outcome) => {
                    self.set_problem(None);
                    return outcome;
                }
                Err(problem) => problem,
            };
            self.log(&problem, &mut logged);
            self.set_problem(Some(problem));
            // A change ends the pause, but not the first part of it: the API must not be asked without end.
            sleep(FIRST_PAUSE).await;
            if timeout(pause, updates.changed()).await.is_err() {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Why the Secrets are not known yet.
    fn unread(&self) -> Option<String> {
        let unknown = |observed: &Observed| matches!(observed, Observed::Unknown);
        let own = Which::ALL.iter().any(|which| unknown(&self.store.0.kept(*which).get().observed));
        if !own && !unknown(&self.store.0.plugged()) {
            return None;
        }
        let reasons = self.statuses().unsynced(SystemTime::now());
        Some(if reasons.is_empty() {
            "the CA's Secrets have not been read yet".to_owned()
        } else {
            reasons.join("; ")
        })
    }

    fn log(&self, problem: &str, logged: &mut Option<(String, Instant)>) {
        let due = logged.as_ref().is_none_or(|(last, at)| last != problem || at.elapsed() >= REPEAT);
        if due {
            tracing::error!("the CA cannot start: {problem}");
            *logged = Some((problem.to_owned(), Instant::now()));
        }
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}

/// One attempt in a thread of its own, for it waits for answers.
async fn in_thread<T: Send + 'static>(
    attempt: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (done, outcome) = oneshot::channel();
    let run = move || {
        // Nobody waits any more if this fails.
        let _ = done.send(attempt());
    };
    let started = std::thread::Builder::new().name("ca-secrets".to_owned()).spawn(run);
    started.map_err(|error| format!("no thread can be started: {error}"))?;
    outcome.await.map_err(|_| "the attempt to open them panicked".to_owned())?
}

/// Takes up the updates until the source ends.
async fn keep(inner: Arc<Inner>, mut updates: mpsc::Receiver<Update<Snapshot>>) {
    loop {
        let taken = AssertUnwindSafe(async {
            while let Some(update) = updates.recv().await {
                inner.take_up(update);
            }
        });
        match taken.catch_unwind().await {
            Ok(()) => return,
            Err(_) => tracing::error!("the task that follows the CA's Secrets panicked and goes on"),
        }
    }
}
