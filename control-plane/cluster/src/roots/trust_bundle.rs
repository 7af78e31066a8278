//! The ClusterTrustBundle with the roots.

use eastwest_kubernetes::Repeated;
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::{sync::watch, time::timeout};
use tracing::{info, warn};

use super::Published;
use crate::request::{self, Body, Refusal};

/// The name; it begins with the signer, as the API demands.
const NAME: &str = "eastwest.dev:workload:root";
const SIGNER: &str = "eastwest.dev/workload";
/// The versions, the preferred one first.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// How often it is compared.
const LOOK: Duration = Duration::from_secs(30);
/// How often to ask whether it is served meanwhile.
const UNSERVED: Duration = Duration::from_secs(300);
/// The first pause after a failure. It doubles up to [`LOOK`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Keeps the ClusterTrustBundle equal to the roots.
pub(super) async fn publish(client: &Client, mut roots: watch::Receiver<String>, published: &Published) {
    let log = Repeated::default();
    let (mut failures, mut rival) = (0, Rival::default());
    loop {
        let wanted = roots.borrow_and_update().clone();
        let pause = if wanted.is_empty() {
            LOOK
        } else {
            match put(client, &wanted).await {
                Ok(Some(wrote)) => {
                    failures = 0;
                    let rival = rival.has_written(&wanted, wrote).then(problem_with_rival);
                    if let Some(problem) = rival.as_ref().filter(|_| log.is_due("rival", Instant::now())) {
                        warn!("{problem}");
                    }
                    published.bundle(rival);
                    LOOK
                }
                Ok(None) => {
                    let reason = "the API serves no ClusterTrustBundles: none is published";
                    if log.is_due(reason, Instant::now()) {
                        info!("{reason}");
                    }
                    published.bundle(None);
                    UNSERVED
                }
                Err(refusal) => {
                    failures += 1;
                    let problem = problem(&refusal);
                    if log.is_due("bundle", Instant::now()) {
                        warn!(error = problem, "the roots are not published as ClusterTrustBundle");
                    }
                    published.bundle(Some(problem));
                    (FIRST_PAUSE * 2_u32.pow(failures.min(8))).min(LOOK)
                }
            }
        };
        // Only a change of the roots shortens the pause.
        if let Ok(Err(_)) = timeout(pause, roots.changed()).await {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether somebody else writes the bundle as well.
#[derive(Default)]
struct Rival {
    roots: String,
    /// How often the same roots were written again, in a row.
    repeats: u32,
}

impl Rival {
    /// Notes that the bundle was compared with `roots`, and written if it differed. A change by hand that is put back is
    /// no rival yet.
    fn has_written(&mut self, roots: &str, wrote: bool) -> bool {
        self.repeats = if wrote && self.roots == roots { self.repeats + 1 } else { 0 };
        roots.clone_into(&mut self.roots);
        self.repeats >= 2
    }
}

fn problem_with_rival() -> String {
    format!(
        "another writer changes ClusterTrustBundle {NAME} as well, perhaps eastwest in another namespace; it is put back \
         every {} s: let only one of them write it",
        LOOK.as_secs()
    )
}

/// Writes it if it differs. Returns whether it did; `None` if the API serves no such objects.
async fn put(client: &Client, roots: &str) -> Result<Option<bool>, Refusal> {
    for version in VERSIONS {
        let path = format!("/apis/certificates.k8s.io/{version}/clustertrustbundles/{NAME}");
        match request::send(client, Method::GET, &path, Body::None).await {
            Ok(found) if is_right(&found, roots) => return Ok(Some(false)),
            Ok(_) => {}
            Err(refusal) if refusal.is_missing() => {}
            Err(refusal) => return Err(refusal),
        }
        match request::apply(client, &path, &bundle(version, roots)).await {
            Ok(_) => return Ok(Some(true)),
            // An apply creates what is missing: this version is not served.
            Err(refusal) if refusal.is_missing() => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(None)
}

fn bundle(version: &str, roots: &str) -> Value {
    json!({"apiVersion": format!("certificates.k8s.io/{version}"), "kind": "ClusterTrustBundle",
        "metadata": {"name": NAME}, "spec": {"signerName": SIGNER, "trustBundle": roots}})
}

fn is_right(found: &Value, roots: &str) -> bool {
    found["spec"]["signerName"] == SIGNER && found["spec"]["trustBundle"] == roots
}

fn problem(refusal: &Refusal) -> String {
    let remedy = if refusal.is_forbidden() {
        "; add to the ClusterRole: apiGroups: [\"certificates.k8s.io\"], resources: [\"clustertrustbundles\"], verbs: \
         [get, create, patch], and resources: [\"signers\"], resourceNames: [\"eastwest.dev/workload\"], verbs: [attest]"
    } else {
        ""
    };
    format!("cannot write ClusterTrustBundle {NAME}: {}{remedy}", refusal.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rival_of_the_bundle_is_noticed_and_a_change_by_hand_is_none() {
        let mut rival = Rival::default();
        let mut wrote = |roots, wrote| rival.has_written(roots, wrote);
        assert_eq!([wrote("a", true), wrote("a", true), wrote("a", false)], [false; 3], "by hand");
        assert_eq!([wrote("a", true), wrote("a", true)], [false, true], "a rival");
        assert!(wrote("a", true) && !wrote("b", true), "other roots");
    }
}
