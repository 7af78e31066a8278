//! Names as people have them in hand, and exit status: 1 is bad news, 2 is a mistake in what was typed.

use std::net::TcpListener;

use crate::harness::Bench;

/// A Deployment as a cluster runs it, beside the Pods of the bookshop.
const DEPLOYED: &str = "\
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: bookshop}
spec: {clusterIP: 10.96.9.9, selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: reviews-7d9f-a1b2c
  namespace: bookshop
  labels: {app: reviews, pod-template-hash: 7d9f, security.istio.io/tlsMode: istio}
spec: {containers: [{name: reviews, ports: [{name: web, containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.77.9.9, conditions: [{type: Ready, status: 'True'}]}
";

/// A headless Service with two Pods, a Service that leads to a container port by its name, and nothing behind it.
const STATEFUL: &str = "\
apiVersion: v1
kind: Service
metadata: {name: db, namespace: bookshop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: bookshop, labels: {app: db}}
spec: {containers: [{name: db}]}
status: {phase: Running, podIP: 10.77.9.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: bookshop, labels: {app: db}}
spec: {containers: [{name: db}]}
status: {phase: Running, podIP: 10.77.9.2, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: bookshop}
spec: {clusterIP: 10.96.9.8, selector: {app: idle}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle, namespace: bookshop}
spec:
  replicas: 0
  selector: {matchLabels: {app: idle}}
  template: {metadata: {labels: {app: idle}}, spec: {containers: [{name: idle}]}}
";

/// A method or path that no request can have is a mistake, not an answer.
#[test]
fn what_no_request_has_is_no_question_of_can() {
    let bench = Bench::new();
    let ask = |request: &[&str]| {
        let call = ["can", "bookshop/storefront-0", "payments.payments:80"];
        bench.run(&[&call, request, &["--config-dir", "manifests"]].concat())
    };
    ask(&["POST", "/charge"]).success();
    ask(&["OPTIONS", "*"]).success();
    ask(&["GET /"]).failure(2, &["METHOD", "GET"]);
    for path in ["charge", "/a b", ""] {
        ask(&["POST", path]).failure(2, &["PATH", "/orders"]);
    }
}

/// What nearly exists is told from what does not: pods below a headless Service, container ports, idle Deployments.
#[test]
fn what_is_not_there_is_told_with_what_is() {
    let bench = Bench::new();
    bench.write("stateful.yaml", STATEFUL);
    let ask = |arguments: &[&str]| bench.run(&[arguments, &["--config-dir", "manifests"]].concat());
    let explain = |target: &str| ask(&["explain", "bookshop/storefront-0", target]);
    explain("db-1.db:5432").success();
    for name in ["db-9.db:5432", "db-9.db.bookshop:5432", "db-9.db.bookshop.svc.cluster.local:5432"] {
        explain(name).failure(2, &["no pod \"db-9\"", "db.bookshop.svc.cluster.local", "db-0, db-1"]);
    }
    explain("svc/idle:web").failure(2, &["no port named \"web\"", "80 (http)", "behind port 80"]);
    ask(&["tls", "deploy/idle", "-n", "bookshop"]).failure(2, &["deployment/idle", "scaled to 0"]);
}

/// Each spelling of a workload gives the answer of NAMESPACE/POD, from a directory and from a server.
#[test]
fn a_workload_may_be_named_as_people_have_it() {
    let bench = Bench::new();
    bench.write("deployed.yaml", DEPLOYED);
    let server = bench.serve(&[]);
    for source in [["--config-dir", "manifests"], ["--server", &server.url()]] {
        for command in ["tls", "render"] {
            let ask = |name: &[&str]| bench.run(&[&[command], name, &source].concat()).success().to_owned();
            let expected = ask(&["bookshop/reviews-7d9f-a1b2c"]);
            assert!(!expected.is_empty());
            for name in [
                &["reviews-7d9f-a1b2c.bookshop"][..],
                &["reviews-7d9f-a1b2c", "-n", "bookshop"],
                &["pod/reviews-7d9f-a1b2c", "--namespace", "bookshop"],
                &["po/reviews-7d9f-a1b2c.bookshop"],
                &["bookshop/pod/reviews-7d9f-a1b2c"],
                &["Pod/bookshop/reviews-7d9f-a1b2c"],
                &["bookshop/deploy/reviews"],
                &["deploy/reviews", "-n", "bookshop"],
                &["deployment/reviews.bookshop"],
                &["Deployment/bookshop/reviews"],
                &["bookshop/rs/reviews-7d9f"],
                &["10.77.9.9"],
            ] {
                assert_eq!(ask(name), expected, "{command} {name:?} {source:?}");
            }
        }
    }
}

/// The same for both sides of `explain`, with ports by number and by name.
#[test]
fn a_target_may_be_named_as_people_have_it() {
    let bench = Bench::new();
    bench.write("deployed.yaml", DEPLOYED);
    let server = bench.serve(&[]);
    for source in [["--config-dir", "manifests"], ["--server", &server.url()]] {
        let ask = |client: &str, target: &str, more: &[&str]| {
            let run = bench.run(&[&["explain", client, target, "-o", "json"], more, &source].concat());
            run.success();
            run.json()
        };
        let fields = ["client", "host", "port", "verdict", "cluster", "endpoints"];
        let by_name = ask("bookshop/reviews-7d9f-a1b2c", "orders:80", &[]);
        for (client, target, more) in [
            ("10.77.9.9", "orders:http", &[][..]),
            ("deploy/reviews", "svc/orders:http", &["-n", "bookshop"]),
            ("bookshop/deploy/reviews", "svc/orders:80", &[]),
            ("bookshop/deploy/reviews", "svc/orders.bookshop:http", &[]),
            ("bookshop/deploy/reviews", "bookshop/svc/orders:80", &[]),
            ("bookshop/deploy/reviews", "Service/bookshop/orders:80", &[]),
        ] {
            let found = ask(client, target, more);
            for field in fields {
                assert_eq!(found[field], by_name[field], "{field} of {client} {target} {more:?}");
            }
        }
        let by_address = ask("bookshop/storefront-0", "10.77.9.9:8080", &[]);
        for target in ["bookshop/reviews-7d9f-a1b2c:8080", "bookshop/deploy/reviews:web", "10.77.9.9:web"] {
            assert_eq!(ask("bookshop/storefront-0", target, &[]), by_address, "{target}");
        }
    }
}

/// What keeps a command from an answer is 2 in each of them, with a directory and with a server.
#[test]
fn what_is_mistyped_exits_2_in_every_command() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (url, nobody) = (server.url(), format!("http://{nobody}"));
    let known = "bookshop/storefront-0";
    let questions: [&[&str]; 6] = [
        &["tls", known],
        &["explain", known, "catalog:80"],
        &["check"],
        &["render", known],
        &["config", known],
        &["status", known],
    ];
    for question in questions {
        let command = question[0];
        bench.run(&[question, &["--server", &nobody]].concat()).failure(2, &["cannot reach"]);
        bench.run(&[question, &["--server", "ftp://x"]].concat()).failure(2, &["--server"]);
        if command == "status" {
            continue;
        }
        bench.run(&[question, &["--config-dir", "nowhere"]].concat()).failure(2, &["nowhere"]);
        bench.run(&[question, &["--kubeconfig", "nowhere"]].concat()).failure(2, &["nowhere"]);
    }
    let unknown: [&[&str]; 12] = [
        &["tls", "bookshop/nobody"],
        &["tls", "bookshop/deploy/nobody"],
        &["tls", "nowhere/storefront-0"],
        &["tls", "10.99.99.99"],
        &["render", "bookshop/nobody"],
        &["render", "sts/nobody.bookshop"],
        &["explain", "bookshop/nobody", "catalog:80"],
        &["explain", known, "nobody:80"],
        &["explain", known, "svc/nobody:80"],
        &["explain", known, "bookshop/nobody:80"],
        &["explain", known, "catalog:81"],
        &["explain", known, "catalog:nothing"],
    ];
    for question in unknown {
        for source in [["--config-dir", "manifests"], ["--server", &url]] {
            bench.run(&[question, &source].concat()).failure(2, &["error: "]);
        }
    }
    let waiting = bench.run(&["ca", "wait-ready", "--server", &nobody, "--timeout", "100ms"]);
    assert!(!waiting.failure(1, &["eastwest ca serve"]).contains("--config-dir"), "it has no such flag");
    bench.run(&["status", "bookshop/nobody", "--server", &url]).failure(2, &["no workload bookshop/nobody"]);
    let others: [&[&str]; 12] = [
        &["diff", "--config-dir", "nowhere", "-f", "manifests"],
        &["diff", "--config-dir", "manifests", "-f", "nowhere"],
        &["diff", "--config-dir", "manifests", "--against", "nowhere"],
        &["diff", "--config-dir", "manifests", "--delete", "Pod/bookshop/nobody"],
        &["dump", "--kubeconfig", "nowhere", "--out", "out"],
        &["dump", "--out", "manifests"],
        &["serve", "--config-dir", "nowhere"],
        &["ca", "show", "--state-dir", "nowhere"],
        &["ca", "bundle", "--state-dir", "nowhere"],
        &["ca", "bundle", "--server", &nobody],
        &["ca", "rotate", "--state-dir", "nowhere"],
        &["ca", "ledger", "verify", "--state-dir", "nowhere"],
    ];
    for command in others {
        let run = bench.run(command);
        assert_eq!(run.code, 2, "{command:?}: {run:?}");
    }
}

/// Bad news is 1.
#[test]
fn bad_news_exits_1() {
    let bench = Bench::new();
    let server = bench.serve(&[]);
    let refused = ["explain", "bookshop/legacy-0", "payments.payments:80"];
    let not_connected = bench.run(&["status", "bookshop/storefront-0", "--server", &server.url()]);
    not_connected.failure(1, &["no proxy of bookshop/storefront-0 is connected"]);
    bench.write("bad.yaml", "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: x, namespace: bookshop}\nspec: {mtls: {mode: STRICTER}}\n");
    server.until("/debug/config_errors", |page| !page.as_array().unwrap().is_empty());
    for source in [["--config-dir", "manifests"], ["--server", &server.url()]] {
        for question in [&refused[..], &["check"]] {
            assert_eq!(bench.run(&[question, &source].concat()).code, 1, "{question:?} {source:?}");
        }
    }
    let diff = bench.run(&["diff", "--config-dir", "manifests", "-f", "manifests/bad.yaml"]);
    assert_eq!(diff.code, 1, "{diff:?}");
    assert!(
        diff.out
            .starts_with("the change has 1 mistake, which is left out of what follows; nothing else breaks"),
        "{}",
        diff.out
    );
}

/// Help is an answer too.
#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    let bench = Bench::new();
    for arguments in
        [&["--help"][..], &["tls", "--help"], &["--version"], &["check", "--config-dir", "manifests"]]
    {
        let mut command = bench.command(arguments);
        command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
        let ended = command.output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("cannot write to stdout"), "{ended:?}");
    }
}
