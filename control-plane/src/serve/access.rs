//! Who may see the debug pages: they name every workload, its addresses and the policies of all namespaces.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use eastwest_io::http::Ends;

/// What everybody may see: health, metrics, what is public anyway, and the list of pages.
const OPEN: [&str; 7] = ["/", "/healthz", "/readyz", "/metrics", "/version", "/bundle", "/debug/list"];

/// What others are told.
const REFUSED: &str = "the debug pages are for clients on this machine, as through `kubectl port-forward`; \
                       --debug-access anyone opens them to whoever reaches this port\n";

/// Who may see the debug pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DebugAccess {
    /// Clients on this machine, or in this pod.
    Local,
    /// Whoever reaches the port.
    Anyone,
}

/// Lets a request through that `access` allows. A connection in plaintext proves nothing but where
/// it comes from (CA.md A23).
pub(super) async fn by_place(State(access): State<DebugAccess>, request: Request, next: Next) -> Response {
    if !allows(access, &request) {
        return (StatusCode::FORBIDDEN, REFUSED).into_response();
    }
    next.run(request).await
}

fn allows(access: DebugAccess, request: &Request) -> bool {
    access == DebugAccess::Anyone
        || OPEN.contains(&request.uri().path())
        || request.extensions().get::<Ends>().is_some_and(Ends::are_of_one_machine)
}
