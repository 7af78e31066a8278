//! How a stream ends: the gRPC status for each reason.

use eastwest_xds::StreamError;
use tonic::Status;

use crate::node::NodeError;

/// The node of the first request is missing or malformed (XDS.md X2).
pub(crate) fn node(error: &NodeError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A request breaks the protocol or a limit.
pub(crate) fn stream(error: &StreamError) -> Status {
    match error {
        StreamError::EmptyTypeUrl(_) => Status::invalid_argument(error.to_string()),
        StreamError::TooManyTypes { .. } | StreamError::TooManyNames { .. } => {
            Status::resource_exhausted(error.to_string())
        }
    }
}

/// The secret discovery service serves one type.
pub(crate) fn not_a_secret(type_url: &str) -> Status {
    let found: String = type_url.chars().take(120).collect();
    Status::invalid_argument(format!(
        "type_url {found:?}: this service has secrets only; use the aggregated discovery service"
    ))
}

/// The host withdrew the authorization: it dropped the sender of the view.
pub(crate) fn authorization_ended() -> Status {
    Status::unavailable(
        "the admission of this proxy has ended (its workload or certificate is gone): connect again",
    )
}

/// The server shuts down.
pub(crate) fn shutting_down() -> Status {
    Status::unavailable("shutting down: connect again")
}

/// Requests may not be compressed.
pub(crate) fn compressed() -> Status {
    Status::unimplemented("grpc-encoding: compressed requests are not supported; send them uncompressed")
}

/// A method that is not there.
pub(crate) fn no_such_method(path: &str) -> Status {
    Status::unimplemented(format!("{path} is not served: use a streaming method"))
}
