//! `outlierDetection`: when an endpoint gets no requests for a while.

use std::sync::Arc;

use eastwest_model::policy::OutlierDetection;

use super::{number, percent};
use crate::{field::Field, parse::duration};

const FIELDS: &[&str] = &[
    "splitExternalLocalOriginErrors",
    "consecutiveLocalOriginFailures",
    "consecutiveGatewayErrors",
    "consecutive5xxErrors",
    "consecutiveErrors",
    "interval",
    "baseEjectionTime",
    "maxEjectionPercent",
    "minHealthPercent",
    "outlierDetectionHttpErrorCodes",
];

/// `outlierDetection`.
pub(crate) fn outlier_detection(field: &Field<'_>) -> Option<Arc<OutlierDetection>> {
    if !field.is_set() {
        return None;
    }
    field.slips(FIELDS);
    let block = OutlierDetection {
        split_external_local_origin_errors: field
            .get("splitExternalLocalOriginErrors")
            .flag()
            .unwrap_or(false),
        consecutive_local_origin_failures: number(&field.get("consecutiveLocalOriginFailures")),
        consecutive_gateway_errors: number(&field.get("consecutiveGatewayErrors")),
        consecutive_5xx_errors: number(&field.get("consecutive5xxErrors")),
        interval: duration::positive(&field.get("interval")),
        base_ejection_time: duration::positive(&field.get("baseEjectionTime")),
        max_ejection_percent: percent(&field.get("maxEjectionPercent")),
        min_health_percent: percent(&field.get("minHealthPercent")),
    };
    let local = field.get("consecutiveLocalOriginFailures");
    if !block.split_external_local_origin_errors
        && block.consecutive_local_origin_failures.is_some_and(|count| count > 0)
    {
        local.error("counts only with splitExternalLocalOriginErrors: true: set that too, or drop it");
    }
    let outdated = field.get("consecutiveErrors");
    if outdated.integer::<u32>(0..=i32::MAX.unsigned_abs().into()).is_some_and(|count| count > 0) {
        outdated.warn("does nothing: use consecutive5xxErrors or consecutiveGatewayErrors");
    }
    let codes = field.get("outlierDetectionHttpErrorCodes");
    if !codes.list().is_empty() {
        codes.warn("is not in force: use consecutive5xxErrors or consecutiveGatewayErrors");
    }
    Some(Arc::new(block))
}
