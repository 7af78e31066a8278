//! Discovery messages of both variants in one form.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use eastwest_proto::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    },
};
use prost::Message as _;

use crate::options::Variant;

/// A request.
#[derive(Default)]
pub(crate) struct Ask<'a> {
    pub(crate) node: Option<Node>,
    pub(crate) type_url: &'a str,
    /// Names to subscribe to; in state-of-the-world all of them.
    pub(crate) names: Vec<String>,
    pub(crate) nonce: String,
    /// Name and version of what is held.
    pub(crate) held: Vec<(String, String)>,
}

/// A response.
pub(crate) struct Answer {
    pub(crate) type_url: String,
    pub(crate) nonce: String,
    /// Name and version.
    pub(crate) resources: Vec<(String, String)>,
    pub(crate) removed: Vec<String>,
}

impl Variant {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Delta => "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
            Self::StateOfTheWorld => {
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
            }
        }
    }

    /// The request as a gRPC message.
    pub(crate) fn encode(self, ask: Ask<'_>) -> Vec<u8> {
        let type_url = ask.type_url.to_owned();
        let body = match self {
            Self::Delta => DeltaDiscoveryRequest {
                node: ask.node,
                type_url,
                resource_names_subscribe: ask.names,
                response_nonce: ask.nonce,
                initial_resource_versions: ask.held.into_iter().collect(),
                ..DeltaDiscoveryRequest::default()
            }
            .encode_to_vec(),
            Self::StateOfTheWorld => DiscoveryRequest {
                node: ask.node,
                type_url,
                resource_names: ask.names,
                response_nonce: ask.nonce,
                ..DiscoveryRequest::default()
            }
            .encode_to_vec(),
        };
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &body].concat()
    }

    /// Reads a response.
    pub(crate) fn decode(self, message: &[u8]) -> Answer {
        match self {
            Self::Delta => {
                let response = DeltaDiscoveryResponse::decode(message).unwrap();
                let resources = response.resources.into_iter().map(|one| (one.name, one.version)).collect();
                let (type_url, nonce) = (response.type_url, response.nonce);
                Answer { type_url, nonce, resources, removed: response.removed_resources }
            }
            Self::StateOfTheWorld => {
                let response = DiscoveryResponse::decode(message).unwrap();
                let named = |any: &eastwest_proto::Any| (name_in(&any.value), hash_of(&any.value));
                let resources = response.resources.iter().map(named).collect();
                let (type_url, nonce) = (response.type_url, response.nonce);
                Answer { type_url, nonce, resources, removed: Vec::new() }
            }
        }
    }
}

/// The name of a cluster, assignment, listener or route configuration: the first field of each.
fn name_in(mut bytes: &[u8]) -> String {
    let key = prost::encoding::decode_varint(&mut bytes).unwrap();
    assert_eq!(key, 1 << 3 | 2, "the name comes first");
    let length = usize::try_from(prost::encoding::decode_varint(&mut bytes).unwrap()).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

fn hash_of(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish().to_string()
}
