//! `retries` of a route, and `defaultHttpRetryPolicy` of the mesh.

use eastwest_model::policy::RetryPolicy;

use super::duration;
use crate::{field::Field, spelling};

const FIELDS: &[&str] =
    &["attempts", "perTryTimeout", "retryOn", "retryRemoteLocalities", "retryIgnorePreviousHosts", "backoff"];
/// What Envoy tries again.
const CONDITIONS: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
/// The condition without which codes mean nothing.
const BY_CODE: &str = "retriable-status-codes";
/// The most times that a request may be tried again.
const MOST: u64 = i32::MAX.unsigned_abs() as u64;

/// A retry policy, if there is one; what it leaves out is the default.
pub(super) fn read(field: &Field<'_>) -> Option<RetryPolicy> {
    if !field.is_set() {
        return None;
    }
    field.slips(FIELDS);
    let attempts = field.get("attempts").integer(0..=MOST).unwrap_or(0);
    let defaults = RetryPolicy::default();
    let (on, codes) = conditions(&field.get("retryOn")).unwrap_or((defaults.on, Vec::new()));
    if attempts == 0 {
        for key in ["perTryTimeout", "retryOn", "retryRemoteLocalities"] {
            if field.has_any(&[key]) {
                field.get(key).error("says how to try again, and attempts is 0: set attempts, or drop it");
            }
        }
    }
    let remote = field.get("retryRemoteLocalities");
    if remote.flag() == Some(true) {
        remote.warn("is not in force: endpoints are taken as if they were in one place");
    }
    Some(RetryPolicy {
        attempts,
        per_try_timeout: duration::positive(&field.get("perTryTimeout")),
        on,
        codes,
        backoff: duration::positive(&field.get("backoff")),
        ignore_previous_hosts: field.get("retryIgnorePreviousHosts").flag(),
        remote_localities: remote.flag().unwrap_or(false),
    })
}

/// The conditions, and the codes among them.
fn conditions(field: &Field<'_>) -> Option<(eastwest_model::Name, Vec<u32>)> {
    let text = field.text().filter(|text| !text.is_empty())?;
    let (mut words, mut codes) = (Vec::new(), Vec::new());
    for word in text.split(',') {
        if let Some(code) = word.parse::<u32>().ok().filter(|code| (100..=599).contains(code)) {
            codes.push(code);
        } else if CONDITIONS.contains(&word) {
            words.push(word);
        } else if CONDITIONS.contains(&word.trim()) {
            field.error(format_args!("has a blank around {:?}: write the list without blanks", word.trim()));
        } else {
            let hint = spelling::did_you_mean(word, CONDITIONS.iter().copied());
            field.error(format_args!(
                "{word:?} is neither a status code nor among {}{hint}",
                CONDITIONS.join(", ")
            ));
        }
    }
    if !codes.is_empty() && !words.contains(&BY_CODE) {
        words.push(BY_CODE);
    }
    Some((words.join(",").into(), codes))
}
