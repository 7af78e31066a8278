//! `/metrics` in the Prometheus text format, version 0.0.4, with istiod's names where it has them: a library for
//! OpenMetrics would append `_total` to them.

use std::fmt::Write;

use eastwest_ca_server::{CertificateAuthority, Family};
use eastwest_model::Severity;
use eastwest_xds_server::TypeCounters;

use super::Shared;

/// Content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A metric with its samples: what follows the name, such as `{name="value"}` or nothing, and value.
    fn metric(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, f64)>,
    ) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

/// The page of a mesh.
pub(super) fn render(shared: &Shared) -> String {
    let mut page = ca_page(&shared.ca);
    streams(&mut page, shared);
    world(&mut page, shared);
    page.0
}

/// The page of an authority without a mesh.
pub(super) fn render_ca(ca: &CertificateAuthority) -> String {
    ca_page(ca).0
}

fn ca_page(ca: &CertificateAuthority) -> Page {
    let mut page = Page::default();
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    page.metric("eastwest_build_info", "gauge", "Version of this program.", [(version, 1.0)]);
    for Family { name, help, kind, samples } in ca.metrics() {
        let samples =
            samples.into_iter().map(|sample| (format!("{}{}", sample.suffix, sample.labels), sample.value));
        page.metric(name, kind, help, samples);
    }
    let help = "1 if the root whose key everybody has is trusted.";
    let insecure = f64::from(u8::from(ca.has_test_root()));
    page.metric("eastwest_insecure_test_root", "gauge", help, [(String::new(), insecure)]);
    page
}

fn streams(page: &mut Page, shared: &Shared) {
    let connections = shared.xds.connections();
    let open = [(String::new(), count(connections.len()))];
    page.metric("pilot_xds", "gauge", "Open xDS streams.", open);
    let counters = connections.counters();
    let by_type = |value: fn(&TypeCounters) -> u64| {
        let sample = |counters: &TypeCounters| {
            (format!("{{type=\"{}\"}}", short(&counters.type_url)), value(counters) as f64)
        };
        counters.iter().map(sample).collect::<Vec<_>>()
    };
    page.metric("pilot_xds_pushes", "counter", "xDS responses sent, by type.", by_type(|c| c.pushes));
    page.metric("eastwest_xds_resources", "counter", "Resources in them.", by_type(|c| c.resources));
    page.metric("eastwest_xds_bytes", "counter", "Their bytes.", by_type(|c| c.bytes));
    page.metric("eastwest_xds_acks", "counter", "Responses accepted.", by_type(|c| c.acks));
    page.metric("eastwest_xds_rejects", "counter", "Responses rejected (NACK).", by_type(|c| c.rejects));
    let rejects = counters.iter().map(|counters| counters.rejects).sum::<u64>() as f64;
    page.metric(
        "pilot_total_xds_rejects",
        "counter",
        "Responses rejected, all types.",
        [(String::new(), rejects)],
    );
    let expired = by_type(|c| c.expired_nonces);
    page.metric("pilot_xds_expired_nonce", "counter", "Answers to an outdated response.", expired);
}

fn world(page: &mut Page, shared: &Shared) {
    let world = shared.world.borrow().clone();
    let gauge = |value| [(String::new(), count(value))];
    page.metric("pilot_services", "gauge", "Hosts that are known.", gauge(world.snapshot.hosts().count()));
    page.metric(
        "eastwest_workloads",
        "gauge",
        "Workloads that are known.",
        gauge(world.snapshot.workloads().count()),
    );
    let errors = world.input.iter().filter(|finding| finding.severity == Severity::Error).count();
    page.metric(
        "eastwest_config_errors",
        "gauge",
        "Objects and files of the input that are refused.",
        gauge(errors),
    );
}

fn count(number: usize) -> f64 {
    number as f64
}

/// Istio's short names of the types, else the last part of the URL.
fn short(type_url: &str) -> &str {
    match type_url.rsplit('.').next().unwrap_or(type_url) {
        "Cluster" => "cds",
        "ClusterLoadAssignment" => "eds",
        "Listener" => "lds",
        "RouteConfiguration" => "rds",
        "Secret" => "sds",
        other => other,
    }
}
