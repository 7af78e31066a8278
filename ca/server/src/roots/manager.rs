//! Keeps signer, roots and revocations equal to their sources.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use eastwest_ca::{
    CertificateSummary, Issuer as _, LocalIssuer, NewRoot, PluggedCa, Revocations, TrustBundle,
    plugged::{PluggedError, PluggedFiles},
};
use eastwest_io::{
    FolderWatch,
    watch::{Debounce, folder_id},
};
use thiserror::Error;
use time::OffsetDateTime;

use super::{
    memory::{self, Carried, InForce},
    plugged_dir::{Look, PluggedDir},
    rotator::Rotator,
};
use crate::{
    issuing::certificate_authority::CertificateAuthority,
    trust::{
        root_status::{Problems, RevocationStatus, RootStatus, Source, Subject, rfc3339},
        state_dir::{KeyMaterial, StateDir, StateError},
    },
};

/// How events in the folders are collected.
const DEBOUNCE: Debounce = Debounce { quiet: Duration::from_millis(100), limit: Duration::from_secs(1) };
/// The time between looks without any event.
const RESCAN: Duration = Duration::from_secs(1);
/// The time after which what was refused is judged again: it may have become valid.
const RETRY: time::Duration = time::Duration::seconds(10);
/// How long before its end somebody is told that a plugged-in CA needs a successor; at most a twelfth of its life.
const PLUGGED_NEAR_ITS_END: time::Duration = time::Duration::days(30);
/// The same for our own root.
const OWN_NEAR_ITS_END: time::Duration = time::Duration::days(3);

/// Where signer and roots may come from.
#[derive(Debug, Clone)]
pub struct RootsConfig {
    /// Keeps our own root, and the token key in any case. To be locked before.
    pub state: StateDir,
    /// A directory from which a CA may be plugged in, now or later.
    pub ca_dir: Option<PathBuf>,
    /// What a root is, if one must be made.
    pub new_root: NewRoot,
    /// Whether our own root is rotated automatically.
    pub automatic_rotation: bool,
}

/// Why the CA cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RootsError {
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The plugged-in CA cannot be used.
    #[error("{}: {source}", dir.display())]
    Plugged {
        /// Its directory.
        dir: PathBuf,
        /// The problem.
        source: PluggedError,
    },
    /// Its files cannot be read.
    #[error("the plugged-in CA cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Follows the sources of signer and roots, and installs what changed.
pub struct RootManager {
    state: StateDir,
    plugged: Option<PluggedDir>,
    judged: OffsetDateTime,
    source: Source,
    /// Of our own root; `None` where a CA is plugged in.
    rotator: Option<Rotator>,
    issuer: Arc<LocalIssuer>,
    /// What the source says.
    roots: TrustBundle,
    carried: Option<Carried>,
    revocations: Arc<Revocations>,
    problems: Problems,
    since: OffsetDateTime,
    reloads: u64,
}

