//! The whole agent against a fake CA over TLS and an SDS client, on loopback.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::time::timeout;
use tonic::Status;

use crate::{
    AgentConfig, AgentError, Shutdown,
    certificate::{
        client::{CaClient, CaClientConfig, IssueError, system_clock},
        rotation::Issue,
    },
    config::Settings,
    run,
    tests::{
        SIGNALS,
        agent::TestAgent,
        ca::{IDENTITY, TestCa},
        sds::{Subscription, VARIANTS, Variant},
        server::{Call, FakeCa},
    },
};

const HOUR: Duration = Duration::from_secs(3600);
const LIMIT: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("in time")
}

#[tokio::test]
async fn a_workload_gets_its_certificate_and_roots_over_both_variants() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    for variant in VARIANTS {
        let mut pair = Subscription::new(&agent.socket(), "default", variant).await;
        let (chain, key) = within(pair.next_pair()).await;
        let key = rcgen::KeyPair::from_pem(&key).unwrap();
        let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        let public = rcgen::PublicKeyData::der_bytes(&key);
        assert!(leaf.windows(public.len()).any(|bytes| bytes == public), "the key belongs to the leaf");
        for name in ["ROOTCA", "CONTROL_PLANE_ROOTCA"] {
            let mut roots = Subscription::new(&agent.socket(), name, variant).await;
            assert_eq!(within(roots.next_roots()).await.trim(), agent.ca.ca.root_pem.trim(), "{name}");
        }
    }
    let first = Call {
        authorization: Some("Bearer first".into()),
        cluster: Some("Kubernetes".into()),
        seconds: 24 * 3600,
        with_certificate: false,
    };
    assert_eq!(agent.ca.calls(), [first]);
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(agent.socket()), 0o600);
    assert_eq!(mode(agent.dir.path().join("agent")), 0o700);
    assert!(agent.dir.path().join("agent/envoy.yaml").is_file());
    let socket = agent.socket();
    assert_eq!(agent.end().await, 0);
    assert!(!socket.exists(), "it leaves no socket behind");
}

#[tokio::test]
async fn a_subscription_older_than_the_certificate_is_answered_when_it_comes() {
    let ca = FakeCa::new(|_, _| Err(Status::unavailable("not yet")));
    let agent = TestAgent::start_with(ca, |_| {}).await;
    agent.status_becomes("/healthz/ready", 503, "not yet").await;
    let mut pairs = Vec::new();
    for variant in VARIANTS {
        pairs.push(Subscription::new(&agent.socket(), "default", variant).await);
    }
    agent.ca.behave(|ca, csr| Ok(ca.answer(csr, HOUR)));
    for pair in &mut pairs {
        within(pair.next_pair()).await;
    }
}

#[tokio::test]
async fn rotations_are_pushed_unasked_and_renewals_show_certificate_and_fresh_token() {
    let agent = TestAgent::start(Duration::from_secs(3)).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    fs::write(agent.token_file(), "second").unwrap();
    let mut streams = Vec::new();
    for variant in VARIANTS {
        streams.push(Subscription::new(&agent.socket(), "default", variant).await);
    }
    for stream in &mut streams {
        let (first, second) = (within(stream.next_pair()).await, within(stream.next_pair()).await);
        assert!(first.0 != second.0 && first.1 != second.1, "new certificate, new key");
    }
    let renewal = agent.ca.calls().pop().unwrap();
    assert_eq!(renewal.authorization.as_deref(), Some("Bearer second"));
    assert!(renewal.with_certificate);

    fs::remove_file(agent.token_file()).unwrap();
    for stream in &mut streams {
        within(stream.next_pair()).await;
    }
    let renewal = agent.ca.calls().pop().unwrap();
    assert_eq!((renewal.authorization, renewal.with_certificate), (None, true));
}

