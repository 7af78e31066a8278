//! The secret discovery service.
#![allow(missing_docs, clippy::unwrap_used)]

mod peers;

use eastwest_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use eastwest_proto::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use eastwest_proto::type_url::{CLUSTER, SECRET};
use eastwest_xds::TypeUrl;
use peers::{Host, node, soon, view};
use tonic::Code;

const NODE: &str = "sidecar~10.0.0.7~web-0.shop~shop.svc.cluster.local";

fn request(type_url: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        node: node(NODE),
        type_url: type_url.to_owned(),
        resource_names: vec!["default".to_owned()],
        ..Default::default()
    }
}

#[tokio::test]
async fn secrets_are_streamed_in_both_variants_and_rotate() {
    let host = Host::start(view(&[(TypeUrl::SECRET, &[("default", "S1"), ("ROOTCA", "R1")])])).await;
    let mut stub = SecretDiscoveryServiceClient::new(host.channel());
    // Without a type: the service has only one.
    let mut sotw = stub.stream_secrets(with_open_end(request(""))).await.unwrap().into_inner();
    let delta = DeltaDiscoveryRequest {
        node: node(NODE),
        type_url: SECRET.to_owned(),
        resource_names_subscribe: vec!["default".to_owned()],
        ..Default::default()
    };
    let mut delta = stub.delta_secrets(with_open_end(delta)).await.unwrap().into_inner();
    for body in ["S1", "S2"] {
        let first = soon(sotw.message()).await.unwrap().unwrap();
        assert_eq!((first.resources.len(), &first.resources[0].value[..]), (1, body.as_bytes()));
        let second = soon(delta.message()).await.unwrap().unwrap();
        assert_eq!(second.resources[0].resource.as_ref().unwrap().value, body.as_bytes());
        host.publish(view(&[(TypeUrl::SECRET, &[("default", "S2"), ("ROOTCA", "R1")])]));
    }
}

#[tokio::test]
async fn other_types_are_refused_and_the_unary_method_is_not_served() {
    let host = Host::start(view(&[(TypeUrl::CLUSTER, &[("a", "A")])])).await;
    let mut stub = SecretDiscoveryServiceClient::new(host.channel());
    let mut wrong = stub.stream_secrets(with_open_end(request(CLUSTER))).await.unwrap().into_inner();
    assert_eq!(soon(wrong.message()).await.unwrap_err().code(), Code::InvalidArgument);
    let unary = soon(stub.fetch_secrets(request(SECRET))).await;
    assert_eq!(unary.unwrap_err().code(), Code::Unimplemented);
}

/// One request, and then the client keeps its half open.
fn with_open_end<T: Send + 'static>(request: T) -> impl tokio_stream::Stream<Item = T> + Send + 'static {
    use tokio_stream::StreamExt;
    tokio_stream::once(request).chain(tokio_stream::pending())
}
