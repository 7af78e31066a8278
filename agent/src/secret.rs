//! Envoy's secrets as messages.

use std::sync::Arc;

use eastwest_proto::{
    Message,
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{Secret, secret::Type},
    },
};
use eastwest_xds::{EncodedResource, TypeUrl};

/// A secret, encoded.
pub(crate) fn secret(name: &str, content: Type) -> Arc<EncodedResource> {
    let secret = Secret { name: name.to_owned(), r#type: Some(content) };
    Arc::new(EncodedResource::new(TypeUrl::SECRET, name, &secret.encode_to_vec()))
}

/// PEM as a part of one.
pub(crate) fn inline(pem: &str) -> Option<DataSource> {
    let specifier = Some(Specifier::InlineBytes(pem.as_bytes().to_vec().into()));
    Some(DataSource { specifier, watched_directory: None })
}
