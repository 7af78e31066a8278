//! Metrics whose values are read at each scrape, for a [`prometheus::Registry`].

use std::collections::HashMap;

use prometheus::{
    Registry,
    core::{Collector, Desc},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

/// The labels of a sample, and its value.
pub type Sample = (Vec<LabelPair>, f64);

/// Registers families whose values `read` returns at each scrape. It must return the same families each time; one without
/// samples does not appear on the page.
///
/// # Errors
/// A name is not valid, or is registered already.
pub fn register(
    registry: &Registry,
    read: impl Fn() -> Vec<MetricFamily> + Send + Sync + 'static,
) -> prometheus::Result<()> {
    let desc = |family: &MetricFamily| {
        Desc::new(family.name().to_owned(), family.help().to_owned(), Vec::new(), HashMap::new())
    };
    let descs = read().iter().map(desc).collect::<prometheus::Result<_>>()?;
    registry.register(Box::new(OnScrape { descs, read }))
}

struct OnScrape<F> {
    descs: Vec<Desc>,
    read: F,
}

impl<F: Fn() -> Vec<MetricFamily> + Send + Sync> Collector for OnScrape<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.read)()
    }
}

/// A gauge without labels.
pub fn gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    gauges(name, help, [(Vec::new(), value)])
}

/// A gauge with labels.
pub fn gauges(name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) -> MetricFamily {
    let metric = |(labels, value)| {
        let (mut metric, mut gauge) = (Metric::from_label(labels), Gauge::default());
        gauge.set_value(value);
        metric.set_gauge(gauge);
        metric
    };
    family(name, help, MetricType::GAUGE, samples.into_iter().map(metric).collect())
}

/// A counter without labels.
pub fn counter(name: &str, help: &str, value: f64) -> MetricFamily {
    counters(name, help, [(Vec::new(), value)])
}

/// A counter with labels.
pub fn counters(name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) -> MetricFamily {
    let metric = |(labels, value)| {
        let (mut metric, mut counter) = (Metric::from_label(labels), Counter::default());
        counter.set_value(value);
        metric.set_counter(counter);
        metric
    };
    family(name, help, MetricType::COUNTER, samples.into_iter().map(metric).collect())
}

/// A label of a sample.
pub fn label(name: &str, value: impl Into<String>) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.into());
    label
}

/// A count as the value of a sample: exact up to 2^53.
#[allow(clippy::cast_precision_loss)]
pub fn number(count: u64) -> f64 {
    count as f64
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
