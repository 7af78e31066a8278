//! A client of the secret discovery service, as Envoy is one: a stream for each secret.

use std::path::{Path, PathBuf};

use eastwest_proto::{
    envoy::{
        config::core::v3::{DataSource, Node, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{Secret, secret::Type},
        service::{
            discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
            secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
        },
    },
    type_url,
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// The two variants of the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Variant {
    StateOfTheWorld,
    Delta,
}

/// Both variants, to test with each.
pub(crate) const VARIANTS: [Variant; 2] = [Variant::StateOfTheWorld, Variant::Delta];

/// The stream of one secret: PEM texts as they come.
pub(crate) struct Subscription(mpsc::Receiver<Secret>);

impl Subscription {
    /// Subscribes to `name` and acknowledges whatever comes.
    pub(crate) async fn new(socket: &Path, name: &str, variant: Variant) -> Self {
        Self::open(socket, name, variant, false).await
    }

    /// Subscribes to `name`, which is not there yet.
    pub(crate) async fn absent(socket: &Path, name: &str, variant: Variant) -> Self {
        Self::open(socket, name, variant, true).await
    }

    async fn open(socket: &Path, name: &str, variant: Variant, absent: bool) -> Self {
        let client = SecretDiscoveryServiceClient::new(connect(socket.to_owned()).await);
        let (secrets, received) = mpsc::channel(16);
        let name = name.to_owned();
        match variant {
            Variant::StateOfTheWorld => tokio::spawn(state_of_the_world(client, name, secrets)),
            Variant::Delta => tokio::spawn(delta(client, name, absent, secrets)),
        };
        Self(received)
    }

    /// The next secret pushed.
    pub(crate) async fn next(&mut self) -> Secret {
        self.0.recv().await.expect("the stream has ended")
    }

    /// Chain and key of the next secret pushed.
    pub(crate) async fn next_pair(&mut self) -> (String, String) {
        match self.next().await.r#type {
            Some(Type::TlsCertificate(pair)) => {
                (text(pair.certificate_chain.unwrap()), text(pair.private_key.unwrap()))
            }
            other => panic!("no certificate: {other:?}"),
        }
    }

    /// The roots of the next secret pushed.
    pub(crate) async fn next_roots(&mut self) -> String {
        match self.next().await.r#type {
            Some(Type::ValidationContext(context)) => text(context.trusted_ca.unwrap()),
            other => panic!("no validation context: {other:?}"),
        }
    }
}

fn text(source: DataSource) -> String {
    match source.specifier {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("not inline: {other:?}"),
    }
}

/// A channel over the socket.
pub(crate) async fn connect(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://agent").connect_with_connector(connector).await.unwrap()
}

fn node() -> Option<Node> {
    Some(Node { id: "sidecar~10.0.0.7~reviews-0.shop~shop.svc.cluster.local".into(), ..Default::default() })
}

async fn state_of_the_world(
    mut client: SecretDiscoveryServiceClient<Channel>,
    name: String,
    secrets: mpsc::Sender<Secret>,
) {
    let (requests, outgoing) = mpsc::channel(1);
    let mut request = DiscoveryRequest {
        node: node(),
        type_url: type_url::SECRET.into(),
        resource_names: vec![name],
        ..Default::default()
    };
    requests.send(request.clone()).await.unwrap();
    let mut responses = client.stream_secrets(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    while let Ok(Some(response)) = responses.message().await {
        for resource in &response.resources {
            secrets.send(resource.unpack().unwrap()).await.unwrap();
        }
        request.node = None;
        (request.version_info, request.response_nonce) = (response.version_info, response.nonce);
        requests.send(request.clone()).await.unwrap();
    }
}

async fn delta(
    mut client: SecretDiscoveryServiceClient<Channel>,
    name: String,
    mut absent: bool,
    secrets: mpsc::Sender<Secret>,
) {
    let (requests, outgoing) = mpsc::channel(1);
    let subscribe = DeltaDiscoveryRequest {
        node: node(),
        type_url: type_url::SECRET.into(),
        resource_names_subscribe: vec![name],
        ..Default::default()
    };
    requests.send(subscribe).await.unwrap();
    let mut responses = client.delta_secrets(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    while let Ok(Some(response)) = responses.message().await {
        let gone = response.removed_resources.is_empty() || std::mem::take(&mut absent);
        assert!(gone, "no secret is ever taken away");
        for resource in response.resources {
            secrets.send(resource.resource.unwrap().unpack().unwrap()).await.unwrap();
        }
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: type_url::SECRET.into(),
            response_nonce: response.nonce,
            ..Default::default()
        };
        requests.send(acknowledgement).await.unwrap();
    }
}
