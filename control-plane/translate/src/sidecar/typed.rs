//! Filters with their configuration.

use eastwest_proto::{
    Any, Message, Name as MessageName,
    envoy::{
        config::listener::v3::{Filter, filter},
        extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter as http},
    },
};

/// A filter of a chain.
pub(crate) fn network_filter<M: Message + MessageName>(name: &str, config: &M) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(Any::pack(config))) }
}

/// A filter of a connection manager.
pub(crate) fn http_filter<M: Message + MessageName>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http::ConfigType::TypedConfig(Any::pack(config))),
        ..Default::default()
    }
}
