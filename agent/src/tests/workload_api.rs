//! The Workload API over the agent's socket, asked as its protocol says and by a client library as its makers ship
//! it (CA.md S49 to S64).

use std::{path::Path, time::Duration};

use eastwest_ca::{SpiffeBundle, TrustBundle, jwt::SvidKey};
use eastwest_proto::spiffe::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509svidRequest,
    X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use spiffe::{TrustDomain, WorkloadApiClient, X509Source};
use tokio::time::timeout;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::tests::{
    agent::TestAgent,
    ca::{IDENTITY, TestCa},
    sds::connect,
    server::FakeCa,
};

const HOUR: Duration = Duration::from_secs(3600);
const LIMIT: Duration = Duration::from_secs(20);
const HEADER: &str = "workload.spiffe.io";

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("in time")
}

/// A client of the service as it stands in the protocol.
async fn client(agent: &TestAgent) -> SpiffeWorkloadApiClient<Channel> {
    SpiffeWorkloadApiClient::new(connect(agent.socket()).await)
}

/// A request with the security header.
fn secured<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(HEADER, "true".parse().unwrap());
    request
}

async fn identities(agent: &TestAgent) -> Result<Streaming<X509svidResponse>, Status> {
    let answer = client(agent).await.fetch_x509svid(secured(X509svidRequest {})).await;
    answer.map(tonic::Response::into_inner)
}

async fn next_message<T>(stream: &mut Streaming<T>) -> T {
    within(stream.message()).await.unwrap().expect("the stream goes on")
}

/// The certificates in DER after DER.
fn split(mut der: &[u8]) -> Vec<X509Certificate<'_>> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (rest, certificate) = X509Certificate::from_der(der).unwrap();
        found.push(certificate);
        der = rest;
    }
    found
}

#[tokio::test]
async fn no_call_without_the_security_header() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let mut client = client(&agent).await;
    for values in [&[][..], &["True"], &["TRUE"], &["1"], &["true "], &["true", "false"]] {
        fn with<T>(values: &[&str], message: T) -> Request<T> {
            let mut request = Request::new(message);
            for value in values {
                request.metadata_mut().append(HEADER, value.parse().unwrap());
            }
            request
        }
        let answers = [
            client.fetch_x509svid(with(values, X509svidRequest {})).await.err(),
            client.fetch_x509_bundles(with(values, X509BundlesRequest {})).await.err(),
            client.fetch_jwtsvid(with(values, JwtsvidRequest::default())).await.err(),
            client.fetch_jwt_bundles(with(values, JwtBundlesRequest {})).await.err(),
            client.validate_jwtsvid(with(values, ValidateJwtsvidRequest::default())).await.err(),
        ];
        for refused in answers {
            let refused = refused.unwrap_or_else(|| panic!("{values:?} are let pass"));
            assert_eq!(refused.code(), Code::InvalidArgument, "{values:?}");
            assert!(refused.message().contains("workload.spiffe.io: true"), "{refused}");
        }
    }
}

#[tokio::test]
async fn unavailable_while_booting_denied_without_an_identity_served_once_there_is_one() {
    let ca = FakeCa::new(|_, _| Err(Status::unavailable("not yet")));
    let agent = TestAgent::start_with(ca, |_| {}).await;
    agent.status_becomes("/healthz/ready", 503, "not yet").await;
    let booting = identities(&agent).await.unwrap_err();
    assert_eq!(booting.code(), Code::Unavailable, "{booting}");
    assert!(booting.message().contains("no certificate yet"), "{booting}");
    let bundles = client(&agent).await.fetch_x509_bundles(secured(X509BundlesRequest {})).await;
    assert_eq!(bundles.unwrap_err().code(), Code::Unavailable);

    agent.ca.behave(|_, _| Err(Status::unauthenticated("who are you?")));
    agent.status_becomes("/healthz/ready", 503, "who are you?").await;
    let denied = identities(&agent).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");

    agent.ca.behave(|ca, csr| Ok(ca.answer(csr, HOUR)));
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    next_message(&mut identities(&agent).await.unwrap()).await;
}

#[tokio::test]
async fn the_first_message_comes_at_once_with_identity_chain_key_and_bundle() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let message = next_message(&mut identities(&agent).await.unwrap()).await;
    let [svid] = &message.svids[..] else { panic!("{message:?}") };
    assert_eq!(svid.spiffe_id, IDENTITY);
    let key = rcgen::KeyPair::try_from(&svid.x509_svid_key[..]).expect("PKCS#8");
    let chain = split(&svid.x509_svid);
    let leaf = &chain[0];
    assert_eq!(
        leaf.public_key().raw,
        rcgen::PublicKeyData::subject_public_key_info(&key),
        "leaf first, its key"
    );
    assert!(!leaf.is_ca());
    let roots = split(&svid.bundle);
    leaf.verify_signature(Some(roots[0].public_key())).expect("the bundle vouches for the leaf");
    let mut hints: Vec<_> = message.svids.iter().map(|svid| &svid.hint).collect();
    hints.dedup();
    assert_eq!(hints.len(), message.svids.len(), "hints are unique");

    let bundles = client(&agent).await.fetch_x509_bundles(secured(X509BundlesRequest {})).await;
    let bundles = next_message(&mut bundles.unwrap().into_inner()).await.bundles;
    assert_eq!(bundles["spiffe://cluster.local"], svid.bundle, "the own domain is among them");
}

