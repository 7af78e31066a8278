//! Secrets over ADS: to those who have proven who they are, and of their own alone.

use eastwest_proto::{
    envoy::extensions::transport_sockets::tls::v3::{Secret, secret::Type},
    type_url::{CLUSTER, SECRET},
};
use eastwest_tests::bookshop::{CATALOG, Member, STOREFRONT};
use serde_json::json;

use crate::harness::{
    Bench, Server,
    clients::{plain, tls},
    xds::{First, Received, Stream, VARIANTS, Variant, node},
};

const RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner, namespace: bookshop}
spec:
  host: partner.example.org
  workloadSelector: {matchLabels: {app: storefront}}
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: partner}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner, namespace: bookshop}
spec: {hosts: [partner.example.org], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
";

/// A Secret `partner` with a new key, which is returned.
fn write_secret(bench: &Bench) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["client.example.org".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let data = json!({"tls.crt": certificate, "tls.key": key.serialize_pem(), "ca.crt": certificate});
    let metadata = json!({"name": "partner", "namespace": "bookshop"});
    bench.write(
        "partner.json",
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}).to_string(),
    );
    key.serialize_pem()
}

async fn open(bench: &Bench, server: &Server, variant: Variant, member: &Member) -> Stream {
    let channel = tls(server.tls, &bench.root(), None).await.unwrap();
    let token = bench.token(&format!("{}/{}", member.namespace, member.app));
    let first =
        First { node: Some(node(member)), token: Some(&token), type_url: CLUSTER, ..First::default() };
    let mut stream = Stream::open(channel, variant, first).await.unwrap();
    stream.accept().await;
    stream
}

fn wanted() -> Vec<String> {
    vec!["kubernetes://partner".to_owned(), "kubernetes://partner-cacert".to_owned()]
}

/// The key that a response brings.
fn key(received: &Received) -> String {
    match received.get::<Secret>("kubernetes://partner").r#type {
        Some(Type::TlsCertificate(pair)) => format!("{:?}", pair.private_key.unwrap().specifier.unwrap()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_goes_to_the_proxy_that_a_rule_selects_and_follows_its_renewal() {
    for variant in VARIANTS {
        let bench = Bench::new();
        bench.write("partner.yaml", RULE);
        let first_key = write_secret(&bench);
        let server = bench.serve(&[]);
        let mut stream = open(&bench, &server, variant, &STOREFRONT).await;
        let received = stream.fetch(SECRET, &wanted()).await;
        assert_eq!(received.names(), wanted());
        assert!(key(&received).contains(&format!("({} bytes)", first_key.len())), "{}", key(&received));

        write_secret(&bench);
        let renewed = stream.accept().await;
        assert_eq!(
            (&*renewed.type_url, renewed.names()),
            (SECRET, wanted().iter().map(String::as_str).collect())
        );
        assert_ne!(
            received.get::<Secret>("kubernetes://partner"),
            renewed.get::<Secret>("kubernetes://partner"),
            "the new one"
        );

        // No page and no log shows a key.
        let body: String = first_key.lines().nth(1).unwrap().to_owned();
        for page in ["/debug/config_dump?workload=bookshop/storefront-0", "/debug/check", "/debug/syncz"] {
            let (_, text) = server.page(page);
            assert!(!text.contains("PRIVATE KEY") && !text.contains(&body), "{page}");
        }
        let dump = server.json("/debug/config_dump?workload=bookshop/storefront-0&types=sds");
        assert!(dump.to_string().contains("[redacted]"), "{dump}");
        assert!(!server.output().contains("PRIVATE KEY"));
    }
}

/// A proxy that is not entitled gets no Secret, and its stream goes on.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_proxy_gets_the_secret() {
    let bench = Bench::new();
    bench.write("partner.yaml", RULE);
    write_secret(&bench);
    let server = bench.serve(&[]);
    for variant in VARIANTS {
        // Another pod of the namespace, and the right one without a proof.
        let mut neighbour = open(&bench, &server, variant, &CATALOG).await;
        let first = First { node: Some(node(&STOREFRONT)), type_url: CLUSTER, ..First::default() };
        let mut unproven = Stream::open(plain(server.grpc), variant, first).await.unwrap();
        unproven.accept().await;
        for stream in [&mut neighbour, &mut unproven] {
            stream.ask(SECRET, &wanted());
            stream.ask(eastwest_proto::type_url::LISTENER, &[]);
            loop {
                let received = stream.accept().await;
                assert!(
                    received.resources.keys().all(|name| !name.contains("partner"))
                        || received.type_url != SECRET
                );
                if received.type_url == eastwest_proto::type_url::LISTENER {
                    break;
                }
                if received.type_url == SECRET && variant == Variant::Delta {
                    assert_eq!(received.removed, wanted(), "delta says that they are not there");
                }
            }
        }
    }
}
