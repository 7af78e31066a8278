//! Events about the ConfigMap with the settings of the mesh, which is watched by name and has no status.

use std::time::Duration;

use eastwest_kubernetes::Api;
use http::Method;
use kube::Client;
use tokio::{sync::watch, time::timeout};

use crate::{
    events::{Recorder, Refused, Regarding},
    request::{self, Body},
};

/// The pause before an Event that was not written is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Records an Event on the ConfigMap `name` of `namespace` whenever `refused` says why it is refused; `None`: it is not.
/// Every replica may do so, for an equal Event is one. The future ends when `refused` is closed.
pub fn record_refused_settings(
    api: &Api,
    (namespace, name): (&str, &str),
    mut refused: watch::Receiver<Option<String>>,
    recorder: Recorder,
) -> impl Future<Output = ()> + Send + 'static {
    let (client, path) = (api.client(), format!("/api/v1/namespaces/{namespace}/configmaps/{name}"));
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    async move {
        loop {
            let reason = refused.borrow_and_update().clone();
            let recorded = match reason {
                None => Ok(()),
                Some(note) => record(&client, &path, (&namespace, &name), note, &recorder).await,
            };
            let changed = match recorded {
                Ok(()) => refused.changed().await,
                Err(error) => {
                    tracing::debug!(error, "the refusal of the mesh's settings has no Event");
                    timeout(AGAIN, refused.changed()).await.unwrap_or(Ok(()))
                }
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

async fn record(
    client: &Client,
    path: &str,
    (namespace, name): (&str, &str),
    note: String,
    recorder: &Recorder,
) -> Result<(), String> {
    let found = request::send(client, Method::GET, path, Body::None).await;
    let found = found.map_err(|refusal| refusal.message)?;
    let text = |field: &str| found["metadata"][field].as_str().unwrap_or_default();
    let regarding = Regarding {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: text("uid").to_owned(),
        // It has no generation: each edit is told.
        generation: text("resourceVersion").parse().unwrap_or_default(),
    };
    let refused = Refused { regarding, action: "Accept", reason: "Refused", note };
    recorder.refused(&refused).await.map_err(|error| error.to_string())
}