#[tokio::test]
async fn all_is_sent_again_when_some_of_it_changes() {
    let agent = TestAgent::start(Duration::from_secs(2)).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let mut stream = identities(&agent).await.unwrap();
    let mut bundles = client(&agent).await.fetch_x509_bundles(secured(X509BundlesRequest {})).await.unwrap();
    assert_eq!(split(&next_message(bundles.get_mut()).await.bundles["spiffe://cluster.local"]).len(), 1);
    let (first, second) = (next_message(&mut stream).await, next_message(&mut stream).await);
    assert_ne!(first.svids[0].x509_svid, second.svids[0].x509_svid, "rotated");
    assert_ne!(first.svids[0].x509_svid_key, second.svids[0].x509_svid_key, "with its new key");
    assert_eq!(first.svids[0].bundle, second.svids[0].bundle, "and what has not changed");

    let other = TestCa::new("next root");
    agent.ca.behave(move |ca, csr| {
        Ok(vec![ca.sign(csr, &[IDENTITY], HOUR), format!("{}{}", ca.root_pem, other.root_pem)])
    });
    // Rotations alone do not concern those who follow the bundles.
    assert_eq!(split(&next_message(bundles.get_mut()).await.bundles["spiffe://cluster.local"]).len(), 2);
    while split(&next_message(&mut stream).await.svids[0].bundle).len() != 2 {}
}

/// A bundle document of the root of a test CA.
fn document(ca: &TestCa) -> String {
    SpiffeBundle::of_roots(&TrustBundle::from_pem(&ca.root_pem).unwrap()).to_json()
}

