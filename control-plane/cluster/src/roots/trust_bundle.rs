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
    let mut failures = 0;
    loop {
        let wanted = roots.borrow_and_update().clone();
        let pause = if wanted.is_empty() {
            LOOK
        } else {
            match put(client, &wanted).await {
                Ok(true) => {
                    failures = 0;
                    published.bundle(None);
                    LOOK
                }
                Ok(false) => {
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

/// Writes it if it differs. Returns whether the API serves such objects.
async fn put(client: &Client, roots: &str) -> Result<bool, Refusal> {
    for version in VERSIONS {
        let path = format!("/apis/certificates.k8s.io/{version}/clustertrustbundles/{NAME}");
        match request::send(client, Method::GET, &path, Body::None).await {
            Ok(found) if is_right(&found, roots) => return Ok(true),
            Ok(_) => {}
            Err(refusal) if refusal.is_missing() => {}
            Err(refusal) => return Err(refusal),
        }
        match request::apply(client, &path, &bundle(version, roots)).await {
            Ok(_) => return Ok(true),
            // An apply creates what is missing: this version is not served.
            Err(refusal) if refusal.is_missing() => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(false)
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
