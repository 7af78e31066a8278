//! The HTTP port: health, metrics, version and the debug pages.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use eastwest_model::{Diagnostic, Severity, WorkloadKey};
use eastwest_translate::ResourceType;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use super::{Shared, metrics};
use crate::query::{QueryError, Question};

type App = State<Arc<Shared>>;

/// The pages, with a line on each for `/debug/list`.
const PAGES: &[(&str, &str)] = &[
    ("/healthz", "200 while the process runs"),
    ("/readyz", "200 once the input is read and the certificate authority can sign"),
    ("/metrics", "Prometheus metrics"),
    ("/version", "version of this program"),
    ("/bundle", "the SPIFFE bundle of our trust domain: what peers of our workloads must trust"),
    ("/debug/list", "this list"),
    ("/debug/syncz", "connected proxies: what each was sent, acknowledged and refused, by type"),
    ("/debug/config_errors", "input that is refused, and why"),
    ("/debug/check", "all findings about the input, warnings too"),
    ("/debug/tls?workload=NS/POD", "the effective TLS settings of a workload"),
    ("/debug/explain?client=NS/POD&host=HOST&port=PORT", "one client-to-server pair"),
    (
        "/debug/config_dump?workload=NS/POD",
        "the resources of a workload's proxy; &types=cds,lds chooses; no private keys",
    ),
    ("/debug/workloads", "the workloads that are known"),
];

/// The routes of the HTTP port.
pub(super) fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .route("/version", get(version))
        .route("/bundle", get(bundle))
        .route("/debug/list", get(list))
        .route("/debug/syncz", get(syncz))
        .route("/debug/config_errors", get(config_errors))
        .route("/debug/check", get(async |app: App| answer(&app, &Question::Check)))
        .route("/debug/tls", get(tls))
        .route("/debug/explain", get(explain))
        .route("/debug/config_dump", get(config_dump))
        .route("/debug/workloads", get(workloads))
        .fallback(async || (StatusCode::NOT_FOUND, "no such page; /debug/list names them\n"))
        .with_state(shared)
}

async fn list() -> String {
    PAGES.iter().map(|(path, about)| format!("{path:50} {about}\n")).collect()
}

async fn version() -> Response {
    Json(json!({"name": "eastwest", "version": env!("CARGO_PKG_VERSION")})).into_response()
}

async fn readyz(State(shared): App) -> (StatusCode, String) {
    match shared.unready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics_page(State(shared): App) -> Response {
    let text = metrics::render(&shared);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn bundle(State(shared): App) -> Response {
    let bundle = shared.bundle.newest(OffsetDateTime::now_utc());
    ([(header::CONTENT_TYPE, "application/json")], bundle.to_json()).into_response()
}

async fn syncz(State(shared): App) -> Response {
    Json(shared.xds.connections().snapshot()).into_response()
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
}

async fn config_dump(app: App, Query(query): Query<DumpQuery>) -> Response {
    let types = query.types.split(',').filter(|name| !name.is_empty()).map(str::parse::<ResourceType>);
    match (query.workload.parse(), types.collect()) {
        (Ok(workload), Ok(types)) => answer(&app, &Question::Render { workload, types }),
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