#[tokio::test]
async fn bundles_of_other_domains_come_and_go_and_stay_apart() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let (b, next) = (TestCa::new("b"), TestCa::new("next root of ours"));
    let publish = |bundles: &[(&str, String)]| {
        let owned = bundles.iter().map(|(name, text)| ((*name).to_owned(), text.clone()));
        agent.ca.bundles.send_replace(owned.collect());
    };
    let mut stream = identities(&agent).await.unwrap();
    let first = next_message(&mut stream).await;
    assert!(first.federated_bundles.is_empty());

    publish(&[("b.example", document(&b)), ("c.example", "damaged".into()), ("D", document(&b))]);
    let second = next_message(&mut stream).await;
    assert_eq!(second.svids, first.svids, "all is sent again");
    let names: Vec<_> = second.federated_bundles.keys().map(String::as_str).collect();
    assert_eq!(names, ["spiffe://b.example"], "each that can be read");
    assert_eq!(split(&second.federated_bundles["spiffe://b.example"]).len(), 1);

    // A next root of our own domain is there before a renewal brings it.
    publish(&[("b.example", document(&b)), ("cluster.local", document(&next))]);
    let third = next_message(&mut stream).await;
    assert_eq!(split(&third.svids[0].bundle).len(), 2);
    assert_eq!(third.federated_bundles, second.federated_bundles, "ours is not among those of others");
    let bundles = client(&agent).await.fetch_x509_bundles(secured(X509BundlesRequest {})).await;
    let bundles = next_message(&mut bundles.unwrap().into_inner()).await.bundles;
    assert_eq!(bundles.keys().collect::<Vec<_>>(), ["spiffe://b.example", "spiffe://cluster.local"]);

    publish(&[("b.example", r#"{"keys": []}"#.into()), ("cluster.local", document(&next))]);
    assert!(next_message(&mut stream).await.federated_bundles.is_empty(), "no keys: trusted no longer");
}

#[tokio::test]
async fn the_jwt_profile_asks_the_control_plane_and_judges_by_bundles() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let mut client = client(&agent).await;
    let mut order = async |audience: &[&str], spiffe_id: &str| {
        let audience = audience.iter().map(|name| (*name).to_owned()).collect();
        let order = JwtsvidRequest { audience, spiffe_id: spiffe_id.to_owned() };
        client.fetch_jwtsvid(secured(order)).await.map(tonic::Response::into_inner)
    };
    for nobody in [&[][..], &[""], &["db", ""]] {
        assert_eq!(order(nobody, "").await.unwrap_err().code(), Code::InvalidArgument, "{nobody:?}");
    }
    let other = "spiffe://cluster.local/ns/shop/sa/ratings";
    assert_eq!(order(&["db"], other).await.unwrap_err().code(), Code::PermissionDenied);
    for id in ["", IDENTITY] {
        let [svid] = &order(&["db", "vault"], id).await.unwrap().svids[..] else { panic!("one identity") };
        assert_eq!((svid.spiffe_id.as_str(), svid.svid.as_str()), (IDENTITY, "token for db and vault"));
    }

    let key = SvidKey::new(&eastwest_ca::PrivateKey::generate().unwrap()).unwrap();
    let mut stream = client.fetch_jwt_bundles(secured(JwtBundlesRequest {})).await.unwrap().into_inner();
    let own = next_message(&mut stream).await.bundles;
    assert_eq!(
        own.keys().collect::<Vec<_>>(),
        ["spiffe://cluster.local"],
        "the own domain, though without keys"
    );
    let bundle = SpiffeBundle::default().with_jwt_keys(vec![key.public()]);
    agent.ca.bundles.send_replace([("b.example".to_owned(), bundle.to_json())].into());
    let both = next_message(&mut stream).await.bundles;
    assert_eq!(both["spiffe://b.example"], bundle.jwt_key_set().as_bytes());

    let subject = "spiffe://b.example/ns/shop/sa/caller".parse().unwrap();
    let now = std::time::SystemTime::now().into();
    let token = key.sign(&subject, &["db".to_owned()], HOUR, now).unwrap().token;
    let mut judge = async |audience: &str, svid: &str| {
        let question = ValidateJwtsvidRequest { audience: audience.to_owned(), svid: svid.to_owned() };
        client.validate_jwtsvid(secured(question)).await.map(tonic::Response::into_inner)
    };
    let judged = judge("db", &token).await.unwrap();
    assert_eq!(judged.spiffe_id, subject.as_str());
    assert!(judged.claims.unwrap().fields.contains_key("exp"));
    for (audience, svid) in
        [("", token.as_str()), ("db", ""), ("vault", &token), ("db", "a.b.c"), ("db", &token[1..])]
    {
        assert_eq!(
            judge(audience, svid).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{audience:?} {svid:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_agent() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let mut stream = identities(&agent).await.unwrap();
    next_message(&mut stream).await;
    assert_eq!(within(agent.end()).await, 0, "an open stream does not hold it");
    assert!(!matches!(within(stream.message()).await, Ok(Some(_))));
}

#[tokio::test]
async fn profiles_that_are_not_ours_are_unimplemented() {
    let agent = TestAgent::start(HOUR).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    for path in ["/SpiffeWorkloadAPI/FetchWITSVID", "/SpiffeWorkloadAPI/FetchWITBundles"] {
        let mut grpc = tonic::client::Grpc::new(connect(agent.socket()).await);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<X509svidRequest, X509svidResponse>::default();
        let answer = grpc.server_streaming(secured(X509svidRequest {}), path.parse().unwrap(), codec).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
}

#[test]
fn the_service_has_both_profiles_and_no_more() {
    let pool = prost_reflect::DescriptorPool::decode(eastwest_proto::FILE_DESCRIPTOR_SET).unwrap();
    let service = pool.get_service_by_name("SpiffeWorkloadAPI").expect("in no package");
    let methods: Vec<_> = service.methods().map(|method| method.name().to_owned()).collect();
    let profiles =
        ["FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID"];
    assert_eq!(methods, profiles);
}

fn endpoint(socket: &Path) -> String {
    format!("unix:{}", socket.display())
}

#[tokio::test]
async fn a_client_library_refuses_endpoints_that_are_none() {
    for endpoint in ["unix://h/p", "tcp://h:1", "tcp://1.2.3.4:1/p", "http://1.2.3.4:1", "/p"] {
        assert!(WorkloadApiClient::connect_to(endpoint).await.is_err(), "{endpoint}");
    }
}

#[tokio::test]
async fn the_rust_library_gets_an_identity_and_each_newer_one() {
    let agent = TestAgent::start(Duration::from_secs(3)).await;
    agent.status_becomes("/healthz/ready", 200, "ready").await;
    let source = X509Source::builder().endpoint(endpoint(&agent.socket())).build();
    let source = within(source).await.unwrap();
    let first = source.svid().unwrap();
    println!("interop: Rust spiffe 0.19.0: FetchX509SVID: {}", first.spiffe_id());
    assert_eq!(first.spiffe_id().to_string(), IDENTITY);
    let mut updates = source.updated();
    for update in 1..=2 {
        within(updates.changed()).await.unwrap();
        let svid = source.svid().unwrap();
        println!("interop: Rust spiffe 0.19.0: rotation {update} on the open stream");
        assert_ne!(svid.cert_chain()[0].as_bytes(), first.cert_chain()[0].as_bytes());
    }
    let bundles = WorkloadApiClient::connect_to(endpoint(&agent.socket())).await.unwrap();
    let bundles = within(bundles.fetch_x509_bundles()).await.unwrap();
    let own = bundles.get(&TrustDomain::new("cluster.local").unwrap()).expect("the own domain");
    assert_eq!(own.authorities().len(), 1);
    source.shutdown().await;
}