#[tokio::test]
async fn a_new_root_is_pushed() {
    let agent = TestAgent::start(Duration::from_secs(2)).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let mut roots = Subscription::new(&agent.socket(), "ROOTCA", Variant::Delta).await;
    assert_eq!(certificates(&within(roots.next_roots()).await), 1);
    let next = TestCa::new("next root");
    agent.ca.behave(move |ca, csr| {
        let roots = format!("{}{}", ca.root_pem, next.root_pem);
        Ok(vec![ca.sign(csr, &[IDENTITY], HOUR), roots])
    });
    assert_eq!(certificates(&within(roots.next_roots()).await), 2);
    let mut roots = Subscription::new(&agent.socket(), "CONTROL_PLANE_ROOTCA", Variant::Delta).await;
    assert!(certificates(&within(roots.next_roots()).await) >= 2, "the control plane may move on, too");
}

fn certificates(pem: &str) -> usize {
    CertificateDer::pem_slice_iter(pem.as_bytes()).count()
}

#[tokio::test]
async fn a_certificate_that_expired_while_the_ca_was_away_is_renewed_when_it_is_back() {
    let mut agent = TestAgent::start(Duration::from_secs(2)).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    agent.serving.take().unwrap().stop().await;
    agent.status_becomes("/healthz/ready", 503, "the certificate expired at").await;
    let mut pair = Subscription::new(&agent.socket(), "default", Variant::Delta).await;
    let expired = within(pair.next_pair()).await;
    agent.serving = Some(agent.ca.serve(agent.address).await.1);
    let back = Instant::now();
    assert_ne!(within(pair.next_pair()).await, expired);
    assert!(back.elapsed() < Duration::from_millis(2500), "renewed after {:?}", back.elapsed());
    agent.status_becomes("/healthz/ready", 200, "ready").await;
}

#[tokio::test]
async fn a_ca_that_refuses_the_old_certificate_is_asked_with_the_token_alone() {
    let life = Duration::from_secs(6);
    let begun = Instant::now();
    let mut agent = TestAgent::start(life).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    // A CA that lost its state: same address, other root, so it does not accept our certificate.
    let lost = FakeCa::new(|ca, csr| Ok(ca.answer(csr, HOUR)));
    fs::write(agent.dir.path().join("root-cert.pem"), &lost.ca.root_pem).unwrap();
    agent.serving.take().unwrap().stop().await;
    let _serving = lost.serve(agent.address).await;
    let mut roots = Subscription::new(&agent.socket(), "ROOTCA", Variant::Delta).await;
    within(roots.next_roots()).await;
    assert_eq!(within(roots.next_roots()).await.trim(), lost.ca.root_pem.trim());
    assert!(begun.elapsed() < life - Duration::from_secs(1), "while the old certificate is valid");
    assert_eq!(lost.failed_handshakes(), 1, "the old certificate is tried once");
}

#[tokio::test]
async fn a_wrong_answer_is_refused_and_a_good_one_taken_later() {
    let ca =
        FakeCa::new(|ca, csr| Ok(vec![ca.sign(csr, &["spiffe://cluster.local/ns/shop/sa/other"], HOUR)]));
    let agent = TestAgent::start_with(ca, |_| {}).await;
    agent.status_becomes("/healthz/ready", 503, "it has 1 elements").await;
    agent.ca.behave(|ca, csr| {
        let other = ca.sign(csr, &["spiffe://cluster.local/ns/shop/sa/other"], HOUR);
        Ok(vec![other, ca.root_pem.clone()])
    });
    agent.status_becomes("/healthz/ready", 503, "ns/shop/sa/other").await;
    agent.ca.behave(|ca, csr| Ok(ca.answer(csr, HOUR)));
    agent.status_becomes("/healthz/ready", 200, "ready").await;
}

