//! Requests of both variants, from the wire to the common form.

use eastwest_proto::Any;
use eastwest_proto::envoy::config::core::v3 as core;
use eastwest_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use eastwest_xds::{Interest, Request, Variant};
use prost::Message as _;

use crate::inspection::control_plane;

/// A request message of one of the two variants.
pub(crate) trait DiscoveryMessage: prost::Message + Default + 'static {
    /// Which variant it belongs to.
    const VARIANT: Variant;

    /// Takes the node out; only the first request's counts (XDS.md X3).
    fn take_node(&mut self) -> Option<core::Node>;

    /// The type that it is about.
    fn type_url(&self) -> &str;

    /// The rest.
    fn into_request(self) -> Request;

    /// The encoded response to a request for a debug type (XDS.md X66), in the same variant.
    fn debug_answer(type_url: &str, nonce: &str, identifier: &str, resources: Vec<(String, Any)>) -> Vec<u8>;
}

impl DiscoveryMessage for DiscoveryRequest {
    const VARIANT: Variant = Variant::StateOfTheWorld;

    fn take_node(&mut self) -> Option<core::Node> {
        self.node.take()
    }

    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn into_request(self) -> Request {
        Request {
            type_url: self.type_url,
            nonce: self.response_nonce,
            error: self.error_detail.map(|status| status.message),
            interest: Interest::Names(self.resource_names),
        }
    }

    fn debug_answer(type_url: &str, nonce: &str, identifier: &str, resources: Vec<(String, Any)>) -> Vec<u8> {
        let response = DiscoveryResponse {
            type_url: type_url.to_owned(),
            nonce: nonce.to_owned(),
            control_plane: Some(control_plane(identifier)),
            resources: resources.into_iter().map(|(_, resource)| resource).collect(),
            ..DiscoveryResponse::default()
        };
        response.encode_to_vec()
    }
}

impl DiscoveryMessage for DeltaDiscoveryRequest {
    const VARIANT: Variant = Variant::Delta;

    fn take_node(&mut self) -> Option<core::Node> {
        self.node.take()
    }

    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn into_request(self) -> Request {
        Request {
            type_url: self.type_url,
            nonce: self.response_nonce,
            error: self.error_detail.map(|status| status.message),
            interest: Interest::Change {
                subscribe: self.resource_names_subscribe,
                unsubscribe: self.resource_names_unsubscribe,
                initial_versions: self.initial_resource_versions,
            },
        }
    }

    fn debug_answer(type_url: &str, nonce: &str, identifier: &str, resources: Vec<(String, Any)>) -> Vec<u8> {
        let resource = |(name, message)| Resource { name, resource: Some(message), ..Resource::default() };
        let response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            nonce: nonce.to_owned(),
            control_plane: Some(control_plane(identifier)),
            resources: resources.into_iter().map(resource).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        response.encode_to_vec()
    }
}
