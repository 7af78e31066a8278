//! eastwest as a pod of the cluster: it finds the API by the files and variables that each pod has.

use std::{fs, process::Command, time::Duration};

use eastwest_tests::{
    process::{run, until},
    programs,
};

use crate::{
    cluster::{Cluster, MESH, OURSELVES},
    control_plane::ControlPlane,
};

/// Mounts a folder at the place of a pod's token and roots, in a mount namespace of its own, and executes the command.
const MOUNT: &str = "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount \
    && mount --bind \"$0\" /run/secrets/kubernetes.io/serviceaccount && exec \"$@\"";

#[test]
#[ignore = "needs root and the Kubernetes API that cargo xtask tools builds"]
fn a_pod_asks_the_api_of_its_cluster_and_its_own_token_is_renewed() {
    let cluster = Cluster::start();
    cluster.let_us_review();
    let reviews = ("shop", "reviews");
    cluster.account(reviews);
    let given = cluster.dir().join("given");
    fs::create_dir(&given).unwrap();
    fs::copy(cluster.api.ca(), given.join("ca.crt")).unwrap();
    fs::write(given.join("namespace"), "istio-system").unwrap();
    // As if the kubelet had not renewed it in time.
    fs::write(given.join("token"), "a.b.c").unwrap();

    let url = cluster.api.url();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", MOUNT]).arg(&given).arg(programs::eastwest().unwrap());
    command.args(["ca", "serve", "--token-review"]).current_dir(cluster.dir());
    command.env("EASTWEST_STATE_DIR", cluster.dir().join("state"));
    command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    command.env("KUBERNETES_SERVICE_PORT", url.rsplit(':').next().unwrap());
    let server = ControlPlane::spawn(cluster.dir(), command);
    let token = cluster.api.token(reviews, MESH, None).unwrap();
    server.refuses(&token, "shop/reviews", "the Kubernetes API does not accept our credentials (401)");

    let renewed = cluster.api.token(OURSELVES, None, None).unwrap();
    fs::write(given.join("token"), renewed).unwrap();
    // The file is read again once a minute.
    let issued = || Ok(server.issue(&token, "shop/reviews").ok());
    until("a certificate with the renewed token", Duration::from_secs(90), issued).unwrap();
    let mounts = run(Command::new("mount")).unwrap();
    assert!(!mounts.contains("kubernetes.io"), "nobody else sees the mount: {mounts}");
}
