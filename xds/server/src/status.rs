//! How a stream ends: the gRPC status for each reason.

use std::time::Duration;

use eastwest_xds::StreamError;
use tonic::Status;

use crate::inspection::DebugType;
use crate::node::NodeError;

/// The node of the first request is missing or malformed (XDS.md X2).
pub(crate) fn node(error: &NodeError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A request breaks the protocol or a limit.
pub(crate) fn stream(error: &StreamError) -> Status {
    match error {
        StreamError::EmptyTypeUrl(_) => Status::invalid_argument(error.to_string()),
        StreamError::TooManyTypes { .. }
        | StreamError::TooManyNames { .. }
        | StreamError::LongName { .. }
        | StreamError::TooMuchHeld { .. } => Status::resource_exhausted(error.to_string()),
    }
}

/// The secret discovery service serves one type.
pub(crate) fn not_a_secret(type_url: &str) -> Status {
    let found: String = type_url.chars().take(120).collect();
    Status::invalid_argument(format!(
        "type_url {found:?}: this service has secrets only; use the aggregated discovery service"
    ))
}

/// A debug type that is not answered, or resources on a stream that began with a debug type.
pub(crate) fn unknown_debug_type(type_url: &str) -> Status {
    let found: String = type_url.chars().take(120).collect();
    Status::invalid_argument(format!(
        "type_url {found:?}: this stream answers {} alone; ask for resources on a stream of its own",
        DebugType::NAMES
    ))
}

/// The client may not see the state of other clients.
pub(crate) fn no_inspector() -> Status {
    Status::permission_denied("the state of all proxies is not shown to this client")
}

/// A matcher that is not understood: without it more would be shown than was asked for.
pub(crate) fn matcher(field: &str) -> Status {
    Status::invalid_argument(format!(
        "{field} is not supported: match node_id by exact, prefix, suffix or contains"
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

/// No request came.
pub(crate) fn silent(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("no request within {} s: a stream begins with one", limit.as_secs()))
}

/// A request has begun and does not end.
pub(crate) fn unfinished(limit: Duration) -> Status {
    Status::deadline_exceeded(format!(
        "the rest of a request did not arrive within {} s: connect again",
        limit.as_secs()
    ))
}

/// The server keeps too many requests that are not whole.
pub(crate) fn too_much_unread() -> Status {
    Status::resource_exhausted("too many large requests are arriving at the same time: try again in a moment")
}

/// The server keeps too many names.
pub(crate) fn too_many_names() -> Status {
    Status::resource_exhausted(
        "the names that clients subscribe to take too much memory in all: try again in a moment, or use `*`",
    )
}
