//! Blocks that are taken keep all their parts.

use std::time::Duration;

use eastwest_model::policy::{H2UpgradePolicy, HashAlgorithm, HashKey, HttpPool, TcpPool};
use serde_json::json;

use super::*;
use crate::field::Findings;

#[test]
fn of_a_refused_block_the_rest_is_read() {
    let value = json!({
        "tcp": {"maxConnections": "many", "connectTimeout": "soon", "idleTimeout": "1s"},
        "http": {"maxRetries": 3, "http2MaxRequests": 0, "h2UpgradePolicy": "UPGRADE"},
    });
    let findings = Findings::default();
    let pool = connection_pool(&Field::root(&value, &findings)).unwrap();
    let fields: Vec<_> = findings.into_set().into_iter().map(|finding| finding.field).collect();
    assert_eq!(fields, ["tcp.connectTimeout", "tcp.maxConnections"]);
    let (tcp, http) = (pool.tcp.clone().unwrap(), pool.http.clone().unwrap());
    assert_eq!(tcp, TcpPool { idle_timeout: Some(Duration::from_secs(1)), ..TcpPool::default() });
    let (retries, upgrade) = (Some(3), Some(H2UpgradePolicy::Upgrade));
    assert_eq!(http, HttpPool { max_retries: retries, h2_upgrade_policy: upgrade, ..HttpPool::default() });
}

#[test]
fn load_balancers_keep_all_their_parts() {
    let value = json!({
        "consistentHash": {"httpCookie": {"name": "user", "ttl": "0s"}, "maglev": {"tableSize": 65537}},
        "localityLbSetting": {"distribute": [{"from": "a/*", "to": {"a/*": 80, "b/*": 20}}]},
        "warmup": {"duration": "30s", "aggression": 1.5},
    });
    let findings = Findings::default();
    let block = load_balancer(&Field::root(&value, &findings)).unwrap();
    let hash = block.consistent_hash.clone().unwrap();
    let (ttl, attributes) = (Some(Duration::ZERO), Vec::new());
    let key = HashKey::Cookie { name: "user".into(), path: None, ttl, attributes };
    assert_eq!((hash.key, hash.algorithm), (Some(key), HashAlgorithm::Maglev(Some(65537))));
    let locality = block.locality.clone().unwrap();
    assert_eq!(locality.distribute, [("a/*".into(), [("a/*".into(), 80), ("b/*".into(), 20)].into())]);
    let warmup = block.warmup.clone().unwrap();
    let parts = (warmup.minimum_percent.as_deref(), warmup.aggression.as_deref());
    assert_eq!((warmup.duration.as_secs(), parts), (30, (Some("10"), Some("1.5"))));
}

#[test]
fn sizes_of_rings_have_their_defaults() {
    for (hash, expected) in [
        (json!({}), HashAlgorithm::RingHash(Some(1024))),
        (json!({"minimumRingSize": 7}), HashAlgorithm::RingHash(Some(7))),
        (json!({"ringHash": {}}), HashAlgorithm::RingHash(None)),
        (json!({"ringHash": {"minimumRingSize": 9}}), HashAlgorithm::RingHash(Some(9))),
    ] {
        let (value, findings) = (json!({"consistentHash": hash}), Findings::default());
        let block = load_balancer(&Field::root(&value, &findings)).unwrap();
        assert_eq!(block.consistent_hash.as_ref().unwrap().algorithm, expected, "{value}");
    }
}
