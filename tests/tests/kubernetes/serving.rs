//! `eastwest serve` in a cluster, as its users see it.

use std::time::{Duration, Instant};

use eastwest_tests::{
    kubernetes::{Mode, TcpRelay},
    process::until,
};
use serde_json::{Value, json};

use crate::{PATIENCE, cluster::Cluster, replica, rights, server::Server};

/// The audience of tokens for the CA.
const MESH: &str = "istio-ca";

/// The roots, as pods get them.
pub(crate) fn roots(cluster: &Cluster, namespace: &str) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
    cluster.ask("GET", &path, None)["data"]["root-cert.pem"].as_str().unwrap().to_owned()
}

/// A token of the account `default`, bound to a pod.
pub(crate) fn token(cluster: &Cluster, namespace: &str, pod: &Value) -> String {
    let reference = json!({"kind": "Pod", "apiVersion": "v1", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]});
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": [MESH], "expirationSeconds": 3600, "boundObjectRef": reference}});
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default/token");
    cluster.ask("POST", &path, Some(&request))["status"]["token"].as_str().unwrap().to_owned()
}

pub(crate) fn pod_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

/// A token of a pod gets a certificate at once, also when the pod is new; it dies with the pod.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_pods_token_gets_a_certificate_and_dies_with_the_pod() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    cluster.node("n1");
    let server = Server::start(&cluster, &["--namespace", &namespace]);
    let (roots, account) = (roots(&cluster, &namespace), format!("{namespace}/default"));
    let pod = cluster.pod_on(&namespace, "reviews-0", "n1");
    let first = token(&cluster, &namespace, &pod);
    let issued = server.issue(&first, &account, &roots).unwrap();
    let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/default");
    assert!(issued.to_string().contains(&identity), "{issued}");

    // The same pod again, as a StatefulSet makes it.
    cluster.delete(&pod_path(&namespace, "reviews-0"));
    let again = cluster.pod_on(&namespace, "reviews-0", "n1");
    let deleted = Instant::now();
    until("the end of the token", PATIENCE, || Ok(server.issue(&first, &account, &roots).err())).unwrap();
    assert!(deleted.elapsed() < Duration::from_secs(4), "{:?}", deleted.elapsed());
    server.issue(&token(&cluster, &namespace, &again), &account, &roots).unwrap();
    assert!(server.process.output().contains("is bound to the pod"), "{}", server.process.output());

    // A token dies with its service account too, also if there is another one of that name.
    let temporary = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "temporary"}});
    let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
    cluster.create(&accounts, &temporary);
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": [MESH], "expirationSeconds": 3600}});
    let unbound = || {
        let answer = cluster.ask("POST", &format!("{accounts}/temporary/token"), Some(&request));
        answer["status"]["token"].as_str().unwrap().to_owned()
    };
    let (of_first, name) = (unbound(), format!("{namespace}/temporary"));
    server.issue(&of_first, &name, &roots).unwrap();
    cluster.delete(&format!("{accounts}/temporary"));
    until("the end of the token", PATIENCE, || Ok(server.issue(&of_first, &name, &roots).err())).unwrap();
    cluster.create(&accounts, &temporary);
    server.issue(&unbound(), &name, &roots).unwrap();
    server.issue(&of_first, &name, &roots).unwrap_err();

    // A request that is refused is an Event on the pod.
    let token = token(&cluster, &namespace, &again);
    let refused = server.issue_for(&token, &account, &roots, &["--ttl", "10000d"]).unwrap_err().to_string();
    assert!(refused.contains("10000d is more than the maximum of 90d"), "{refused}");
    let events = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let event = until("an Event", PATIENCE, || {
        let list = cluster.ask("GET", &events, None);
        let of_pod = |event: &&Value| event["regarding"]["uid"] == again["metadata"]["uid"];
        Ok(list["items"].as_array().unwrap().iter().find(of_pod).cloned())
    })
    .unwrap();
    assert_eq!((&event["reason"], &event["type"]), (&json!("CertificateRefused"), &json!("Warning")));
    assert!(event["note"].as_str().unwrap().contains("10000d is more than the maximum of 90d"), "{event}");
}

