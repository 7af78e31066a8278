//! The bundle of our own trust domain and its number, which is kept with the state of the CA.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use eastwest_ca::{SpiffeBundle, jwt::SvidKey, spiffe_bundle::Published};
use eastwest_identity::TrustDomain;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    issuing::certificate_authority::CertificateAuthority,
    trust::{
        root_files::RootFiles,
        state_dir::StateDir,
        state_error::StateError,
        storage::{Access, CaStorage, StateFiles},
    },
};

/// The default refresh hint for consumers (recommended by SPIFFE Federation §4.1).
pub const DEFAULT_REFRESH_HINT: Duration = Duration::from_secs(300);

/// Which content was published last, under which number and with which hint.
const RECORD: &str = "bundle-sequence.json";

/// The file [`RECORD`].
#[derive(Serialize, Deserialize)]
struct Record {
    /// The refresh hint is part of the content, so a publisher without a hint uses the last one.
    spiffe_refresh_hint: u64,
    #[serde(flatten)]
    published: Published,
}

/// The newest bundle of our own domain. Its number rises with every change, also across restarts.
pub struct OwnBundle {
    ca: Arc<CertificateAuthority>,
    state: Arc<dyn CaStorage>,
    refresh_hint: Duration,
    svid_key: Arc<SvidKey>,
    last: Mutex<Option<Last>>,
}

struct Last {
    content: SpiffeBundle,
    published: Published,
}

impl OwnBundle {
    /// The bundle of `ca`, which keeps its state in `state`.
    ///
    /// # Errors
    /// The key for JWT-SVIDs cannot be read or made.
    pub fn new(
        ca: Arc<CertificateAuthority>,
        state: impl Into<Arc<dyn CaStorage>>,
        refresh_hint: Duration,
    ) -> Result<Self, StateError> {
        let state = state.into();
        let svid_key = svid_key(&*state)?;
        Ok(Self::with_key(ca, state, refresh_hint, svid_key))
    }

    /// The bundle of `ca`, which keeps its state in `state`, with the key for JWT-SVIDs that is there ([`svid_key`]).
    pub fn with_key(
        ca: Arc<CertificateAuthority>,
        state: Arc<dyn CaStorage>,
        refresh_hint: Duration,
        svid_key: SvidKey,
    ) -> Self {
        Self { ca, state, refresh_hint, svid_key: Arc::new(svid_key), last: Mutex::default() }
    }

    /// Whose bundle it is.
    pub fn trust_domain(&self) -> TrustDomain {
        self.ca.trust_domain()
    }

    /// The key of our JWT-SVIDs, whose public half is in the bundle.
    pub fn svid_key(&self) -> Arc<SvidKey> {
        Arc::clone(&self.svid_key)
    }

    /// The bundle as it is at `now`. If its number cannot be kept on record, which is logged, it rises nevertheless.
    pub fn newest(&self, now: OffsetDateTime) -> SpiffeBundle {
        let content = self.ca.bundle().with_jwt_keys(vec![self.svid_key.public()]);
        let content = content.refreshed_every(self.refresh_hint);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let published = match &*last {
            Some(known) if known.content == content => known.published.clone(),
            known => {
                let before = known.as_ref().map(|known| &known.published);
                record(&*self.state, &content, now).unwrap_or_else(|error| {
                    tracing::error!(%error, "the number of the trust bundle is not on record");
                    Published::next(before, &content, now)
                })
            }
        };
        let sequence = published.sequence;
        *last = Some(Last { content: content.clone(), published });
        content.numbered(sequence)
    }
}

/// The key for JWT-SVIDs in `state`. It is made if there is none.
///
/// # Errors
/// It cannot be read or made.
pub fn svid_key(state: &dyn CaStorage) -> Result<SvidKey, StateError> {
    RootFiles::of(state).svid_key()
}

/// The bundle of the CA in the state directory `dir`, as a server would publish it.
///
/// # Errors
/// There is no CA, or it cannot be used.
pub fn of_state_dir(dir: &Path, now: OffsetDateTime) -> Result<SpiffeBundle, StateError> {
    let state = StateDir::open_existing(dir)?;
    let roots = state.load(now)?.roots;
    let last = state.read(RECORD).ok().flatten();
    let hint = parse(last.as_ref().map(|record| record.as_slice()))
        .map(|record| Duration::from_secs(record.spiffe_refresh_hint));
    let content = SpiffeBundle::of_roots(&roots).with_jwt_keys(vec![state.roots().svid_key()?.public()]);
    let content = content.refreshed_every(hint.unwrap_or(DEFAULT_REFRESH_HINT));
    let published = record(&state, &content, now)?;
    Ok(content.numbered(published.sequence))
}

/// What was published last; none if that is not known, and then the next number still is a greater one.
fn parse(record: Option<&[u8]>) -> Option<Record> {
    serde_json::from_slice(record?).ok()
}

/// Puts `content` on record, unless it is there already, and tells its number.
fn record(
    state: &dyn CaStorage,
    content: &SpiffeBundle,
    now: OffsetDateTime,
) -> Result<Published, StateError> {
    let mut numbered = None;
    state.update(RECORD, Access::Private, &mut |before| {
        let before = parse(before).map(|record| record.published);
        let published = Published::next(before.as_ref(), content, now);
        let changed = before.as_ref() != Some(&published);
        let spiffe_refresh_hint = content.refresh_hint().unwrap_or(DEFAULT_REFRESH_HINT).as_secs();
        numbered = Some(published.clone());
        let record = Record { spiffe_refresh_hint, published };
        changed.then(|| serde_json::to_vec(&record).expect("numbers and text always become JSON"))
    })?;
    Ok(numbered.unwrap_or_else(|| Published::next(None, content, now)))
}
