//! Keeps signer, roots and revocations equal to their sources.

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use eastwest_ca::{
    CertificateSummary, Issuer as _, LocalIssuer, Needs, PluggedCa, Revocations, TrustBundle,
    plugged::PluggedFiles,
    wall_clock::{Belief, Reading, WallClock},
};
use eastwest_io::{
    FolderWatch, defects,
    watch::{Debounce, folder_id},
};
use time::OffsetDateTime;

use super::{
    config::{RootsConfig, RootsError},
    memory::{self, Carried, InForce},
    plugged_source::{Look, PluggedIn},
    rotator::{Moment, Rotator},
    start::{OwnRoot, Start, tell},
};
use crate::{
    issuing::certificate_authority::CertificateAuthority,
    trust::{
        key_material::KeyMaterial,
        latest_expiry::LatestExpiry,
        root_status::{Problems, RevocationStatus, RootStatus, Source, Subject, rfc3339},
        state_error::StateError,
        storage::CaStorage,
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

/// Follows the sources of signer and roots, and installs what changed.
pub struct RootManager {
    state: Arc<dyn CaStorage>,
    plugged: Option<PluggedIn>,
    /// What a plugged-in CA must be able to certify.
    needs: Needs,
    judged: OffsetDateTime,
    source: Source,
    /// Whether this process was the one that writes what is in force.
    writer: bool,
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
    clock: WallClock,
    /// The beginning of real time.
    began: Instant,
}

impl RootManager {
    /// Reads the sources, or makes a root where there is none; returns what a CA starts with.
    ///
    /// # Errors
    /// An incomplete or bad plugged-in CA, or a state directory that cannot be used. Bad revocation lists are no
    /// reason not to start; they are told.
    pub fn open(config: RootsConfig, now: OffsetDateTime) -> Result<(Self, KeyMaterial), RootsError> {
        let RootsConfig {
            state,
            plugged_in,
            new_root,
            keeps_trust_domain,
            serving_names,
            automatic_rotation,
        } = config;
        let needs = Needs { trust_domain: new_root.trust_domain.clone(), serving: serving_names };
        let own = OwnRoot { new_root, keeps_trust_domain, automatic_rotation };
        let mut plugged = plugged_in.map(PluggedIn::new);
        let files = plugged.as_mut().map(PluggedIn::take).transpose()?.cloned().unwrap_or_default();
        let Start { source, rotator, material } =
            Start::with(&state, plugged.as_ref(), &files, own, &needs, now)?;
        let before = InForce::read(&*state)?.filter(|_| !matches!(source, Source::StateDir(_)));
        let carried = before.and_then(|before| {
            let until = material.latest_expiry.horizon(before.end(), now);
            before.carry(&material.roots, until, now)
        });
        let revocations = plugged.as_ref().map(|_| memory::lists(&*state, now)).transpose()?;
        let mut manager = Self {
            writer: state.is_writer(),
            state,
            plugged,
            needs,
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
            clock: WallClock::new(Reading { wall: now, running: Duration::ZERO }),
            began: Instant::now(),
        };
        tell(&manager.source, manager.plugged.as_ref());
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
        thread::Builder::new().name("roots".to_owned()).spawn(move || {
            defects::vital("the thread that follows the roots", || self.run(&ca));
        })?;
        Ok(())
    }

    fn run(&mut self, ca: &Weak<CertificateAuthority>) {
        let mut watch = FolderWatch::new(DEBOUNCE);
        loop {
            let plugged = self.plugged.as_ref().and_then(|plugged| plugged.source().folder());
            let folders = [self.state.folder(), plugged];
            let folders = folders.into_iter().flatten();
            watch.set(&folders.filter_map(|path| Some((path.to_owned(), folder_id(path)?))).collect());
            let Some(ca) = ca.upgrade() else { return };
            let now = Reading { wall: OffsetDateTime::now_utc(), running: self.began.elapsed() };
            let soon = self.look(&ca, now);
            drop(ca);
            watch.wait(if soon { DEBOUNCE.quiet } else { RESCAN });
        }
    }

    /// Reads the sources and installs what changed; returns whether to read again soon.
    fn look(&mut self, ca: &CertificateAuthority, reading: Reading) -> bool {
        let (moment, now) = (self.moment(reading), reading.wall);
        defects::fault("roots");
        let (mut changed, mut soon) = (false, false);
        match self.plugged.as_mut().map(PluggedIn::look) {
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
        if moment.may_step && self.carried.as_ref().is_some_and(|carried| carried.until < now) {
            self.clock.stepped(reading);
            tracing::info!("the roots of the CA before are dropped: nothing that they signed is left");
            self.carried = None;
            changed = true;
        }
        changed |= self.look_at_state(ca, moment);
        self.judge_expiry(now);
        let was_writer = std::mem::replace(&mut self.writer, self.state.is_writer());
        if changed {
            self.install(ca, now);
        } else if self.writer && !was_writer {
            self.publish_or_tell(now);
            if self.source.is_plugged_in() {
                self.remember_lists(now);
            }
        }
        ca.set_root_status(self.status());
        soon || self.rotator.as_ref().is_some_and(Rotator::is_busy)
    }

    /// Holds the wall clock against real time, and tells if it was set.
    fn moment(&mut self, now: Reading) -> Moment {
        let (from, until) = self.issuer.validity();
        let life = Duration::try_from(until - from).unwrap_or_default();
        let belief = self.clock.see(now, life);
        let told = match belief {
            Belief::Agrees => Ok(()),
            Belief::WasSet(by) => Err(format!(
                "the wall clock was set by about {} seconds; no root is replaced and none retires until it is back or goes on for an hour: set it right, or restart this process if it is right now",
                by.whole_seconds() / 10 * 10
            )),
        };
        self.problems.note(Subject::Clock, told, now.wall);
        let is_believed = belief == Belief::Agrees;
        Moment { now, is_believed, may_step: is_believed && self.clock.may_step(now, life) }
    }

    /// Takes up what others wrote, and advances the rotation of our own root; returns whether anything must be installed.
    fn look_at_state(&mut self, ca: &CertificateAuthority, moment: Moment) -> bool {
        let now = moment.now.wall;
        if self.rotator.is_none() && self.source_is_directory() {
            return false;
        }
        let latest_expiry = ca.latest_expiry();
        let refreshed = self.state.refresh(self.rotator.is_some(), now);
        let replaced = *refreshed.as_ref().unwrap_or(&false);
        let found = match &mut self.rotator {
            Some(rotator) => {
                let before = rotator.steps();
                let found = rotator.look(&latest_expiry, replaced, moment);
                if rotator.steps() != before {
                    self.clock.stepped(moment.now);
                }
                found
            }
            None => Ok(None),
        };
        let told = match (refreshed, &found) {
            (Err(error), _) => Err(format!("{error}; signing goes on as before")),
            (_, Err(error)) => Err(format!("{error}; signing goes on as before")),
            (Ok(_), Ok(_)) => Ok(()),
        };
        self.problems.note(self.subject(), told, now);
        let Ok(Some(found)) = found else { return false };
        let same_signer = found.issuer.same_chain(&self.issuer);
        let in_force = self.rotator.as_ref().is_some_and(Rotator::is_in_force);
        if same_signer && in_force && found.bundle.pem() == self.roots.pem() {
            return false;
        }
        if replaced && !found.bundle.contains(self.issuer.root()) {
            let until = self.horizon(&latest_expiry, now);
            self.carried = self.in_force().carry(&found.bundle, until, now);
        }
        // The same signer is kept, so that no new serving certificate is needed.
        if !same_signer {
            self.issuer = found.issuer;
        }
        self.roots = found.bundle;
        true
    }

    /// When nothing lives any more that was signed until now.
    fn horizon(&self, latest_expiry: &LatestExpiry, now: OffsetDateTime) -> OffsetDateTime {
        latest_expiry.horizon(self.issuer.validity().1, now)
    }

    fn source_is_directory(&self) -> bool {
        matches!(self.state.source(), Source::StateDir(_))
    }

    /// The subject of problems with our own state.
    fn subject(&self) -> Subject {
        if self.source_is_directory() { Subject::StateDir } else { Subject::Secret }
    }

    /// Checks the files of the plugged-in CA; returns whether anything must be installed.
    fn judge(&mut self, files: &PluggedFiles, ca: &CertificateAuthority, now: OffsetDateTime) -> bool {
        self.judged = now;
        let Some(from) = self.plugged.as_ref().map(|plugged| plugged.source().clone()) else { return false };
        let place = from.place();
        if files.is_empty() && self.source.is_plugged_in() {
            let message = format!(
                "{place}: the plugged-in CA is gone; signing goes on with the last one, but a restart would find none"
            );
            self.problems.found(Subject::PluggedInCa, message, now);
            return false;
        }
        let mut changed = false;
        self.needs.trust_domain = ca.trust_domain();
        let loaded = (!files.is_empty()).then(|| PluggedCa::load(files, &self.needs, now)).transpose();
        let told = loaded
            .as_ref()
            .map(|_| ())
            .map_err(|error| format!("{place}: {error}; signing goes on as before"));
        self.problems.note(Subject::PluggedInCa, told, now);
        if let Ok(Some(loaded)) = loaded {
            let until = self.horizon(&ca.latest_expiry(), now);
            changed |= self.adopt(loaded, from.source(), until, now);
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
        let Some(place) = self.plugged.as_ref().map(|plugged| plugged.source().place()) else { return false };
        let lists = PluggedCa::revocations(&self.issuer, &self.roots, files, now);
        let told = match &lists {
            Err(error) => Err(format!(
                "{place}: ca-crl.pem: {error}; the lists before stay in force ({} revoked)",
                self.revocations.len()
            )),
            Ok(lists) => match lists.overdue_since(now) {
                Some(since) => Err(format!(
                    "{place}: ca-crl.pem: a newer list should be there since {}; this one stays in force",
                    rfc3339(since)
                )),
                None => Ok(()),
            },
        };
        self.problems.note(Subject::RevocationLists, told, now);
        let Some(lists) = lists.ok().filter(|lists| *lists != *self.revocations) else { return false };
        tracing::info!(revoked = lists.len(), lists = lists.lists(), "revocation lists taken");
        self.revocations = Arc::new(lists);
        self.remember_lists(now);
        true
    }

    fn judge_expiry(&mut self, now: OffsetDateTime) {
        let (from, until) = self.issuer.validity();
        let (early, what) = match &self.source {
            // A rotation should have replaced it before.
            Source::StateDir(_) => (OWN_NEAR_ITS_END, "see `eastwest ca rotate`".to_owned()),
            Source::Secret(_) => (OWN_NEAR_ITS_END, "it should have been rotated before".to_owned()),
            Source::PluggedIn(_) | Source::PluggedInSecret(_) => {
                (PLUGGED_NEAR_ITS_END, format!("put its successor into {}", self.source))
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
        self.publish_or_tell(now);
        match ca.install(&self.issuer, self.all_roots(), now) {
            Ok(replaced) => {
                if let Some(rotator) = &mut self.rotator {
                    rotator.installed(replaced);
                }
                (self.since, self.reloads) = (now, self.reloads + 1);
                let root = CertificateSummary::of(self.issuer.root()).map(|root| root.sha256);
                tracing::info!(source = ?self.source, root_sha256 = root, "signer and roots replaced");
            }
            Err(error) => self.problems.found(self.subject(), error.to_string(), now),
        }
    }

    fn publish_or_tell(&mut self, now: OffsetDateTime) {
        if let Err(error) = self.publish() {
            self.problems.found(self.subject(), error.to_string(), now);
        }
    }

    fn remember_lists(&mut self, now: OffsetDateTime) {
        if !self.state.is_writer() {
            return;
        }
        if let Err(error) = memory::remember_lists(&*self.state, &self.revocations) {
            self.problems.found(self.subject(), error.to_string(), now);
        }
    }

    /// Writes the trust anchor for agents, and what the next server must know.
    fn publish(&self) -> Result<(), StateError> {
        if !self.state.is_writer() {
            return Ok(());
        }
        self.in_force().write(&*self.state)?;
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
