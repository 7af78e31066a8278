//! How clients call where no rule says anything else: those fields of the MeshConfig (TRAFFIC.md M1).

use std::sync::Arc;

use eastwest_model::{mesh::TrafficDefaults, policy::H2UpgradePolicy};

use super::{duration, policy_blocks, retries};
use crate::field::Field;

pub(super) fn read(mesh: &Field<'_>) -> TrafficDefaults {
    let defaults = TrafficDefaults::default();
    let policy = mesh.get("defaultTrafficPolicy");
    policy.slips(&["connectionPool", "outlierDetection"]);
    let locality = mesh.get("localityLbSetting");
    if locality.is_set() {
        locality.warn("is not in force: endpoints are taken as if they were in one place");
    }
    TrafficDefaults {
        connect_timeout: duration::positive(&mesh.get("connectTimeout")).unwrap_or(defaults.connect_timeout),
        keepalive: policy_blocks::keepalive(&mesh.get("tcpKeepalive")),
        h2_upgrade: policy_blocks::h2_upgrade_policy(&mesh.get("h2UpgradePolicy"))
            == Some(H2UpgradePolicy::Upgrade),
        connection_pool: policy_blocks::connection_pool(&policy.get("connectionPool")),
        outlier_detection: policy_blocks::outlier_detection(&policy.get("outlierDetection")),
        retries: retries::read(&mesh.get("defaultHttpRetryPolicy")).map_or(defaults.retries, Arc::new),
    }
}
