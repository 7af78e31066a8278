//! All bundles that our workloads may trust, as agents get them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use eastwest_ca::SpiffeBundle;
use eastwest_identity::TrustDomain;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::{OwnBundle, federation::Foreign};

/// How often our own bundle is checked for changes.
const POLL: Duration = Duration::from_secs(1);

/// The bundles by trust domain: our own and those of others, each for itself.
pub type Published = BTreeMap<TrustDomain, SpiffeBundle>;

/// What agents follow, and the work of keeping it up to date, to be spawned.
pub fn publish(
    own: Arc<OwnBundle>,
    foreign: watch::Receiver<Arc<Foreign>>,
) -> (watch::Receiver<Arc<Published>>, impl Future<Output = ()> + Send + 'static) {
    let first = Arc::new(all(&own, &foreign.borrow()));
    let (sender, receiver) = watch::channel(first);
    (receiver, keep(own, foreign, sender))
}

async fn keep(
    own: Arc<OwnBundle>,
    mut foreign: watch::Receiver<Arc<Foreign>>,
    sender: watch::Sender<Arc<Published>>,
) {
    let mut federating = true;
    loop {
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            changed = foreign.changed(), if federating => federating = changed.is_ok(),
        }
        let next = all(&own, &foreign.borrow_and_update());
        sender.send_if_modified(|published| {
            let differs = **published != next;
            if differs {
                *published = Arc::new(next);
            }
            differs
        });
    }
}

/// Ours comes last, so that no other bundle replaces it.
fn all(own: &OwnBundle, foreign: &Foreign) -> Published {
    let mut all = foreign.clone();
    all.insert(own.trust_domain(), own.newest(OffsetDateTime::now_utc()));
    all
}
