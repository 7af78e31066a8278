//! Which custom resources the API serves, and in which versions.
//!
//! CustomResourceDefinitions are watched as objects. So changes take effect at once, and an error is never read as
//! absence. Without the right to watch them, the discovery documents are polled.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::debug;

use crate::{
    changes::send_if_different,
    decode::Object,
    kinds::{RESOURCES, Resource},
    status::Record,
    watch::{
        failure::Failure,
        state::Delta,
        task::{Shared, Update, get},
    },
};

/// The time between polls.
const POLL: Duration = Duration::from_secs(5);
/// How often to check whether polling is necessary.
const LOOK: Duration = Duration::from_secs(1);

/// Served versions by group and plural name. Other resources are not served.
pub(crate) type Served = BTreeMap<(String, String), Vec<String>>;

/// The resource of a CustomResourceDefinition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    group: String,
    plural: String,
    /// The served versions; empty until the definition is established.
    served: Vec<String>,
}

/// Reads a CustomResourceDefinition.
pub(crate) fn definition(object: &Object) -> Definition {
    let text = |path: &str| object.value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = |path: &str| object.value.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let established = list("/status/conditions")
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
    let versions = list("/spec/versions").filter(|version| established && version["served"] == true);
    let served = versions.filter_map(|version| version["name"].as_str()).map(str::to_owned).collect();
    Definition { group: text("/spec/group"), plural: text("/spec/names/plural"), served }
}

/// The availability of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Availability {
    /// Not known yet.
    Unknown,
    /// No supported version is served.
    Missing,
    /// The supported versions that are served, and the one to watch.
    Served(Vec<String>, &'static str),
}

impl Availability {
    /// The availability of `resource` by the `served` versions, if these are known.
    pub(crate) fn of(resource: &Resource, served: Option<&Served>) -> Self {
        let Some(served) = served.filter(|_| resource.custom) else {
            return if resource.custom {
                Self::Unknown
            } else {
                Self::Served(vec![resource.versions[0].to_owned()], resource.versions[0])
            };
        };
        let versions = served.get(&(resource.group.to_owned(), resource.plural.to_owned()));
        let mut versions = versions.cloned().unwrap_or_default();
        versions.retain(|version| resource.versions.contains(&version.as_str()));
        match resource.choose_version(&versions) {
            Some(version) => Self::Served(versions, version),
            None => Self::Missing,
        }
    }
}

/// Publishes the served versions when they change, until the channel of definitions is closed.
pub(crate) async fn discover(
    shared: Shared,
    record: Arc<Record>,
    mut definitions: mpsc::Receiver<Update<Definition>>,
    publish: watch::Sender<Option<Served>>,
) {
    let mut known = BTreeMap::new();
    let mut polls = interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            update = definitions.recv() => {
                let Some(Update { delta, .. }) = update else { return };
                match delta {
                    Delta::Resync(all) => known = all.into_iter().collect(),
                    Delta::Upsert(key, definition) => drop(known.insert(key, definition)),
                    Delta::Delete(key) => drop(known.remove(&key)),
                }
                send_if_different(&publish, Some(served(known.values())));
            }
            _ = polls.tick(), if record.is_forbidden() => match poll(&shared).await {
                Ok(served) => send_if_different(&publish, Some(served)),
                Err(failure) => debug!(error = failure.message, "the discovery documents cannot be read"),
            },
            () = tokio::time::sleep(LOOK), if !record.is_forbidden() => {}
        }
    }
}

fn served<'a>(definitions: impl Iterator<Item = &'a Definition>) -> Served {
    let definitions = definitions.filter(|definition| !definition.served.is_empty());
    definitions.map(|one| ((one.group.clone(), one.plural.clone()), one.served.clone())).collect()
}

/// Reads the served versions of the custom resources from the discovery documents.
async fn poll(shared: &Shared) -> Result<Served, Failure> {
    let groups = get(&shared.client, "/apis").await?;
    let mut served = Served::new();
    let ours: BTreeSet<&str> = RESOURCES.iter().filter(|one| one.custom).map(|one| one.group).collect();
    for group in groups["groups"].as_array().into_iter().flatten() {
        let Some(name) = ours.iter().find(|name| group["name"] == **name) else { continue };
        for version in group["versions"].as_array().into_iter().flatten() {
            let Some(version) = version["version"].as_str() else { continue };
            let resources = get(&shared.client, &format!("/apis/{name}/{version}")).await?;
            for plural in resources["resources"].as_array().into_iter().flatten() {
                let Some(plural) = plural["name"].as_str().filter(|plural| !plural.contains('/')) else {
                    continue;
                };
                served.entry(((*name).to_owned(), plural.to_owned())).or_default().push(version.to_owned());
            }
        }
    }
    Ok(served)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decode::Key;

    fn read(established: &str) -> Definition {
        let value = json!({"metadata": {"name": "sidecars.networking.istio.io"},
            "spec": {"group": "networking.istio.io", "names": {"plural": "sidecars"}, "versions": [
                {"name": "v1", "served": false}, {"name": "v1beta1", "served": true},
                {"name": "v1alpha3", "served": true}, {"name": "v9", "served": true}]},
            "status": {"conditions": [{"type": "Established", "status": established}]}});
        let key = Key { namespace: "".into(), name: "sidecars.networking.istio.io".into() };
        definition(&Object { key, version: "1".to_owned(), value })
    }

    #[test]
    fn a_definition_serves_when_it_is_established() {
        let sidecars = RESOURCES.iter().find(|resource| resource.kind == "Sidecar").unwrap();
        let of =
            |definition: &Definition| Availability::of(sidecars, Some(&served([definition].into_iter())));
        let versions = vec!["v1beta1".to_owned(), "v1alpha3".to_owned()];
        assert_eq!(of(&read("True")), Availability::Served(versions, "v1beta1"));
        assert_eq!(of(&read("False")), Availability::Missing);
    }

    #[test]
    fn nothing_known_is_not_missing_and_core_resources_are_always_there() {
        let of = |kind: &str, served: Option<&Served>| {
            Availability::of(RESOURCES.iter().find(|resource| resource.kind == kind).unwrap(), served)
        };
        assert_eq!(of("Sidecar", None), Availability::Unknown);
        assert_eq!(of("Sidecar", Some(&Served::new())), Availability::Missing);
        let core = Availability::Served(vec!["v1".to_owned()], "v1");
        assert_eq!(of("Pod", None), core);
        assert_eq!(of("EndpointSlice", Some(&Served::new())), core);
    }
}
