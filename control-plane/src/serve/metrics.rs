//! `/metrics` in the Prometheus text format, version 0.0.4, with istiod's names where it has them. Each component registers
//! its metrics in one registry, which is read at each scrape.

use std::{collections::BTreeSet, sync::Arc};

use eastwest_ca_server::{
    CertificateAuthority,
    scrape::{self, Sample, counter, counters, gauge, gauges, label},
};
use eastwest_io::{defects, stdio};
use eastwest_model::{Effect, Severity};
use eastwest_xds::TypeUrl;
use eastwest_xds_server::{Connections, TypeCounters};
use prometheus::{Registry, TextEncoder, proto::MetricFamily};
use tokio::sync::watch;

use super::sources::Sources;
use crate::query::World;

/// Content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of every server: of this program and of its CA.
///
/// # Errors
/// Two metrics have the same name.
pub(super) fn registry(ca: &Arc<CertificateAuthority>) -> prometheus::Result<Registry> {
    let registry = Registry::new();
    ca.register_metrics(&registry)?;
    let ca = Arc::clone(ca);
    scrape::register(&registry, move || {
        let insecure = f64::from(u8::from(ca.has_test_root()));
        vec![
            build_info(),
            counter(
                "eastwest_log_lines_dropped_total",
                "Lines for standard output and error that nobody took.",
                // A counter of the text format is a float.
                stdio::dropped() as f64,
            ),
            counter(
                "eastwest_panics_total",
                "Panics, each of which is a defect. What it cost is in the log.",
                defects::count() as f64,
            ),
            gauge(
                "eastwest_insecure_test_root",
                "1 if the root whose key everybody has is trusted.",
                insecure,
            ),
        ]
    })?;
    Ok(registry)
}

fn build_info() -> MetricFamily {
    let version = vec![label("version", env!("CARGO_PKG_VERSION"))];
    gauges("eastwest_build_info", "Version of this program.", [(version, 1.0)])
}

/// The metrics of a server that starts: of this program and of its `sources`.
///
/// # Errors
/// A metric that the format cannot express.
pub(super) fn page_of_start(sources: Option<&Sources>) -> prometheus::Result<String> {
    let mut families = vec![build_info()];
    families.extend(sources.into_iter().flat_map(Sources::families));
    families.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families)
}

/// The metrics of a mesh besides.
///
/// # Errors
/// Two metrics have the same name.
pub(super) fn register_mesh(
    registry: &Registry,
    connections: Arc<Connections>,
    world: watch::Receiver<World>,
    sources: Sources,
) -> prometheus::Result<()> {
    scrape::register(registry, move || streams(&connections))?;
    scrape::register(registry, move || sources.families())?;
    scrape::register(registry, move || of_world(&world.borrow().clone()))
}

/// Whether this replica writes, and whether another one is elected although this one is not.
///
/// # Errors
/// Two metrics have the same name.
pub(super) fn register_leader(
    registry: &Registry,
    leads: watch::Receiver<bool>,
    other: watch::Receiver<Option<String>>,
) -> prometheus::Result<()> {
    scrape::register(registry, move || {
        let leads = f64::from(u8::from(*leads.borrow()));
        let other = f64::from(u8::from(other.borrow().is_some()));
        vec![
            gauge("eastwest_leader", "1 if this replica writes to the Kubernetes API.", leads),
            gauge(
                "eastwest_other_leader",
                "1 if this process writes without an election, and another one is elected and writes as well.",
                other,
            ),
        ]
    })
}

/// The page.
///
/// # Errors
/// A metric that the format cannot express.
pub(super) fn page(registry: &Registry) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

fn streams(connections: &Connections) -> Vec<MetricFamily> {
    let types = connections.counters();
    let by_type = |name, help, value: fn(&TypeCounters) -> u64| {
        let sample =
            |one: &TypeCounters| -> Sample { (vec![label("type", short(&one.type_url))], value(one) as f64) };
        counters(name, help, types.iter().map(sample))
    };
    let rejects = types.iter().map(|one| one.rejects).sum::<u64>() as f64;
    vec![
        gauge("pilot_xds", "Open xDS streams.", connections.len() as f64),
        by_type("pilot_xds_pushes", "xDS responses sent, by type.", |one| one.pushes),
        by_type("eastwest_xds_resources", "Resources in them.", |one| one.resources),
        by_type("eastwest_xds_bytes", "Their bytes.", |one| one.bytes),
        by_type("eastwest_xds_acks", "Responses accepted.", |one| one.acks),
        by_type("eastwest_xds_rejects", "Responses rejected (NACK).", |one| one.rejects),
        counter("pilot_total_xds_rejects", "Responses rejected, all types.", rejects),
        by_type("pilot_xds_expired_nonce", "Answers to an outdated response.", |one| one.expired_nonces),
    ]
}

fn of_world(world: &World) -> Vec<MetricFamily> {
    let (hosts, workloads) = (world.snapshot.hosts().count(), world.snapshot.workloads().count());
    let errors = || world.input.iter().filter(|finding| finding.severity == Severity::Error);
    let lacking = errors().filter(|finding| finding.effect == Some(Effect::None));
    let lacking = lacking.map(|finding| &finding.object).collect::<BTreeSet<_>>().len();
    let errors = errors().count();
    vec![
        gauge("pilot_services", "Hosts that are known.", hosts as f64),
        gauge("eastwest_workloads", "Workloads that are known.", workloads as f64),
        gauge("eastwest_config_errors", "Objects and files of the input that are refused.", errors as f64),
        gauge(
            "eastwest_config_not_in_force",
            "Objects that are refused and of which no earlier version is known, so that nothing of them is in force.",
            lacking as f64,
        ),
    ]
}

/// Istio's short name of a type of Envoy, else the last part of the URL.
fn short(type_url: &str) -> &str {
    let known = TypeUrl::parse(type_url).ok().filter(|known| *known != TypeUrl::WORKLOAD_TLS);
    let short_name = known.and_then(|known| known.short_name());
    short_name.unwrap_or_else(|| type_url.rsplit('.').next().unwrap_or(type_url))
}
