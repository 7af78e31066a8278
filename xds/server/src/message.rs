//! Requests of both variants, from the wire to the common form.

use eastwest_proto::envoy::config::core::v3 as core;
use eastwest_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use eastwest_xds::{Interest, Request, Variant};

/// A request message of one of the two variants.
pub(crate) trait DiscoveryMessage: prost::Message + Default + 'static {
    /// Which variant it belongs to.
    const VARIANT: Variant;

    /// Takes the node out; only the first request's counts (XDS.md X3).
    fn take_node(&mut self) -> Option<core::Node>;

    /// The rest.
    fn into_request(self) -> Request;
}

impl DiscoveryMessage for DiscoveryRequest {
    const VARIANT: Variant = Variant::StateOfTheWorld;

    fn take_node(&mut self) -> Option<core::Node> {
        self.node.take()
    }

    fn into_request(self) -> Request {
        Request {
            type_url: self.type_url,
            nonce: self.response_nonce,
            error: self.error_detail.map(|status| status.message),
            interest: Interest::Names(self.resource_names),
        }
    }
}

impl DiscoveryMessage for DeltaDiscoveryRequest {
    const VARIANT: Variant = Variant::Delta;

    fn take_node(&mut self) -> Option<core::Node> {
        self.node.take()
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
}
