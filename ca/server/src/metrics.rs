//! Numbers under istiod's names where it has them (CA.md C26).

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use eastwest_ca::{SharedPods, expiry::Expiries, ledger::Issued};
use eastwest_identity::WorkloadKey;
use time::OffsetDateTime;

use crate::ledger::LedgerState;

/// Most workloads whose certificates are told one by one.
const MAX_WORKLOADS: usize = 10_000;

/// A metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its numbers.
    pub samples: Vec<Sample>,
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What follows the metric's name, e.g. `_bucket`; mostly nothing.
    pub suffix: &'static str,
    /// Labels as `{name="value"}`, or nothing.
    pub labels: String,
    /// The number.
    pub value: f64,
}

/// What runs out when: the root of the signing chain, and the first certificate of the signing chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) root: OffsetDateTime,
    pub(crate) chain: OffsetDateTime,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What the CA has done so far.
pub(crate) struct Metrics {
    pub(crate) requests: AtomicU64,
    pub(crate) authentication_failures: AtomicU64,
    pub(crate) signing_failures: AtomicU64,
    pub(crate) throttled_peers: AtomicU64,
    pub(crate) throttled_callers: AtomicU64,
    pub(crate) jwt_svids: AtomicU64,
    pub(crate) jwt_svids_refused: AtomicU64,
    issued: AtomicU64,
    latency: Histogram,
    expiries: Mutex<Expiries>,
    /// The pods of the cluster; `None` where none are known.
    pods: Option<SharedPods>,
}

impl Metrics {
    /// Nothing so far. Certificates are told by pod as far as `pods` are known.
    pub(crate) fn new(pods: Option<SharedPods>) -> Self {
        Self {
            requests: AtomicU64::default(),
            authentication_failures: AtomicU64::default(),
            signing_failures: AtomicU64::default(),
            throttled_peers: AtomicU64::default(),
            throttled_callers: AtomicU64::default(),
            jwt_svids: AtomicU64::default(),
            jwt_svids_refused: AtomicU64::default(),
            issued: AtomicU64::default(),
            latency: Histogram::default(),
            expiries: Mutex::new(Expiries::new(MAX_WORKLOADS)),
            pods,
        }
    }

    /// Counts a certificate that was answered after `took`.
    pub(crate) fn issued(&self, issued: &Issued, took: Duration) {
        count(&self.issued);
        self.latency.note(took);
        let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
        expiries.note(issued, |pod| self.exists(pod));
    }

    fn exists(&self, pod: &WorkloadKey) -> bool {
        self.pods.as_ref().is_some_and(|pods| pods.pod(pod).is_some())
    }

    /// All numbers; `waiting` requests wait for a signer.
    pub(crate) fn families(
        &self,
        ends: Ends,
        ledger: &LedgerState,
        waiting: usize,
        now: OffsetDateTime,
    ) -> Vec<Family> {
        let mut families = self.counters();
        families.extend([
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
            self.latency.family("eastwest_ca_issue_seconds", "From a request to its certificate."),
        ]);
        families.extend(self.workloads(now));
        families.extend(of_ledger(ledger));
        families
    }

    fn counters(&self) -> Vec<Family> {
        vec![
            counter("citadel_server_csr_count", "Certificate requests received.", &self.requests),
            counter(
                "citadel_server_authentication_failure_count",
                "Certificate requests whose caller proved no identity.",
                &self.authentication_failures,
            ),
            counter(
                "citadel_server_csr_sign_err_count",
                "Certificate requests of authenticated callers that got no certificate.",
                &self.signing_failures,
            ),
            counter("citadel_server_success_cert_issuance_count", "Certificates issued.", &self.issued),
            counter("eastwest_ca_jwt_svids", "JWT-SVIDs issued.", &self.jwt_svids),
            counter("eastwest_ca_jwt_svids_refused", "JWT-SVIDs refused.", &self.jwt_svids_refused),
            Family {
                name: "eastwest_ca_throttled",
                help: "Certificate requests refused unseen: of addresses that failed too often, of callers that ask \
                       too often.",
                kind: "counter",
                samples: vec![
                    sample("{who=\"address\"}".to_owned(), load(&self.throttled_peers)),
                    sample("{who=\"caller\"}".to_owned(), load(&self.throttled_callers)),
                ],
            },
        ]
    }

