//! The blocks of a traffic policy besides TLS (TRAFFIC.md V1).
//!
//! A value that is refused is unset in what is read.

mod connection_pool;
mod load_balancer;
mod locality;
mod outlier_detection;

use std::sync::Arc;

use eastwest_model::policy::{ProxyProtocol, RetryBudget, Tunnel};

use super::{duration, host};
use crate::field::Field;

pub(super) use connection_pool::{connection_pool, h2_upgrade_policy, keepalive};
pub(super) use load_balancer::load_balancer;
pub(super) use outlier_detection::outlier_detection;

/// What a retry budget allows of the requests under way, in per cent, if nothing is said.
const BUDGET_PERCENT: &str = "20";
/// How many retries it allows in any case, if nothing is said.
const BUDGET_LEAST: u32 = 3;

/// `tunnel`.
pub(super) fn tunnel(field: &Field<'_>) -> Option<Arc<Tunnel>> {
    if !field.is_set() {
        return None;
    }
    field.slips(&["protocol", "targetHost", "targetPort"]);
    field.warn("is not in force: connections are made to the endpoints themselves, without a tunnel");
    let (protocol, target_host) = (field.get("protocol"), field.get("targetHost"));
    if !matches!(protocol.text(), None | Some("" | "CONNECT" | "POST")) {
        protocol.error("is no protocol of tunnels: use CONNECT or POST");
    }
    let to = target_host.required("a tunnel needs the host at its far end").text().unwrap_or_default();
    if target_host.is_set() && (to.contains('*') || host::check_pattern(to).is_err()) {
        target_host.error(format_args!("{to:?} is no host: write a DNS name or an address"));
    }
    let target_port = field.get("targetPort");
    target_port.required("a tunnel needs the port at its far end");
    Some(Arc::new(Tunnel {
        protocol: protocol.name(),
        target_host: to.into(),
        target_port: target_port.port().map_or(0, u32::from),
    }))
}

/// `proxyProtocol`; without a version it is V1.
pub(super) fn proxy_protocol(field: &Field<'_>) -> Option<ProxyProtocol> {
    field.slips(&["version"]);
    let versions = [("V1", ProxyProtocol::V1), ("V2", ProxyProtocol::V2)];
    let version = field.get("version");
    field.is_set().then(|| version.choice("versions", &versions).unwrap_or(ProxyProtocol::V1))
}

/// `retryBudget`.
pub(super) fn retry_budget(field: &Field<'_>) -> Option<Arc<RetryBudget>> {
    field.slips(&["percent", "minRetryConcurrency", "budgetInterval"]);
    field.is_set().then(|| {
        Arc::new(RetryBudget {
            percent: field.get("percent").decimal(0.0, 100.0).or_else(|| Some(BUDGET_PERCENT.into())),
            min_retry_concurrency: number(&field.get("minRetryConcurrency")).or(Some(BUDGET_LEAST)),
            interval: duration::positive(&field.get("budgetInterval")),
        })
    })
}

fn set<'b, 'a>(field: &'b Field<'a>) -> Option<&'b Field<'a>> {
    Some(field).filter(|field| field.is_set())
}

/// A number of 32 bits.
fn number(field: &Field<'_>) -> Option<u32> {
    field.integer(0..=u32::MAX.into())
}

/// A limit, of which 0 means none; signed in the API.
fn limit(field: &Field<'_>) -> Option<u32> {
    field.integer(0..=i32::MAX.unsigned_abs().into()).filter(|limit| *limit > 0)
}

/// A share in whole per cent.
fn percent(field: &Field<'_>) -> Option<u32> {
    field.integer(0..=100)
}

#[cfg(test)]
mod tests;
