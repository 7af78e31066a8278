//! The status port: readiness, liveness, the certificate held, metrics.

use std::{
    fmt::Write,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    certificate::{
        rotation::{HeldCertificate, WallClock},
        svid::Svid,
    },
    envoy::admin::EnvoyAdmin,
};

/// What the status port reports.
#[derive(Clone)]
pub(crate) struct Status {
    pub(crate) held: HeldCertificate,
    pub(crate) clock: WallClock,
    /// The supervised Envoy, if any.
    pub(crate) envoy: Option<EnvoyAdmin>,
}

/// The routes of the status port.
pub(crate) fn routes(status: Status) -> Router {
    Router::new()
        .route("/healthz/live", get(|| async { "live\n" }))
        .route("/healthz/ready", get(ready))
        .route("/readyz", get(ready))
        .route("/certz", get(certificate))
        .route("/metrics", get(metrics))
        .with_state(status)
}

impl Status {
    fn svid(&self) -> Option<Arc<Svid>> {
        self.held.svid.borrow().clone()
    }

    /// Checks that the workload can use mutual TLS now.
    ///
    /// # Errors
    /// Why it cannot, as text.
    async fn ready(&self) -> Result<(), String> {
        let failure = || {
            let failure = self.held.failure.borrow().clone();
            failure.map_or_else(String::new, |failure| format!(": {failure}"))
        };
        match self.svid() {
            None => return Err(format!("no certificate yet{}", failure())),
            Some(svid) if svid.expired((self.clock)()) => {
                return Err(format!("the certificate expired at {}{}", rfc3339(svid.not_after), failure()));
            }
            Some(_) => {}
        }
        match &self.envoy {
            Some(envoy) => envoy.ready((self.clock)()).await,
            None => Ok(()),
        }
    }
}

async fn ready(State(status): State<Status>) -> (StatusCode, String) {
    match status.ready().await {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn certificate(State(status): State<Status>) -> Response {
    let Some(svid) = status.svid() else {
        return (StatusCode::NOT_FOUND, Json(json!({"error": "no certificate yet"}))).into_response();
    };
    Json(json!({
        "spiffe_id": svid.identity.as_str(),
        "serial": svid.serial,
        "not_before": rfc3339(svid.not_before),
        "not_after": rfc3339(svid.not_after),
        "expired": svid.expired((status.clock)()),
    }))
    .into_response()
}

async fn metrics(State(status): State<Status>) -> Response {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let expiry = status.svid().map_or(0, |svid| OffsetDateTime::from(svid.not_after).unix_timestamp());
    let counters = &status.held.counters;
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "eastwest_agent_certificate_expiry_timestamp_seconds",
            "gauge",
            "When the certificate held expires; 0 before the first.",
            expiry.unsigned_abs(),
        ),
        (
            "eastwest_agent_certificates_total",
            "counter",
            "Certificates obtained, the first one included.",
            count(&counters.issued),
        ),
        (
            "eastwest_agent_certificate_failures_total",
            "counter",
            "Attempts to obtain a certificate that failed.",
            count(&counters.failed),
        ),
        (
            "eastwest_log_lines_dropped_total",
            "counter",
            "Lines for standard output and error that nobody took.",
            eastwest_io::stdio::dropped(),
        ),
    ] {
        // Writing to a String does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn rfc3339(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}
