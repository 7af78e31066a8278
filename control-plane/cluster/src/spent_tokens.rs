//! Tokens of CI jobs that were used, known to all replicas: a Lease for each token, because the API creates an object of
//! a name once, whoever asks. The leader removes a Lease when its token has run out.

use std::time::{Duration, Instant};

use eastwest_ca::{
    oidc::TokenId,
    wall_clock::{Belief, Reading, WallClock},
};
use eastwest_ca_server::SharedSpentTokens;
use eastwest_kubernetes::{Api, Repeated};
use serde::Deserialize;
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{
    collection::{Collection, Failure},
    micro_time::micro_time,
    supervision::{supervise, while_leading},
};

/// The beginning of the names.
const NAME: &str = "eastwest-spent-";
/// The label of all of them.
const LABEL: &str = "eastwest.dev/spent-token";
/// The deadline of a request; callers of the CA wait for 10 s.
const ANSWER: Duration = Duration::from_secs(5);
/// What the clock decides here lives for hours: it is believed again a few minutes after it was set.
const LIFE: Duration = Duration::from_secs(6 * 60 * 60);
/// How often the leader looks for those that have run out.
const EVERY: Duration = Duration::from_secs(60);
/// How much longer than its token a Lease is kept: the clocks of replicas may differ.
const LONGER: time::Duration = time::Duration::minutes(5);

/// The tokens that the replicas of a namespace used.
pub struct SpentTokens {
    leases: Collection,
    replica: String,
}

impl SpentTokens {
    /// Those of the replicas in `namespace`. `replica` is the name of this one.
    pub fn new(api: &Api, namespace: &str, replica: &str) -> Self {
        Self { leases: Collection::leases(api.client(), namespace, ANSWER), replica: replica.to_owned() }
    }
}

#[tonic::async_trait]
impl SharedSpentTokens for SpentTokens {
    async fn spend(&self, token: TokenId, expires: OffsetDateTime) -> Result<bool, String> {
        let lease = lease(token, &self.replica, expires, OffsetDateTime::now_utc());
        match self.leases.create(lease).await {
            Ok(_) => Ok(true),
            Err(Failure::Conflict) => Ok(false),
            Err(failure) => Err(failure.to_string()),
        }
    }
}

/// A Lease that is held as long as the token is valid.
fn lease(token: TokenId, replica: &str, expires: OffsetDateTime, now: OffsetDateTime) -> Vec<u8> {
    // A duration must be positive, and the API has 32 bits for it. Rounded up.
    let seconds = ((expires - now).whole_seconds() + 1).clamp(1, i64::from(i32::MAX));
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": format!("{NAME}{token}"),
            "labels": {"app.kubernetes.io/managed-by": "eastwest", (LABEL): "true"}},
        "spec": {"holderIdentity": replica, "acquireTime": micro_time(now), "leaseDurationSeconds": seconds}});
    lease.to_string().into_bytes()
}

/// Removes the Leases of tokens that have run out, while this process leads. The future ends when `leads` is closed.
pub fn remove_expired(
    api: &Api,
    namespace: &str,
    leads: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let leases = Collection::leases(api.client(), namespace, ANSWER);
    async move {
        let run = || {
            let (leases, leads) = (leases.clone(), leads.clone());
            async move { while_leading(leads, || (), || sweep_for_ever(&leases)).await }
        };
        supervise("spent tokens", run).await;
    }
}

async fn sweep_for_ever(leases: &Collection) {
    let (log, mut ticks) = (Repeated::default(), interval(EVERY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let reading = || Reading { wall: OffsetDateTime::now_utc(), running: began.elapsed() };
    let mut clock = WallClock::new(reading());
    loop {
        ticks.tick().await;
        // What is removed by a wrong clock is a token that may be used again.
        let now = reading();
        if clock.see(now, LIFE) != Belief::Agrees {
            continue;
        }
        if let Err(failure) = sweep(leases, now.wall).await
            && log.is_due("sweep", Instant::now())
        {
            tracing::warn!("Leases of used tokens that have run out are not removed: {failure}");
        }
    }
}

async fn sweep(leases: &Collection, now: OffsetDateTime) -> Result<(), Failure> {
    let mut after = String::new();
    loop {
        let text = leases.list(LABEL, &after).await?;
        let page: Page = serde_json::from_str(&text)
            .map_err(|error| Failure::Other(format!("the answer is no list of Leases: {error}")))?;
        for Item { metadata, spec } in page.items {
            // The label alone proves nothing.
            if metadata.name.starts_with(NAME) && spec.is_over(now) {
                match leases.delete(&metadata.name).await {
                    Ok(()) | Err(Failure::NotFound) => {}
                    Err(failure) => return Err(failure),
                }
            }
        }
        after = page.metadata.after;
        if after.is_empty() {
            return Ok(());
        }
    }
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    items: Vec<Item>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    after: String,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMetadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct ItemMetadata {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    acquire_time: Option<String>,
    #[serde(default)]
    lease_duration_seconds: u32,
}

impl Spec {
    /// Whether the token has run out. What cannot be read is kept.
    fn is_over(&self, now: OffsetDateTime) -> bool {
        let begin = self.acquire_time.as_deref().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let life = time::Duration::seconds(i64::from(self.lease_duration_seconds)) + LONGER;
        begin.and_then(|begin| begin.checked_add(life)).is_some_and(|end| end < now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_outlives_its_token_by_five_minutes() {
        let now = OffsetDateTime::from_unix_timestamp(1_772_352_000).unwrap();
        let token = TokenId::new("https://forge", "job-1");
        let of = |expires| -> Item { serde_json::from_slice(&lease(token, "pod-1", expires, now)).unwrap() };
        let item = of(now + Duration::from_secs(300));
        assert!(item.metadata.name.len() == NAME.len() + 64 && item.metadata.name.starts_with(NAME));
        let over = |item: &Item, seconds| item.spec.is_over(now + Duration::from_secs(seconds));
        assert!(!over(&item, 600) && over(&item, 602));
        assert!(over(&of(now - Duration::from_secs(60)), 302), "a token that has run out already");
        assert!(!over(&of(now + Duration::from_secs(1 << 33)), 1 << 30), "a token of ages");
        assert!(!Spec::default().is_over(now), "what cannot be read is kept");
    }
}