/// `/readyz` names the rule that is missing, and follows when it is added.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn without_rights_it_is_not_ready_and_says_which() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let (token, role) = rights::account(
        &cluster,
        &namespace,
        &json!([
            rights::rule(
                &[""],
                &["namespaces", "nodes", "services", "serviceaccounts", "configmaps", "secrets"]
            ),
            rights::rule(
                &["discovery.k8s.io", "security.istio.io", "networking.istio.io", "apiextensions.k8s.io"],
                &["*"],
            ),
        ]),
    );
    let kubeconfig = cluster.kubeconfig_of(&token).display().to_string();
    let mut server = Server::spawn(&kubeconfig, &["--namespace", &namespace]);
    let reason = until("the reason", PATIENCE, || {
        let (status, text) = server.readyz();
        Ok((status == 503 && text.contains("pods is not listed yet: ")).then_some(text))
    })
    .unwrap_or_else(|error| panic!("{error}: {:?} {}", server.readyz(), server.process.output()));
    assert!(reason.contains(r#"resources: ["pods"], verbs: [get, list, watch]"#), "{reason}");
    assert_eq!(server.get("/healthz").0, 200);
    let forbidden = |page: &Value| {
        let sources = page["sources"].as_array().unwrap();
        sources.iter().any(|one| one["kind"] == "Pod" && one["state"] == "forbidden" && one["live"] == false)
    };
    server.wait_for_page("/debug/sources", "a forbidden kind", forbidden);
    cluster.change(&role, |role| {
        let rules = role["rules"].as_array_mut().unwrap();
        rules.push(rights::rule(&[""], &["pods"]));
        rules.push(json!({"apiGroups": ["", "coordination.k8s.io", "certificates.k8s.io"], "resources": ["*"], "verbs": ["*"]}));
        rules.push(json!({"nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]}));
    });
    server.wait_until_ready();
}

/// A control plane that starts before the API waits for it and says so.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn it_waits_for_an_api_that_is_not_there_yet() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let Some(programs) = &cluster.programs else { return };
    let relay = TcpRelay::start(programs.port(), Mode::Cut).unwrap();
    let kubeconfig = programs
        .admin_kubeconfig_at(&format!("https://127.0.0.1:{}", relay.port()))
        .unwrap()
        .display()
        .to_string();
    let mut server = Server::spawn(&kubeconfig, &["--namespace", &namespace]);
    until("a reason", PATIENCE, || {
        let (status, text) = server.readyz();
        Ok((status == 503 && text.contains("pods is not listed yet: ")).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", server.readyz()));
    until("the log", PATIENCE, || {
        Ok(server.process.output().contains("the Kubernetes API does not answer").then_some(()))
    })
    .unwrap();
    relay.set(Mode::Pass);
    server.wait_until_ready();
    let table = server.ask(&["status", "--sources"]);
    assert!(table.contains("pods ") && table.contains("watching"), "{table}");
}

/// While the API is away, known tokens get certificates, and nothing is forgotten.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn while_the_api_is_away_it_serves_from_what_it_knows() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let namespace = cluster.namespace();
    cluster.node("n1");
    let pod = cluster.pod_on(&namespace, "reviews-0", "n1");
    let server = Server::start(&cluster, &["--namespace", &namespace]);
    let (roots, account) = (roots(&cluster, &namespace), format!("{namespace}/default"));
    let known = token(&cluster, &namespace, &pod);
    server.issue(&known, &account, &roots).unwrap();
    let workloads = server.page("/debug/workloads");
    cluster.programs().apiserver().signal(nix::sys::signal::Signal::SIGSTOP).unwrap();
    let stale = |page: &Value| page["live"] == false;
    until("a watch that is known to be dead", Duration::from_secs(70), || {
        Ok(Some(server.page("/debug/sources")).filter(|page| stale(page)))
    })
    .unwrap();
    server.issue(&known, &account, &roots).unwrap();
    assert_eq!(server.page("/debug/workloads"), workloads);
    assert_eq!(server.readyz().0, 200, "known objects are served");
    cluster.programs().apiserver().signal(nix::sys::signal::Signal::SIGCONT).unwrap();
    until("live watches", Duration::from_secs(60), || {
        Ok((server.page("/debug/sources")["live"] == true).then_some(()))
    })
    .unwrap();
    cluster.pod_on(&namespace, "reviews-1", "n1");
    let name = format!("{namespace}/reviews-1");
    server.wait_for_page("/debug/workloads", "a new pod", |page| {
        page.as_array().unwrap().contains(&json!(name))
    });
}

/// Two replicas: both sign with the same root, one writes, and the other goes on when that one ends.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn replicas_share_the_root_and_the_lease_goes_over() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    cluster.node("n1");
    let flags = ["--namespace", &namespace];
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let mut replicas = [(); 2].map(|()| Server::spawn(&kubeconfig, &flags));
    replicas.iter_mut().for_each(Server::wait_until_ready);
    let root = |server: &Server| server.page("/debug/ca")["roots"][0]["sha256"].clone();
    assert_eq!(root(&replicas[0]), root(&replicas[1]));
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/eastwest-leader");
    let holder =
        || cluster.ask("GET", &lease, None)["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    let first = holder();
    let writes = |server: &Server| {
        server
            .process
            .output()
            .contains(&format!("this replica writes namespace={namespace:?} identity={first:?}"))
    };
    let (leader, other) = if writes(&replicas[0]) { (0, 1) } else { (1, 0) };
    replicas[leader].terminate();
    let ended = Instant::now();
    until("another leader", PATIENCE, || Ok(Some(holder()).filter(|now| !now.is_empty() && *now != first)))
        .unwrap();
    assert!(ended.elapsed() < Duration::from_secs(5), "{:?}", ended.elapsed());
    // It writes: a new namespace gets the roots.
    let fresh = cluster.namespace();
    let path = format!("/api/v1/namespaces/{fresh}/configmaps/istio-ca-root-cert");
    until("the roots", PATIENCE, || Ok((cluster.try_ask("GET", &path, None).0 == 200).then_some(())))
        .unwrap();
    let pod = cluster.pod_on(&fresh, "reviews-0", "n1");
    let token = token(&cluster, &fresh, &pod);
    replicas[other].issue(&token, &format!("{fresh}/default"), &roots(&cluster, &fresh)).unwrap();
}

/// What eastwest says of the cluster is what it says of a dump of it; Secrets are not in the dump.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn commands_read_the_cluster_and_its_dump_alike() {
    let Some(mut cluster) = Cluster::start_own() else { return };
    let definitions = eastwest_tests::programs::istio_definitions().unwrap();
    cluster.programs().apply(&definitions).unwrap();
    cluster.programs().apply(&eastwest_tests::bookshop::manifests()).unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "hush-hush"}});
    cluster.create("/api/v1/namespaces/bookshop/secrets", &secret);
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("dump").display().to_string();
    let run = |words: &[&str], source: &[&str]| {
        let mut command = crate::server::eastwest();
        let output = command.args(words).args(source).current_dir(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let (api, files) = (["--kubeconfig", &kubeconfig], ["--config-dir", &dump]);
    let (code, said, error) = run(&["dump", "--out", &dump], &api);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains("without Secrets"), "{said}");
    for words in [
        &["check", "-o", "json"][..],
        &["tls", "payments/payments-0"],
        &["render", "bookshop/storefront-0"],
        &["explain", "bookshop/storefront-0", "payments.payments:9090"],
    ] {
        let (of_api, of_files) = (run(words, &api), run(words, &files));
        assert_eq!((of_api.0, &of_api.2), (of_files.0, &of_files.2), "{words:?}");
        // Objects of files are shown with their place.
        let without_places = |text: &str| {
            let lines = text.lines().map(|line| match (line.find(" ("), line.find(".yaml:")) {
                (Some(from), Some(at)) if from < at => {
                    let end = line[at..].find(')').map_or(line.len(), |end| at + end + 1);
                    format!("{}{}", &line[..from], &line[end..])
                }
                _ => line.to_owned(),
            });
            lines.collect::<Vec<_>>()
        };
        if words[0] != "check" {
            assert_eq!(without_places(&of_api.1), without_places(&of_files.1), "{words:?}");
        }
    }
    let mut grep = std::process::Command::new("grep");
    let found = grep.args(["--recursive", "hush-hush", &dump]).output().unwrap();
    assert!(!found.status.success(), "a Secret is in the dump");
    let strict = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: istio-system}, spec: {mtls: {mode: STRICT}}}";
    std::fs::write(dir.path().join("strict.yaml"), strict).unwrap();
    let (of_api, of_files) =
        (run(&["diff", "-f", "strict.yaml"], &api), run(&["diff", "-f", "strict.yaml"], &files));
    assert_eq!(of_api, of_files);
    assert!(of_api.0 == Some(1) && of_api.1.contains("would break"), "{of_api:?}");
}