impl RootManager {
    /// Reads the sources, or makes a root where there is none; returns what a CA starts with.
    ///
    /// # Errors
    /// An incomplete or bad plugged-in CA, or a state directory that cannot be used. Bad revocation lists are no
    /// reason not to start; they are told.
    pub fn open(config: RootsConfig, now: OffsetDateTime) -> Result<(Self, KeyMaterial), RootsError> {
        let RootsConfig { state, ca_dir, new_root, automatic_rotation } = config;
        let mut plugged = ca_dir.map(PluggedDir::new);
        let files = plugged.as_mut().map(PluggedDir::take).transpose()?.cloned().unwrap_or_default();
        let dir = plugged.as_ref().map(|plugged| plugged.path().to_owned());
        let (source, rotator, material) = match dir.filter(|_| !files.is_empty()) {
            Some(dir) => {
                let ca = PluggedCa::load(&files, now)
                    .map_err(|source| RootsError::Plugged { dir: dir.clone(), source })?;
                let material = KeyMaterial {
                    issuer: Arc::new(ca.issuer),
                    roots: ca.roots,
                    latest_expiry: Arc::new(state.latest_expiry()),
                    own_tokens: Some(state.own_tokens()?),
                };
                (Source::PluggedIn(dir), None, material)
            }
            None => {
                state.refuse_foreign_anchor()?;
                let material = state.load_or_create(&new_root, now)?;
                let rotator = Rotator::new(state.clone(), new_root, automatic_rotation, state.rotation()?);
                (Source::StateDir(state.path().to_owned()), Some(rotator), material)
            }
        };
        let before = InForce::read(&state)?.filter(|_| matches!(source, Source::PluggedIn(_)));
        let carried =
            before.and_then(|before| before.carry(&material.roots, material.latest_expiry.latest(), now));
        let revocations = plugged.as_ref().map(|_| memory::lists(&state, now)).transpose()?;
        let mut manager = Self {
            state,
            plugged,
            judged: now,
            source,
            rotator,
            issuer: Arc::clone(&material.issuer),
            roots: material.roots.clone(),
            carried,
            revocations: Arc::new(revocations.unwrap_or_default()),
            problems: Problems::default(),
            since: now,
            reloads: 0,
        };
        manager.tell_start();
        manager.judge_lists(&files, now);
        manager.judge_expiry(now);
        manager.publish()?;
        let material = KeyMaterial { roots: manager.all_roots(), ..material };
        Ok((manager, material))
    }

