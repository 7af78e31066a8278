//! The HTTP port of a mesh: the pages of every server, and the debug pages.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use eastwest_model::{Diagnostic, Severity, WorkloadKey};
use eastwest_translate::ResourceType;
use serde::Deserialize;

use super::{
    Shared,
    pages::{self, Pages, Served},
};
use crate::query::{QueryError, Question};

type App = State<Arc<Shared>>;

/// The pages of a mesh, with a line on each for `/debug/list`.
const PAGES: Pages = &[
    ("/debug/syncz", "connected proxies: what each was sent, acknowledged and refused, by type"),
    ("/debug/config_errors", "input that is refused, and why"),
    (
        "/debug/sources",
        "each followed resource of the Kubernetes API: versions, objects, last event, whether it is live",
    ),
    ("/debug/check", "all findings about the input, warnings too"),
    ("/debug/tls?workload=NS/POD", "the effective TLS settings of a workload"),
    ("/debug/explain?client=NS/POD&host=HOST&port=PORT", "one client-to-server pair"),
    (
        "/debug/config_dump?workload=NS/POD",
        "the resources of a workload's proxy, no private keys; &types=cds,lds chooses, &internal_listeners=true as for \
         `eastwest agent`",
    ),
    ("/debug/workloads", "the workloads that are known"),
];

/// The routes of the HTTP port.
pub(super) fn routes(shared: Shared, served: Served) -> Router {
    let mesh = Router::new()
        .route("/debug/syncz", get(syncz))
        .route("/debug/config_errors", get(config_errors))
        .route("/debug/sources", get(async |State(shared): App| shared.sources.page()))
        .route("/debug/check", get(async |app: App| answer(&app, &Question::Check)))
        .route("/debug/tls", get(tls))
        .route("/debug/explain", get(explain))
        .route("/debug/config_dump", get(config_dump))
        .route("/debug/workloads", get(workloads))
        .with_state(Arc::new(shared));
    pages::common(PAGES, served).merge(mesh)
}

async fn syncz(State(shared): App) -> Response {
    Json(shared.xds.connections().list()).into_response()
}

async fn config_errors(State(shared): App) -> Response {
    let world = shared.world.borrow().clone();
    let refused = |finding: &&Diagnostic| finding.severity == Severity::Error;
    Json(world.input.iter().filter(refused).collect::<Vec<_>>()).into_response()
}

async fn workloads(State(shared): App) -> Response {
    let world = shared.world.borrow().clone();
    Json(world.snapshot.workloads().map(|workload| workload.key()).collect::<Vec<_>>()).into_response()
}

#[derive(Deserialize)]
struct TlsQuery {
    workload: String,
}

async fn tls(app: App, Query(query): Query<TlsQuery>) -> Response {
    match query.workload.parse() {
        Ok(workload) => answer(&app, &Question::Tls(workload)),
        Err(error) => bad_request(error),
    }
}

#[derive(Deserialize)]
struct ExplainQuery {
    client: String,
    host: String,
    port: u16,
}

async fn explain(app: App, Query(query): Query<ExplainQuery>) -> Response {
    match query.client.parse::<WorkloadKey>() {
        Ok(client) => answer(&app, &Question::Explain { client, host: query.host, port: query.port }),
        Err(error) => bad_request(error),
    }
}

#[derive(Deserialize)]
struct DumpQuery {
    workload: String,
    /// Names with commas between them; none = all types.
    #[serde(default)]
    types: String,
    #[serde(default)]
    internal_listeners: bool,
}

async fn config_dump(app: App, Query(query): Query<DumpQuery>) -> Response {
    let types = query.types.split(',').filter(|name| !name.is_empty()).map(str::parse::<ResourceType>);
    match (query.workload.parse(), types.collect()) {
        (Ok(workload), Ok(types)) => {
            let internal_listeners = query.internal_listeners;
            answer(&app, &Question::Render { workload, types, internal_listeners })
        }
        (Err(error), _) => bad_request(error),
        (_, Err(error)) => bad_request(error),
    }
}

fn bad_request(error: impl std::fmt::Display) -> Response {
    (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
}

fn answer(State(shared): &App, question: &Question) -> Response {
    let world = shared.world.borrow().clone();
    match world.answer(question) {
        Ok(value) => Json(value).into_response(),
        Err(error @ (QueryError::Json(_) | QueryError::Resource(_))) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
        Err(error) => (StatusCode::NOT_FOUND, format!("{error}\n")).into_response(),
    }
}