/// A kubeconfig that does not work is one error with file, context, server and reason.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_kubeconfig_that_does_not_work_is_one_error() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubeconfig");
    let refused = |words: &[&str]| {
        let mut command = crate::server::eastwest();
        let output = command.args(words).arg("--kubeconfig").arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let name = file.display().to_string();
    for (content, said) in [
        (text.replace(cluster.server(), "https://127.0.0.1:1"), "https://127.0.0.1:1"),
        (text.replace("\"current-context\":\"test\"", "\"current-context\":\"other\""), "other"),
        ("{".to_owned(), "kubeconfig"),
    ] {
        std::fs::write(&file, content).unwrap();
        for words in [&["tls", "shop/reviews-0"][..], &["check"]] {
            let error = refused(words);
            assert!(error.lines().count() == 1 && error.contains(&name) && error.contains(said), "{error}");
        }
    }
}

/// The banner names the Secret that signs.
#[test]
#[ignore = "needs the Kubernetes API that cargo xtask tools builds"]
fn a_plugged_in_ca_is_named_when_the_server_is_ready() {
    let cluster = Cluster::start();
    let namespace = cluster.namespace();
    let plugged = replica::root(&replica::usual(), time::OffsetDateTime::now_utc());
    replica::put(&cluster, &namespace, "cacerts", &replica::cacerts(&plugged, &plugged.0));
    let server = Server::start(&cluster, &["--namespace", &namespace]);
    let banner = server.process.output();
    assert!(banner.contains(&format!("signer        Secret {namespace}/cacerts")), "{banner}");
}