    /// Follows the sources in a thread of its own for as long as `ca` lives.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn follow(mut self, ca: &Arc<CertificateAuthority>) -> io::Result<()> {
        ca.set_root_status(self.status());
        let ca = Arc::downgrade(ca);
        thread::Builder::new().name("roots".to_owned()).spawn(move || self.run(&ca)).map(|_| ())
    }

    fn run(&mut self, ca: &Weak<CertificateAuthority>) {
        let mut watch = FolderWatch::new(DEBOUNCE);
        loop {
            let folders = [Some(self.state.path()), self.plugged.as_ref().map(PluggedDir::path)];
            let folders = folders.into_iter().flatten();
            watch.set(&folders.filter_map(|path| Some((path.to_owned(), folder_id(path)?))).collect());
            let Some(ca) = ca.upgrade() else { return };
            let soon = self.look(&ca, OffsetDateTime::now_utc());
            drop(ca);
            watch.wait(if soon { DEBOUNCE.quiet } else { RESCAN });
        }
    }

    /// Reads the sources and installs what changed; returns whether to read again soon.
    fn look(&mut self, ca: &CertificateAuthority, now: OffsetDateTime) -> bool {
        let (mut changed, mut soon) = (false, false);
        match self.plugged.as_mut().map(PluggedDir::look) {
            None | Some(Ok(Look::Unchanged)) => {
                if !self.problems.is_empty() && now - self.judged > RETRY {
                    let files = self.plugged.as_ref().map(|plugged| plugged.taken().clone());
                    changed |= self.judge(&files.unwrap_or_default(), ca, now);
                }
            }
            Some(Ok(Look::Settling)) => soon = true,
            Some(Ok(Look::Changed(files))) => changed |= self.judge(&files, ca, now),
            Some(Err(error)) => self.problems.found(Subject::PluggedInCa, error.to_string(), now),
        }
        if self.carried.as_ref().is_some_and(|carried| carried.until < now) {
            tracing::info!("the roots of the CA before are dropped: nothing that they signed is left");
            self.carried = None;
            changed = true;
        }
        changed |= self.look_at_rotation(ca, now);
        self.judge_expiry(now);
        if changed {
            self.install(ca, now);
        }
        ca.set_root_status(self.status());
        soon || self.rotator.as_ref().is_some_and(Rotator::is_busy)
    }

    /// Advances the rotation of our own root; returns whether anything must be installed.
    fn look_at_rotation(&mut self, ca: &CertificateAuthority, now: OffsetDateTime) -> bool {
        let Some(rotator) = &mut self.rotator else { return false };
        let found = rotator.look(&ca.latest_expiry(), now);
        let told = found.as_ref().map(|_| ()).map_err(|error| format!("{error}; signing goes on as before"));
        self.problems.note(Subject::StateDir, told, now);
        let Ok(Some(material)) = found else { return false };
        // The same signer is kept, so that no new serving certificate is needed.
        if !material.issuer.same_chain(&self.issuer) {
            self.issuer = material.issuer;
        }
        self.roots = material.roots;
        true
    }

    /// Checks the files of the plugged-in CA; returns whether anything must be installed.
    fn judge(&mut self, files: &PluggedFiles, ca: &CertificateAuthority, now: OffsetDateTime) -> bool {
        self.judged = now;
        let Some(dir) = self.plugged.as_ref().map(|plugged| plugged.path().to_owned()) else { return false };
        if files.is_empty() && matches!(self.source, Source::PluggedIn(_)) {
            let message = format!(
                "{}: the plugged-in CA is gone; signing goes on with the last one, but a restart would find none",
                dir.display()
            );
            self.problems.found(Subject::PluggedInCa, message, now);
            return false;
        }
        let mut changed = false;
        let loaded = (!files.is_empty()).then(|| PluggedCa::load(files, now)).transpose();
        let told = loaded
            .as_ref()
            .map(|_| ())
            .map_err(|error| format!("{}: {error}; signing goes on as before", dir.display()));
        self.problems.note(Subject::PluggedInCa, told, now);
        if let Ok(Some(loaded)) = loaded {
            changed |= self.adopt(loaded, Source::PluggedIn(dir), ca.latest_expiry().latest(), now);
        }
        self.judge_lists(files, now) || changed
    }

    /// Takes a CA, unless it is the one in force. Roots that it does not name stay trusted for as long as certificates
    /// live that lead to them.
    fn adopt(
        &mut self,
        ca: PluggedCa,
        source: Source,
        latest_expiry: OffsetDateTime,
        now: OffsetDateTime,
    ) -> bool {
        let same_roots = ca.roots.pem() == self.roots.pem();
        if same_roots && ca.issuer.same_chain(&self.issuer) {
            return false;
        }
        let lives = latest_expiry > now;
        if lives && !self.all_roots().contains(ca.issuer.root()) {
            tracing::warn!(
                until = %rfc3339(latest_expiry),
                "this root was in nobody's trust bundle before: workloads that have not renewed refuse certificates of \
                 the new CA; next time put the new root into root-cert.pem one lifetime earlier"
            );
        }
        self.carried = self.in_force().carry(&ca.roots, latest_expiry, now);
        self.issuer = Arc::new(ca.issuer);
        self.roots = ca.roots;
        self.source = source;
        self.rotator = None;
        true
    }

    /// Checks the revocation lists in `files`; returns whether the lists in force changed.
    fn judge_lists(&mut self, files: &PluggedFiles, now: OffsetDateTime) -> bool {
        let Some(plugged) = &self.plugged else { return false };
        let lists = PluggedCa::revocations(&self.issuer, &self.roots, files, now);
        let told = match &lists {
            Err(error) => Err(format!(
                "{}: ca-crl.pem: {error}; the lists before stay in force ({} revoked)",
                plugged.path().display(),
                self.revocations.len()
            )),
            Ok(lists) => match lists.overdue_since(now) {
                Some(since) => Err(format!(
                    "{}: ca-crl.pem: a newer list should be there since {}; this one stays in force",
                    plugged.path().display(),
                    rfc3339(since)
                )),
                None => Ok(()),
            },
        };
        self.problems.note(Subject::RevocationLists, told, now);
        let Some(lists) = lists.ok().filter(|lists| *lists != *self.revocations) else { return false };
        tracing::info!(revoked = lists.len(), lists = lists.lists(), "revocation lists taken");
        if let Err(error) = memory::remember_lists(&self.state, &lists) {
            self.problems.found(Subject::StateDir, error.to_string(), now);
        }
        self.revocations = Arc::new(lists);
        true
    }

    fn judge_expiry(&mut self, now: OffsetDateTime) {
        let (from, until) = self.issuer.validity();
        let (early, what) = match &self.source {
            // A rotation should have replaced it before.
            Source::StateDir(_) => (OWN_NEAR_ITS_END, "see `eastwest ca rotate`".to_owned()),
            Source::PluggedIn(dir) => {
                (PLUGGED_NEAR_ITS_END, format!("put its successor into {}", dir.display()))
            }
        };
        let near = now > until - early.min((until - from) / 12);
        let told = match near {
            true => Err(format!("the signing chain ends at {}: {what}", rfc3339(until))),
            false => Ok(()),
        };
        self.problems.note(Subject::Expiry, told, now);
    }

    fn install(&mut self, ca: &CertificateAuthority, now: OffsetDateTime) {
        // The trust anchor is written first: its readers must trust what is signed next.
        if let Err(error) = self.publish() {
            self.problems.found(Subject::StateDir, error.to_string(), now);
        }
        match ca.install(&self.issuer, self.all_roots(), now) {
            Ok(replaced) => {
                if let Some(rotator) = &mut self.rotator {
                    rotator.installed(replaced);
                }
                (self.since, self.reloads) = (now, self.reloads + 1);
                let root = CertificateSummary::of(self.issuer.root()).map(|root| root.sha256);
                tracing::info!(source = ?self.source, root_sha256 = root, "signer and roots replaced");
            }
            Err(error) => self.problems.found(Subject::StateDir, error.to_string(), now),
        }
    }

    /// Writes the trust anchor for agents, and what the next server must know.
    fn publish(&self) -> Result<(), StateError> {
        self.in_force().write(&self.state)?;
        self.state.publish_roots(&self.roots_on_file())
    }

    fn in_force(&self) -> InForce {
        let (root, roots) = (self.issuer.root().clone(), self.roots.clone());
        InForce { root, roots, carried: self.carried.clone() }
    }

    /// What peers trust, with what is revoked.
    fn all_roots(&self) -> TrustBundle {
        self.roots_on_file().with_revocations(Arc::clone(&self.revocations))
    }

    fn roots_on_file(&self) -> TrustBundle {
        let roots = self.roots.clone();
        self.carried.as_ref().map_or_else(|| roots.clone(), |carried| roots.clone().and(&carried.roots))
    }

    fn tell_start(&self) {
        match (&self.source, &self.plugged) {
            (Source::PluggedIn(dir), _) => {
                tracing::info!(dir = %dir.display(), "signing with the plugged-in CA")
            }
            (Source::StateDir(state), Some(plugged)) => tracing::warn!(
                "no CA in {} yet; signing with our own root of {} until one appears",
                plugged.path().display(),
                state.display()
            ),
            (Source::StateDir(_), None) => {}
        }
    }

    fn status(&self) -> RootStatus {
        let all_roots = self.all_roots();
        let chain = self.issuer.intermediates().iter().chain([self.issuer.root()]);
        RootStatus {
            source: self.source.clone(),
            since: rfc3339(self.since),
            reloads: self.reloads,
            signing_chain: chain.filter_map(CertificateSummary::of).collect(),
            roots: all_roots.certificates().filter_map(CertificateSummary::of).collect(),
            revocations: RevocationStatus {
                lists: self.revocations.lists(),
                certificates: self.revocations.len(),
                overdue_since: self.revocations.overdue_since(OffsetDateTime::now_utc()).map(rfc3339),
            },
            rotation: self.rotator.as_ref().map(|rotator| rotator.rotation().clone()),
            problems: self.problems.all(),
        }
    }
}
