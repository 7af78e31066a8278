//! The state of the sources of a mesh, for pages, readiness and metrics.

use std::{collections::BTreeMap, path::PathBuf, time::SystemTime};

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use eastwest_ca_server::scrape::{Sample, counters, gauges, label};
use eastwest_kubernetes::{KindStatus, Report, Statuses};
use prometheus::proto::MetricFamily;
use serde_json::json;

/// Where the objects of the mesh come from.
#[derive(Debug, Clone)]
pub(super) enum Sources {
    /// A directory of manifests, which is read before the server is ready.
    Directory(PathBuf),
    /// The Kubernetes API.
    Kubernetes {
        /// The objects of the mesh.
        mesh: Statuses,
        /// The Secrets of the certificate authority, if its state is there.
        secrets: Option<Statuses>,
    },
}

fn report(mesh: &Statuses, secrets: Option<&Statuses>) -> Report {
    let now = SystemTime::now();
    secrets.into_iter().fold(mesh.report(now), |report, secrets| report.with(secrets.report(now)))
}

impl Sources {
    /// What is not listed yet, each with the reason.
    pub(super) fn unsynced(&self) -> Vec<String> {
        match self {
            Self::Directory(_) => Vec::new(),
            // Those that the Secrets keep back are told by the certificate authority.
            Self::Kubernetes { mesh, .. } => mesh.unready(SystemTime::now()),
        }
    }

    /// `/debug/sources`.
    pub(super) fn page(&self) -> Response {
        match self {
            Self::Directory(path) => Json(json!({"directory": path, "sources": []})).into_response(),
            Self::Kubernetes { mesh, secrets } => Json(report(mesh, secrets.as_ref())).into_response(),
        }
    }

    /// The metrics of each kind.
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        match self {
            Self::Directory(_) => Vec::new(),
            Self::Kubernetes { mesh, secrets } => families(&report(mesh, secrets.as_ref())),
        }
    }
}

fn families(report: &Report) -> Vec<MetricFamily> {
    // A rule may name a Secret of the certificate authority; a metric has each name once.
    let by_name: BTreeMap<String, &KindStatus> = report.sources.iter().map(|one| (one.name(), one)).collect();
    let samples = |value: fn(&KindStatus) -> Option<f64>| {
        let sources = by_name.values();
        let samples = sources.filter_map(|one| Some((vec![label("resource", one.name())], value(one)?)));
        samples.collect::<Vec<Sample>>()
    };
    let live = |one: &KindStatus| Some(f64::from(u8::from(one.live)));
    let synced = |one: &KindStatus| Some(f64::from(u8::from(one.synced)));
    vec![
        gauges("eastwest_source_live", "1 if the watch of the resource is alive.", samples(live)),
        gauges("eastwest_source_synced", "1 if the resource has been listed.", samples(synced)),
        gauges(
            "eastwest_source_objects",
            "Known objects of the resource.",
            samples(|one| Some(one.objects as f64)),
        ),
        gauges(
            "eastwest_source_age_seconds",
            "Time since the last event or bookmark of the resource.",
            samples(|one| one.age_seconds),
        ),
        counters("eastwest_source_lists", "Complete lists.", samples(|one| Some(one.lists as f64))),
        counters("eastwest_source_watches", "Opened watches.", samples(|one| Some(one.watches as f64))),
        counters(
            "eastwest_source_restarts",
            "Times that the task of the resource was started again.",
            samples(|one| Some(one.restarts as f64)),
        ),
    ]
}
