//! Protobuf JSON of every message of this crate, nested [`Any`](crate::Any)s resolved.
//!
//! Needed where people read configuration: debug pages, golden files, Envoy bootstraps. Keys are
//! sorted, so equal messages give equal text. Keys in the clear stay in the clear: redact a
//! `Secret` before showing it.

use std::sync::LazyLock;

use prost::{DecodeError, Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

/// Why a message has no JSON, or JSON gave no message.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The message is not among those of this crate.
    #[error("message type `{0}` is not known; is it named in proto/messages.txt?")]
    UnknownType(String),
    /// A payload is malformed, or its type is not among those of this crate.
    #[error("cannot show {type_name} as JSON: {reason}")]
    Serialize {
        /// Full name of the outermost message.
        type_name: String,
        /// What the serializer met.
        reason: serde_json::Error,
    },
    /// The JSON does not fit the message: an unknown field, a wrong type.
    #[error("not a {type_name}: {reason}")]
    Parse {
        /// Full name of the wanted message.
        type_name: String,
        /// What the parser met.
        reason: serde_json::Error,
    },
    /// The message's own encoding did not decode.
    #[error("malformed {type_name}: {reason}")]
    Malformed {
        /// Full name of the message.
        type_name: String,
        /// What the decoder met.
        reason: DecodeError,
    },
}

/// Canonical protobuf JSON: field names in lowerCamelCase, as `istioctl` and gRPC tools print.
///
/// # Errors
/// When a nested `Any` is malformed or of a type that this crate does not have.
pub fn to_json<M: Message + Name>(message: &M) -> Result<Value, JsonError> {
    serialize(message, SerializeOptions::new())
}

/// JSON with field names in snake_case, as Envoy's documentation and its admin pages print. Envoy
/// reads both.
///
/// # Errors
/// As [`to_json`].
pub fn to_envoy_json<M: Message + Name>(message: &M) -> Result<Value, JsonError> {
    serialize(message, SerializeOptions::new().use_proto_field_name(true))
}

/// Reads JSON of either naming. Fields that the message does not have are an error.
///
/// The order of map entries within the payload of a nested `Any` is not defined.
///
/// # Errors
/// When the JSON does not fit the message.
pub fn from_json<M: Message + Name + Default>(json: &Value) -> Result<M, JsonError> {
    let parsed = DynamicMessage::deserialize(descriptor::<M>()?, json);
    let message = parsed.map_err(|reason| JsonError::Parse { type_name: M::full_name(), reason })?;
    message.transcode_to().map_err(malformed::<M>)
}

fn serialize<M: Message + Name>(message: &M, options: SerializeOptions) -> Result<Value, JsonError> {
    let mut reflected = DynamicMessage::new(descriptor::<M>()?);
    reflected.transcode_from(message).map_err(malformed::<M>)?;
    let mut json = reflected
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|reason| JsonError::Serialize { type_name: M::full_name(), reason })?;
    // The reflected form keeps maps in hash order.
    json.sort_all_objects();
    Ok(json)
}

fn malformed<M: Name>(reason: DecodeError) -> JsonError {
    JsonError::Malformed { type_name: M::full_name(), reason }
}

fn descriptor<M: Name>() -> Result<MessageDescriptor, JsonError> {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET)
            .expect("the descriptor set is generated with this crate, and tests decode it")
    });
    let name = M::full_name();
    let found = POOL.get_message_by_name(&name);
    found.ok_or(JsonError::UnknownType(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Any;
    use crate::envoy::config::cluster::v3::{Cluster, cluster};
    use crate::envoy::config::core::v3::{TransportSocket, transport_socket};
    use crate::envoy::config::route::v3::VirtualHost;
    use crate::envoy::extensions::transport_sockets::tls::v3::{
        CommonTlsContext, SdsSecretConfig, UpstreamTlsContext,
    };

    /// A cluster with a TLS context inside an `Any`.
    fn cluster() -> Cluster {
        let context = UpstreamTlsContext {
            sni: "reviews".into(),
            common_tls_context: Some(CommonTlsContext {
                tls_certificate_sds_secret_configs: vec![SdsSecretConfig {
                    name: "default".into(),
                    sds_config: None,
                }],
                ..Default::default()
            }),
            ..Default::default()
        };
        Cluster {
            name: "outbound|9080||reviews".into(),
            cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
                cluster::DiscoveryType::Eds.into(),
            )),
            connect_timeout: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            transport_socket: Some(TransportSocket {
                name: "envoy.transport_sockets.tls".into(),
                config_type: Some(transport_socket::ConfigType::TypedConfig(Any::pack(&context))),
            }),
            ..Default::default()
        }
    }

    #[test]
    fn nested_contexts_are_resolved() {
        let expected = json!({
            "name": "outbound|9080||reviews",
            "type": "EDS",
            "connectTimeout": "1.500s",
            "transportSocket": {
                "name": "envoy.transport_sockets.tls",
                "typedConfig": {
                    "@type": UpstreamTlsContext::type_url(),
                    "sni": "reviews",
                    "commonTlsContext": {
                        "tlsCertificateSdsSecretConfigs": [{"name": "default"}],
                    },
                },
            },
        });
        assert_eq!(to_json(&cluster()).unwrap(), expected);
    }

    #[test]
    fn both_namings_are_read_back() {
        for json in [to_json(&cluster()), to_envoy_json(&cluster())] {
            assert_eq!(from_json::<Cluster>(&json.unwrap()).unwrap(), cluster());
        }
        assert!(to_envoy_json(&cluster()).unwrap()["transport_socket"]["typed_config"].is_object());
    }

    #[test]
    fn a_misspelt_field_is_refused_by_name() {
        let error = from_json::<Cluster>(&json!({"nmae": "x"})).unwrap_err();
        assert!(error.to_string().contains("nmae"), "{error}");
    }

    #[test]
    fn a_payload_of_unknown_type_is_an_error_that_names_it() {
        let any = Any { type_url: "type.googleapis.com/no.such.Message".into(), value: Default::default() };
        let error = to_json(&any).unwrap_err();
        assert!(error.to_string().contains("no.such.Message"), "{error}");
    }

    #[test]
    fn equal_messages_give_equal_bytes_and_text_whatever_the_order_of_insertion() {
        let with = |keys: Vec<u32>| VirtualHost {
            typed_per_filter_config: keys
                .into_iter()
                .map(|key| (format!("filter{key}"), Any::pack(&cluster())))
                .collect(),
            ..Default::default()
        };
        let (up, down) = (with((0..20).collect()), with((0..20).rev().collect()));
        assert_eq!(up.encode_to_vec(), down.encode_to_vec());
        let text = |message| to_json(message).unwrap().to_string();
        assert_eq!(text(&up), text(&down));
    }
}
