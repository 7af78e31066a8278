//! Numbers under istiod's names (ca.md section 2, "Drop-in surface").

use std::sync::atomic::{AtomicU64, Ordering};

use time::OffsetDateTime;

/// What the CA has done so far.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) requests: AtomicU64,
    pub(crate) authentication_failures: AtomicU64,
    pub(crate) signing_failures: AtomicU64,
    pub(crate) issued: AtomicU64,
}

/// One number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// The number.
    pub value: f64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    /// All numbers; the two times are when the last root and the first certificate of the signing chain run out.
    pub(crate) fn samples(&self, root_expiry: OffsetDateTime, chain_expiry: OffsetDateTime) -> Vec<Sample> {
        let counter = |name, help, counter: &AtomicU64| {
            #[allow(clippy::cast_precision_loss)] // exact up to 2^53
            let value = counter.load(Ordering::Relaxed) as f64;
            Sample { name, help, kind: "counter", value }
        };
        let gauge = |name, help, time: OffsetDateTime| {
            #[allow(clippy::cast_precision_loss)]
            let value = time.unix_timestamp() as f64;
            Sample { name, help, kind: "gauge", value }
        };
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
            gauge(
                "citadel_server_root_cert_expiry_timestamp",
                "When the last root runs out, in seconds since 1970.",
                root_expiry,
            ),
            gauge(
                "citadel_server_cert_chain_expiry_timestamp",
                "When the first certificate of the signing chain runs out, in seconds since 1970.",
                chain_expiry,
            ),
        ]
    }
}
