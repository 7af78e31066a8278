//! Custom resources that come and go with their definitions.

use eastwest_kubernetes::State;
use eastwest_tests::process::until;
use serde_json::json;

use crate::{
    PATIENCE,
    cluster::{Cluster, DEFINITIONS},
    follower::{Follower, names, quick},
};

const GROUP: &str = "security.istio.io";
const PLURAL: &str = "peerauthentications";
const KIND: &str = "PeerAuthentication";

#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_definition_that_comes_changes_and_goes_is_followed() {
    let cluster = Cluster::start();
    if cluster.programs.is_none() {
        cluster.try_ask("DELETE", &format!("{DEFINITIONS}/{PLURAL}.{GROUP}"), None);
    }
    let namespace = cluster.namespace();
    let follower = Follower::synced(cluster.kubeconfig(), quick());
    let status = || follower.status(KIND);
    assert_eq!((status().state, status().synced, status().live), (State::Missing, true, true));
    assert!(status().served.is_empty() && follower.report().definitions == "followed");
    assert_eq!(follower.read(|world| world.resyncs[KIND]), 1, "none, which is known");

    cluster.define(KIND, PLURAL, GROUP, &["v1", "v1beta1"]);
    until("its watch", PATIENCE, || {
        Ok(status().live.then_some(()).filter(|()| status().state == State::Watching))
    })
    .unwrap();
    assert_eq!(
        (status().served, status().version),
        (vec!["v1".to_owned(), "v1beta1".to_owned()], Some("v1"))
    );
    let policy = json!({"apiVersion": format!("{GROUP}/v1beta1"), "kind": KIND, "metadata": {"name": "default"},
        "spec": {"mtls": {"mode": "STRICT"}, "unheard": [1]}});
    let collection = |version| format!("/apis/{GROUP}/{version}/namespaces/{namespace}/{PLURAL}");
    cluster.create(&collection("v1beta1"), &policy);
    let default = crate::watching::name_of(KIND, &namespace, "default");
    follower.wait("the policy", |world| world.objects.contains_key(&default));
    let object = follower.read(|world| world.objects[&default].clone());
    assert_eq!((&object["apiVersion"], &object["spec"]), (&json!(format!("{GROUP}/v1")), &policy["spec"]));
    assert!(object["metadata"]["managedFields"].is_null(), "{object}");

    // The version that is followed is not served any more.
    let path = format!("{DEFINITIONS}/{PLURAL}.{GROUP}");
    cluster.change(&path, |definition| definition["spec"]["versions"][0]["served"] = json!(false));
    until("another version", PATIENCE, || {
        Ok((status().version == Some("v1beta1") && status().state == State::Watching).then_some(()))
    })
    .unwrap();
    assert_eq!(follower.names(KIND, &namespace).len(), 1);
    assert_eq!(follower.read(|world| world.deletions), 0, "nobody was told that it had gone");
    cluster.change(&format!("{}/default", collection("v1beta1")), |policy| {
        policy["spec"]["mtls"]["mode"] = json!("DISABLE");
    });
    follower
        .wait("the policy's change", |world| world.objects[&default]["spec"]["mtls"]["mode"] == "DISABLE");

    cluster.delete(&path);
    follower.wait("nothing", |world| names(world, KIND, &namespace).is_empty());
    until("its absence", PATIENCE, || Ok((status().state == State::Missing).then_some(()))).unwrap();
    assert!(status().synced && status().version.is_none() && status().objects == 0, "{:?}", status());

    cluster.define(KIND, PLURAL, GROUP, &["v1"]);
    cluster.create(
        &collection("v1"),
        &json!({"apiVersion": format!("{GROUP}/v1"), "kind": KIND,
        "metadata": {"name": "again"}, "spec": {}}),
    );
    follower.wait("a policy again", |world| names(world, KIND, &namespace) == ["again".to_owned()].into());
    assert_eq!(status().restarts, 0);
}
