//! The security header: a page that a browser was lured to, or a server that forwards requests, cannot set it, so it
//! keeps them from asking in the workload's place (SPIFFE Workload Endpoint §5).

use tonic::{Request, Status};

const NAME: &str = "workload.spiffe.io";
const VALUE: &str = "true";

/// Lets a request pass that carries the header, with exactly its value.
///
/// # Errors
/// InvalidArgument for every other.
pub(super) fn demand(request: Request<()>) -> Result<Request<()>, Status> {
    let mut values = request.metadata().get_all(NAME).iter().peekable();
    if values.peek().is_some() && values.all(|value| value == VALUE) {
        return Ok(request);
    }
    Err(Status::invalid_argument(format!("the request needs the metadata {NAME}: {VALUE}")))
}
