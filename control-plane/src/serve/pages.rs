//! The pages of every server: health, metrics, version, and its certificate authority.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use eastwest_ca_server::{CertificateAuthority, OwnBundle, test_root};
use eastwest_io::{defects, descriptors};
use prometheus::Registry;
use serde_json::json;
use time::OffsetDateTime;

use super::{
    browser::{self, Pages},
    metrics,
    shutdown::Shutdown,
};

const COMMON: Pages = &[
    ("/healthz", "200 while the process runs"),
    ("/readyz", "200 once the input is read and the certificate authority can sign"),
    ("/metrics", "Prometheus metrics"),
    ("/version", "version of this program"),
    ("/bundle", "the SPIFFE bundle of our trust domain: what peers of our workloads must trust"),
    ("/debug/list", "this list, also at /"),
    ("/debug/ca", "the certificate authority: trust domain, roots, where they come from, what is wrong"),
];

/// Why a server is not ready that cannot open a file or a connection.
const NO_DESCRIPTORS: &str = "no file descriptors are left: raise the limit (`ulimit -n`, LimitNOFILE), or see who opens so many connections";

/// What the pages show.
pub(super) struct Served {
    pub(super) ca: Arc<CertificateAuthority>,
    pub(super) bundle: Arc<OwnBundle>,
    /// The metrics of `/metrics`.
    pub(super) metrics: Registry,
    pub(super) shutdown: Shutdown,
}

impl Served {
    /// Why the server is not ready, if it is not. It was ready once: what was listed and published then counts.
    fn unready(&self) -> Option<String> {
        if self.shutdown.is_requested() {
            return Some("shutting down".to_owned());
        }
        if defects::is_fatal().is_some() {
            return Some("a part of the process ended unexpectedly: the process ends".to_owned());
        }
        let of_ca = self.ca.inabilities(OffsetDateTime::now_utc());
        let of_process = descriptors::are_exhausted().then_some(NO_DESCRIPTORS);
        let reasons: Vec<_> =
            of_ca.iter().map(ToString::to_string).chain(of_process.map(str::to_owned)).collect();
        (!reasons.is_empty()).then(|| reasons.join("\n"))
    }
}

/// The routes of these pages; `/debug/list` names `further` ones as well.
pub(super) fn common(further: Pages, served: Served) -> Router {
    let list = async move |headers: HeaderMap| browser::list(&headers, &[COMMON, further]);
    Router::new()
        .route("/", get(list))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .route("/version", get(version))
        .route("/bundle", get(bundle))
        .route("/debug/list", get(list))
        .route("/debug/ca", get(ca_page))
        .fallback(async || (StatusCode::NOT_FOUND, "there is no such page: /debug/list names all of them\n"))
        .with_state(Arc::new(served))
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn version() -> Response {
    Json(json!({"name": "eastwest", "version": env!("CARGO_PKG_VERSION")})).into_response()
}

async fn readyz(State(served): State<Arc<Served>>) -> (StatusCode, String) {
    match served.unready() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics_page(State(served): State<Arc<Served>>) -> Response {
    scraped(metrics::page(&served.metrics))
}

/// A page of metrics.
pub(super) fn scraped(page: prometheus::Result<String>) -> Response {
    match page {
        Ok(page) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn bundle(State(served): State<Arc<Served>>) -> Response {
    let bundle = served.bundle.newest(OffsetDateTime::now_utc());
    ([(header::CONTENT_TYPE, "application/json")], bundle.to_json()).into_response()
}

async fn ca_page(State(served): State<Arc<Served>>) -> Response {
    let ca = &served.ca;
    let insecure = ca.has_test_root();
    Json(json!({
        "trust_domain": ca.trust_domain(),
        "roots": ca.roots(),
        "signing": ca.root_status(),
        "source_problems": ca.source_problems(),
        "insecure_test_root": insecure,
        "warning": insecure.then_some(test_root::WARNING),
    }))
    .into_response()
}
