//! What the CA counts, under istiod's names where it has them (CA.md C26).

use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use eastwest_ca::{SharedPods, expiry::Expiries, ledger::Issued};
use eastwest_identity::WorkloadKey;
use eastwest_io::{SourceStatus, source_status::count_problems};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, core::Collector, proto::MetricFamily,
};
use time::OffsetDateTime;

use crate::{
    ledger::LedgerState,
    scrape::{counter, gauge, gauges, label, number},
};

/// Most workloads whose certificates are listed one by one.
const MAX_WORKLOADS: usize = 10_000;

/// Upper bounds of the buckets of the issuing time, in seconds.
const ISSUE_SECONDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// When the root of the signing chain expires, and the first certificate of the signing chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) root: OffsetDateTime,
    pub(crate) chain: OffsetDateTime,
}

/// What the CA has done so far.
pub(crate) struct Metrics {
    pub(crate) requests: IntCounter,
    pub(crate) authentication_failures: IntCounter,
    pub(crate) signing_failures: IntCounter,
    pub(crate) throttled_peers: IntCounter,
    pub(crate) throttled_callers: IntCounter,
    pub(crate) jwt_svids: IntCounter,
    pub(crate) jwt_svids_refused: IntCounter,
    issued: IntCounter,
    latency: Histogram,
    throttled: IntCounterVec,
    expiries: Mutex<Expiries>,
    /// The pods of the cluster; `None` where none are known.
    pods: Option<SharedPods>,
}

impl Metrics {
    /// Nothing so far. Certificates are listed by pod as far as `pods` are known.
    pub(crate) fn new(pods: Option<SharedPods>) -> Self {
        let throttled = Opts::new(
            "eastwest_ca_throttled",
            "Certificate requests refused unseen: of addresses that failed too often, of callers that ask too often.",
        );
        let throttled = valid(IntCounterVec::new(throttled, &["who"]));
        let latency = HistogramOpts::new("eastwest_ca_issue_seconds", "From a request to its certificate.");
        let new = |name, help| valid(IntCounter::new(name, help));
        Self {
            requests: new("citadel_server_csr_count", "Certificate requests received."),
            authentication_failures: new(
                "citadel_server_authentication_failure_count",
                "Certificate requests whose caller proved no identity.",
            ),
            signing_failures: new(
                "citadel_server_csr_sign_err_count",
                "Certificate requests of authenticated callers that got no certificate.",
            ),
            throttled_peers: throttled.with_label_values(&["address"]),
            throttled_callers: throttled.with_label_values(&["caller"]),
            jwt_svids: new("eastwest_ca_jwt_svids", "JWT-SVIDs issued."),
            jwt_svids_refused: new("eastwest_ca_jwt_svids_refused", "JWT-SVIDs refused."),
            issued: new("citadel_server_success_cert_issuance_count", "Certificates issued."),
            latency: valid(Histogram::with_opts(latency.buckets(ISSUE_SECONDS.to_vec()))),
            throttled,
            expiries: Mutex::new(Expiries::new(MAX_WORKLOADS)),
            pods,
        }
    }

    /// Registers what is counted as it happens.
    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let counters = [
            &self.requests,
            &self.authentication_failures,
            &self.signing_failures,
            &self.jwt_svids,
            &self.jwt_svids_refused,
            &self.issued,
        ];
        let mut all: Vec<Box<dyn Collector>> =
            vec![Box::new(self.latency.clone()), Box::new(self.throttled.clone())];
        all.extend(counters.map(|counter| Box::new(counter.clone()) as Box<dyn Collector>));
        all.into_iter().try_for_each(|one| registry.register(one))
    }

    /// Counts a certificate that was answered after `took`.
    pub(crate) fn issued(&self, issued: &Issued, took: Duration) {
        self.issued.inc();
        self.latency.observe(took.as_secs_f64());
        let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
        expiries.note(issued, |pod| self.exists(pod));
    }

    fn exists(&self, pod: &WorkloadKey) -> bool {
        self.pods.as_ref().is_some_and(|pods| pods.pod(pod).is_some())
    }

    /// The newest certificate of each workload at `now`.
    pub(crate) fn workloads(&self, now: OffsetDateTime) -> [MetricFamily; 3] {
        let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut expiry, mut overdue) = (Vec::new(), Vec::new());
        for (holder, life) in expiries.at(now, |pod| self.exists(pod)) {
            let pod = holder.pod.as_ref().map_or(String::new(), ToString::to_string);
            let labels = vec![label("identity", holder.identity.as_str()), label("pod", pod)];
            if life.is_overdue(now) {
                overdue.push((labels.clone(), 1.0));
            }
            expiry.push((labels, seconds(life.until)));
        }
        [
            gauges(
                "eastwest_workload_cert_expiry_timestamp",
                "When the newest certificate of a workload runs out, in seconds since 1970.",
                expiry,
            ),
            gauges(
                "eastwest_workload_cert_overdue",
                "1 for a workload that has not renewed although two thirds of its certificate's life are over.",
                overdue,
            ),
            gauge(
                "eastwest_workload_certs_untracked",
                "Certificates of workloads beyond the 10,000 that are told one by one.",
                number(expiries.untracked()),
            ),
        ]
    }
}

/// What the signing chain and the queue of signers are at the moment; `waiting` requests wait for a signer.
pub(crate) fn of_signing(ends: Ends, waiting: usize) -> [MetricFamily; 3] {
    [
        gauge(
            "citadel_server_root_cert_expiry_timestamp",
            "When the root of the signing chain runs out, in seconds since 1970.",
            seconds(ends.root),
        ),
        gauge(
            "citadel_server_cert_chain_expiry_timestamp",
            "When the first certificate of the signing chain runs out, in seconds since 1970.",
            seconds(ends.chain),
        ),
        gauge("eastwest_ca_signing_queue", "Requests that wait for a signer.", number(waiting as u64)),
    ]
}

pub(crate) fn of_ledger(ledger: &LedgerState) -> [MetricFamily; 6] {
    let failing = |flag: &AtomicBool| f64::from(u8::from(flag.load(Ordering::Relaxed)));
    let load = |counter: &AtomicU64| number(counter.load(Ordering::Relaxed));
    [
        gauge("eastwest_ledger_failing", "1 while the ledger cannot be written.", failing(&ledger.failing)),
        gauge("eastwest_ledger_waiting", "Records that wait to be written.", load(&ledger.waiting)),
        gauge("eastwest_ledger_segment", "Number of the newest segment.", load(&ledger.segment)),
        gauge("eastwest_ledger_segment_bytes", "Bytes of the newest segment.", load(&ledger.bytes)),
        counter("eastwest_ledger_records", "Records in the ledger.", load(&ledger.records)),
        counter("eastwest_ledger_commits", "Writes to the ledger.", load(&ledger.commits)),
    ]
}

/// How many sources of each subject cannot be read.
pub(crate) fn source_problems(sources: &[Arc<SourceStatus>]) -> MetricFamily {
    let counts = count_problems(sources).into_iter();
    gauges(
        "eastwest_source_problems",
        "Files and addresses that could not be read again, so that what they said before stays; /debug/ca tells.",
        counts.map(|(subject, problems)| (vec![label("subject", subject)], number(problems))),
    )
}

/// A metric of which all is known when this is compiled.
fn valid<T: Debug>(metric: prometheus::Result<T>) -> T {
    metric.expect("names, labels and buckets are constants")
}

#[allow(clippy::cast_precision_loss)]
fn seconds(time: OffsetDateTime) -> f64 {
    time.unix_timestamp() as f64
}
