//! The HTTP port from the moment that it is bound. While the server starts, it has health, version, and the state and
//! metrics of the sources; then it has the pages of the running server.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    middleware,
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::{
    access::{self, DebugAccess},
    browser::{self, Pages},
    metrics, pages,
    shutdown::Shutdown,
    sources::Sources,
    unread,
};

/// How often it is looked why something is not done yet.
const LOOK: Duration = Duration::from_millis(100);

/// The pages of a server that starts, with a line on each for `/debug/list`.
const PAGES: Pages = &[
    ("/healthz", "200 while the process runs"),
    ("/readyz", "503 and what the start waits for"),
    ("/metrics", "Prometheus metrics of this program and of its sources"),
    ("/version", "version of this program"),
    ("/debug/list", "this list; more pages come when the server is ready"),
    ("/debug/sources", "each followed resource of the Kubernetes API"),
];

/// A server that starts. A clone is another handle.
#[derive(Clone)]
pub(super) struct Startup(Arc<Progress>);

struct Progress {
    shutdown: Shutdown,
    /// What the start waits for.
    awaited: Mutex<String>,
    sources: OnceLock<Sources>,
    running: OnceLock<Router>,
}

impl Startup {
    /// A start that waits for nothing yet.
    pub(super) fn new(shutdown: Shutdown) -> Self {
        let awaited = Mutex::new("the server is starting".to_owned());
        let (sources, running) = (OnceLock::new(), OnceLock::new());
        Self(Arc::new(Progress { shutdown, awaited, sources, running }))
    }

    /// Shows `reason` at `/readyz`.
    pub(super) fn waits(&self, reason: impl Into<String>) {
        *self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner) = reason.into();
    }

    /// Waits for `step`, and shows the reason that `reason` gives meanwhile.
    pub(super) async fn until<T>(&self, step: impl Future<Output = T>, reason: impl Fn() -> String) -> T {
        let mut step = std::pin::pin!(step);
        loop {
            match timeout(LOOK, &mut step).await {
                Ok(done) => return done,
                Err(_) => self.waits(reason()),
            }
        }
    }

    /// Shows the state of `sources` from now on, and at `/readyz` what is not listed yet.
    pub(super) fn follows(&self, sources: Sources) {
        // The sources are chosen once.
        let _ = self.0.sources.set(sources);
    }

    /// The server runs: `pages` are served from now on.
    pub(super) fn ends(&self, pages: Router) {
        // A start ends once.
        let _ = self.0.running.set(pages);
    }

    /// The pages of the HTTP port, as far as `access` shows them.
    pub(super) fn pages(&self, access: DebugAccess) -> Router {
        let starting = Router::new()
            .route("/healthz", get(pages::healthz))
            .route("/version", get(pages::version))
            .route("/readyz", get(readyz))
            .route("/debug/sources", get(sources))
            .route("/", get(list))
            .route("/debug/list", get(list))
            .route("/metrics", get(metrics_page))
            .fallback(readyz)
            .with_state(self.clone());
        let progress = Arc::clone(&self.0);
        let either = async move |request: Request| {
            let pages = progress.running.get().unwrap_or(&starting).clone();
            pages.oneshot(request).await
        };
        let guard = middleware::from_fn_with_state(access, access::by_place);
        let bounded = middleware::from_fn_with_state(unread::budget(), unread::bounded);
        let indented = middleware::from_fn(browser::indented);
        Router::new().fallback(either).layer(indented).layer(bounded).layer(guard)
    }
}

async fn list(headers: HeaderMap) -> Response {
    browser::list(&headers, &[PAGES])
}

async fn readyz(State(Startup(progress)): State<Startup>) -> Response {
    let reason = if progress.shutdown.is_requested() {
        "shutting down".to_owned()
    } else {
        let unsynced = progress.sources.get().map(Sources::unsynced).unwrap_or_default();
        match unsynced.is_empty() {
            true => progress.awaited.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            false => unsynced.join("\n"),
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}

async fn metrics_page(State(Startup(progress)): State<Startup>) -> Response {
    pages::scraped(metrics::page_of_start(progress.sources.get()))
}

async fn sources(State(Startup(progress)): State<Startup>) -> Response {
    match progress.sources.get() {
        Some(sources) => sources.page(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the server is starting\n").into_response(),
    }
}