#[tokio::test]
async fn each_failure_names_its_remedy() {
    let other_root = TestCa::new("another control plane").root_pem;
    // As after a control plane lost its state and made a root anew: the same name, another key.
    let same_name = TestCa::new("control plane").root_pem;
    type Change = Box<dyn FnOnce(&mut AgentConfig)>;
    let cases: [(&str, Change); 7] = [
        ("--token-file must name", Box::new(|config| fs::remove_file(&config.token_file).unwrap())),
        ("it is empty", Box::new(|config| fs::write(&config.token_file, "\n").unwrap())),
        ("--ca-root must name", Box::new(|config| fs::write(&config.ca_root, "no PEM").unwrap())),
        (
            "does not lead to --ca-root",
            Box::new(move |config| fs::write(&config.ca_root, other_root).unwrap()),
        ),
        (
            "does not lead to --ca-root",
            Box::new(move |config| fs::write(&config.ca_root, same_name).unwrap()),
        ),
        (
            "--control-plane-name",
            Box::new(|config| config.control_plane_name = Some("elsewhere.test".into())),
        ),
        ("is --control-plane right?", Box::new(|config| config.control_plane = "127.0.0.1:1".into())),
    ];
    for (text, change) in cases {
        let ca = FakeCa::new(|ca, csr| Ok(ca.answer(csr, HOUR)));
        let agent = TestAgent::start_with(ca, change).await;
        agent.status_becomes("/healthz/ready", 503, text).await;
        assert_eq!(agent.status("/healthz/live").await.unwrap().0, 200, "alive, though not ready");
    }
    let ca = FakeCa::new(|_, _| Err(Status::unauthenticated("request authenticate failure")));
    let agent = TestAgent::start_with(ca, |_| {}).await;
    agent.status_becomes("/healthz/ready", 503, "is the token fresh").await;
}

#[tokio::test]
async fn the_control_planes_name_may_differ_from_its_address() {
    let ca = FakeCa::new(|ca, csr| Ok(ca.answer(csr, HOUR)));
    let name = |config: &mut AgentConfig| config.control_plane_name = Some("control-plane.test".into());
    TestAgent::start_with(ca, name).await.status_becomes("/healthz/ready", 200, "ready").await;
}

#[tokio::test]
async fn the_status_port_shows_the_certificate_and_figures_but_no_secrets() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let (status, certificate) = agent.status("/certz").await.unwrap();
    let shown: serde_json::Value = serde_json::from_str(&certificate).unwrap();
    assert_eq!((status, &shown["spiffe_id"]), (200, &IDENTITY.into()));
    assert!(!certificate.contains("PRIVATE"));
    let (_, metrics) = agent.status("/metrics").await.unwrap();
    assert!(metrics.contains("\neastwest_agent_certificates_total 1\n"), "{metrics}");
    assert!(metrics.contains("\neastwest_agent_certificate_failures_total 0\n"), "{metrics}");
    assert!(metrics.contains("\neastwest_agent_certificate_expiry_timestamp_seconds 1"), "{metrics}");
}

