//! The security header. A web page in a browser, or a server that forwards requests, cannot set it, so neither can send
//! requests in place of the workload (SPIFFE Workload Endpoint §5).

use tonic::{Request, Status};

const NAME: &str = "workload.spiffe.io";
const VALUE: &str = "true";

/// Accepts a request that has the header with exactly its value.
///
/// # Errors
/// InvalidArgument for any other request.
pub(super) fn require(request: Request<()>) -> Result<Request<()>, Status> {
    let mut values = request.metadata().get_all(NAME).iter().peekable();
    if values.peek().is_some() && values.all(|value| value == VALUE) {
        return Ok(request);
    }
    Err(Status::invalid_argument(format!("the request needs the metadata {NAME}: {VALUE}")))
}
