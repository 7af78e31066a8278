//! The trust bundles that the control plane publishes: those of other trust domains, and that of the workload's own,
//! which may be newer than the roots that came with its certificate.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use eastwest_ca::SpiffeBundle;
use eastwest_identity::TrustDomain;
use eastwest_proto::eastwest::v1::{
    FollowTrustBundlesRequest, TrustBundles, workload_identity_client::WorkloadIdentityClient,
};
use tokio::{sync::watch, time::sleep};
use tonic::Code;

use crate::certificate::{
    client::{CaClient, IssueError},
    rotation::HeldCertificate,
};

/// Bundles by trust domain. Bundles of different domains are never merged.
pub(crate) type Bundles = BTreeMap<TrustDomain, SpiffeBundle>;

/// Shortest and longest time between two attempts.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Time between two attempts when the control plane publishes no bundles, as istiod does not.
const UNKNOWN: Duration = Duration::from_secs(600);

/// Keeps `bundles` equal to what the control plane publishes, once a certificate is held. While the control plane is
/// unreachable the last ones stay. Ends with the rotation of certificates.
pub(crate) async fn follow(
    client: CaClient,
    mut held: HeldCertificate,
    bundles: watch::Sender<Arc<Bundles>>,
) {
    let (mut attempt, [mut pause, longest]) = (0, RETRY);
    loop {
        if held.svid.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let mut answered = false;
        let error = stream(&client, &held, attempt, &bundles, &mut answered).await.err();
        attempt = if answered { 0 } else { attempt + 1 };
        pause = if answered { RETRY[0] } else { (2 * pause).min(longest) };
        let wait = match &error {
            Some(IssueError::Refused(status)) if status.code() == Code::Unimplemented => UNKNOWN,
            _ => pause,
        };
        if let Some(error) = error {
            tracing::debug!("no trust bundles from the control plane: {error}; next attempt in {wait:?}");
        }
        sleep(wait).await;
    }
}

/// One stream, until it ends.
async fn stream(
    client: &CaClient,
    held: &HeldCertificate,
    attempt: u32,
    bundles: &watch::Sender<Arc<Bundles>>,
    answered: &mut bool,
) -> Result<(), IssueError> {
    let current = held.svid.borrow().clone();
    let (channel, token) = client.open(current.as_deref(), attempt).await?;
    let request = client.request(FollowTrustBundlesRequest {}, token);
    let refused = |status| IssueError::Refused(Box::new(status));
    let answers = WorkloadIdentityClient::new(channel).follow_trust_bundles(request).await;
    let mut answers = answers.map_err(refused)?.into_inner();
    while let Some(message) = answers.message().await.map_err(refused)? {
        *answered = true;
        let next = read(&message);
        bundles.send_if_modified(|bundles| {
            let differs = **bundles != next;
            if differs {
                *bundles = Arc::new(next);
            }
            differs
        });
    }
    Ok(())
}

/// The bundles of a message. One that cannot be read is left out and logged.
fn read(message: &TrustBundles) -> Bundles {
    let mut bundles = Bundles::new();
    for (name, document) in &message.bundles {
        match (TrustDomain::parse(name), SpiffeBundle::from_json(document)) {
            (Ok(domain), Ok(bundle)) => _ = bundles.insert(domain, bundle),
            (Err(error), _) => tracing::warn!("the trust bundle of {name:?} is left out: {error}"),
            (_, Err(error)) => tracing::warn!("the trust bundle of {name} is left out: {error}"),
        }
    }
    bundles
}