    /// The newest certificate of each workload. Identities and pods need no escaping: they hold neither quotes nor
    /// backslashes.
    fn workloads(&self, now: OffsetDateTime) -> [Family; 3] {
        let mut expiries = self.expiries.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut expiry, mut overdue) = (Vec::new(), Vec::new());
        for (holder, life) in expiries.at(now, |pod| self.exists(pod)) {
            let pod = holder.pod.as_ref().map_or(String::new(), ToString::to_string);
            let labels = format!("{{identity=\"{}\",pod=\"{pod}\"}}", holder.identity);
            if life.is_overdue(now) {
                overdue.push(sample(labels.clone(), 1.0));
            }
            expiry.push(sample(labels, seconds(life.until)));
        }
        [
            Family {
                name: "eastwest_workload_cert_expiry_timestamp",
                help: "When the newest certificate of a workload runs out, in seconds since 1970.",
                kind: "gauge",
                samples: expiry,
            },
            Family {
                name: "eastwest_workload_cert_overdue",
                help: "1 for a workload that has not renewed although two thirds of its certificate's life are over.",
                kind: "gauge",
                samples: overdue,
            },
            gauge(
                "eastwest_workload_certs_untracked",
                "Certificates of workloads beyond the 10,000 that are told one by one.",
                number(expiries.untracked()),
            ),
        ]
    }
}

fn of_ledger(ledger: &LedgerState) -> [Family; 6] {
    let failing = |flag: &AtomicBool| f64::from(u8::from(flag.load(Ordering::Relaxed)));
    [
        gauge("eastwest_ledger_failing", "1 while the ledger cannot be written.", failing(&ledger.failing)),
        gauge("eastwest_ledger_waiting", "Records that wait to be written.", load(&ledger.waiting)),
        gauge("eastwest_ledger_segment", "Number of the newest segment.", load(&ledger.segment)),
        gauge("eastwest_ledger_segment_bytes", "Bytes of the newest segment.", load(&ledger.bytes)),
        counter("eastwest_ledger_records", "Records in the ledger.", &ledger.records),
        counter("eastwest_ledger_commits", "Writes to the ledger.", &ledger.commits),
    ]
}

fn counter(name: &'static str, help: &'static str, counter: &AtomicU64) -> Family {
    Family { name, help, kind: "counter", samples: vec![sample(String::new(), load(counter))] }
}

pub(crate) fn gauge(name: &'static str, help: &'static str, value: f64) -> Family {
    Family { name, help, kind: "gauge", samples: vec![sample(String::new(), value)] }
}

fn sample(labels: String, value: f64) -> Sample {
    Sample { suffix: "", labels, value }
}

fn load(counter: &AtomicU64) -> f64 {
    number(counter.load(Ordering::Relaxed))
}

#[allow(clippy::cast_precision_loss)] // exact up to 2^53
pub(crate) fn number(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss)]
fn seconds(time: OffsetDateTime) -> f64 {
    time.unix_timestamp() as f64
}

/// How long things took, in buckets of Prometheus.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

/// Upper bounds in microseconds, and as Prometheus writes them.
const BOUNDS: [(u64, &str); 10] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
];

impl Histogram {
    fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BOUNDS.iter().position(|(bound, _)| micros <= *bound) {
            count(&self.buckets[at]);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
        count(&self.count);
    }

    fn family(&self, name: &'static str, help: &'static str) -> Family {
        let mut below = 0.0;
        let mut samples = Vec::with_capacity(BOUNDS.len() + 3);
        let mut bucket = |bound: &str, value| {
            samples.push(Sample { suffix: "_bucket", labels: format!("{{le=\"{bound}\"}}"), value });
        };
        for ((_, bound), counter) in BOUNDS.iter().zip(&self.buckets) {
            below += load(counter);
            bucket(bound, below);
        }
        bucket("+Inf", load(&self.count));
        samples.push(Sample { suffix: "_sum", labels: String::new(), value: load(&self.micros) / 1e6 });
        samples.push(Sample { suffix: "_count", labels: String::new(), value: load(&self.count) });
        Family { name, help, kind: "histogram", samples }
    }
}