#[tokio::test]
async fn the_command_starts_once_the_certificate_is_written_and_its_code_is_ours() {
    let _undisturbed = SIGNALS.read().await;
    let ca = FakeCa::new(|ca, csr| Ok(ca.answer(csr, HOUR)));
    let agent = TestAgent::start_with(ca, |config| {
        let certificates = config.dir.with_file_name("certificates");
        let script =
            "trap 'exit 5' TERM; test -s $1/cert-chain.pem && echo x > $1/up; while :; do sleep 0.02; done";
        config.command = ["sh", "-c", script, "sh"].map(Into::into).to_vec();
        config.command.push(certificates.clone().into());
        config.write_certs = Some(certificates);
    })
    .await;
    let certificates = agent.dir.path().join("certificates");
    within(async {
        while !certificates.join("up").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let key = certificates.join("key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"));
    let root = fs::read_to_string(certificates.join("root-cert.pem")).unwrap();
    assert_eq!(root.trim(), agent.ca.ca.root_pem.trim());
    assert_eq!(within(agent.end()).await, 5);
}

#[tokio::test]
async fn the_end_is_prompt_while_there_is_no_certificate() {
    let ca = FakeCa::new(|_, _| Err(Status::unavailable("not yet")));
    let agent = TestAgent::start_with(ca, |config| config.command = vec!["false".into()]).await;
    agent.status_becomes("/healthz/ready", 503, "not yet").await;
    assert_eq!(timeout(Duration::from_secs(2), agent.end()).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_in_use_already_is_an_error_that_names_the_flag() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let config = |dir: &str, status_port| AgentConfig {
        control_plane: agent.address.to_string(),
        namespace: "shop".into(),
        pod: "reviews-1".into(),
        ips: vec!["10.0.0.8".into()],
        dir: agent.dir.path().join(dir),
        status_port,
        ..AgentConfig::default()
    };
    let error = within(run(config("agent", 0), Shutdown::new())).await.unwrap_err();
    assert!(matches!(error, AgentError::Socket(_)) && error.to_string().contains("--dir"), "{error}");
    let error = within(run(config("other", agent.status_port), Shutdown::new())).await.unwrap_err();
    assert!(error.to_string().contains("--status-port"), "{error}");
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    assert!(agent.socket().exists(), "the first agent is not disturbed");
    let bootstrap = fs::read_to_string(agent.dir.path().join("agent/envoy.yaml")).unwrap();
    assert!(bootstrap.contains("reviews-0.shop"), "{bootstrap}");
}

#[tokio::test]
async fn the_status_port_answers_on_both_families() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    if tokio::net::TcpListener::bind("[::1]:0").await.is_err() {
        return eprintln!("SKIPPED: the_status_port_answers_on_both_families: no IPv6");
    }
    let answer = agent.status_at(std::net::Ipv6Addr::LOCALHOST.into(), "/healthz/ready").await;
    assert_eq!(answer, Some((200, "ready\n".to_owned())));
}

#[tokio::test]
async fn mistakes_in_the_configuration_come_before_anything_else() {
    let error = run(AgentConfig::default(), Shutdown::new()).await.unwrap_err();
    let AgentError::Config(mistakes) = error else { panic!("{error}") };
    assert_eq!(mistakes.0.len(), 4, "{mistakes}");
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_says_nothing_is_given_up_after_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = AgentConfig {
        control_plane: listener.local_addr().unwrap().to_string(),
        ca_root: dir.path().join("root"),
        token_file: dir.path().join("token"),
        namespace: "shop".into(),
        pod: "reviews-0".into(),
        ips: vec!["10.0.0.7".into()],
        ..AgentConfig::default()
    };
    fs::write(&config.ca_root, TestCa::new("root").root_pem).unwrap();
    fs::write(&config.token_file, "token").unwrap();
    let client = CaClient::new(CaClientConfig::from(&Settings::parse(config).unwrap()), system_clock());
    let begun = tokio::time::Instant::now();
    let error = client.issue(None, 0).await.unwrap_err();
    assert!(matches!(error, IssueError::Timeout { .. }), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 10);
}

/// A rule may name a file before it is there, and the file may change later.
#[tokio::test]
async fn files_that_rules_name_are_served_when_they_are_there_and_when_they_change() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let file = agent.dir.path().join("partner.pem");
    let name = format!("file-root:{}", file.display());
    let mut streams = Vec::new();
    for variant in VARIANTS {
        streams.push(Subscription::absent(&agent.socket(), &name, variant).await);
    }
    for root in [&agent.ca.ca.root_pem, &TestCa::new("partner").root_pem] {
        fs::write(agent.dir.path().join("draft"), root).unwrap();
        fs::rename(agent.dir.path().join("draft"), &file).unwrap();
        for stream in &mut streams {
            assert_eq!(within(stream.next_roots()).await, *root);
        }
    }
}
