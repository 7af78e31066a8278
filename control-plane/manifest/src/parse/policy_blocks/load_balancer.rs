//! `loadBalancer`: how requests are shared out.

use std::{collections::BTreeSet, sync::Arc};

use eastwest_model::{
    Name,
    policy::{ConsistentHash, HashAlgorithm, HashKey, LoadBalancer, SimpleLoadBalancer, Warmup},
};

use super::{locality::locality, set};
use crate::{field::Field, parse::duration};

const FIELDS: &[&str] =
    &["simple", "consistentHash", "localityLbSetting", "zoneAwareLbSetting", "warmup", "warmupDurationSecs"];
const HASH_KEYS: [&str; 4] = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
const LOAD_BALANCERS: &[(&str, Option<SimpleLoadBalancer>)] = &[
    ("UNSPECIFIED", None),
    ("ROUND_ROBIN", Some(SimpleLoadBalancer::RoundRobin)),
    ("LEAST_REQUEST", Some(SimpleLoadBalancer::LeastRequest)),
    ("LEAST_CONN", Some(SimpleLoadBalancer::LeastRequest)),
    ("RANDOM", Some(SimpleLoadBalancer::Random)),
    ("PASSTHROUGH", Some(SimpleLoadBalancer::Passthrough)),
];
/// The smallest ring if the rule says nothing of rings and tables.
const RING: u64 = 1024;
/// The largest ring that Envoy takes.
const LARGEST_RING: u64 = 8 << 20;
/// The first size of a table that is too large for Envoy.
const TOO_LARGE_TABLE: u64 = 5_000_011;

/// `loadBalancer`.
pub(crate) fn load_balancer(field: &Field<'_>) -> Option<Arc<LoadBalancer>> {
    if !field.is_set() {
        return None;
    }
    field.slips(FIELDS);
    if field.has_any(&["simple"]) && field.has_any(&["consistentHash"]) {
        field.error("has simple and consistentHash: keep one of the two");
    }
    let zone_aware = field.get("zoneAwareLbSetting");
    if zone_aware.is_set() {
        zone_aware.warn("is not in force: endpoints are taken as if they were in one zone");
    }
    let balancer = LoadBalancer {
        simple: field.get("simple").choice("load balancers", LOAD_BALANCERS).flatten(),
        consistent_hash: set(&field.get("consistentHash")).map(consistent_hash),
        locality: set(&field.get("localityLbSetting")).map(locality),
        warmup: warmup(field),
    };
    let takes_warmup = matches!(
        balancer.simple,
        None | Some(SimpleLoadBalancer::RoundRobin | SimpleLoadBalancer::LeastRequest)
    );
    if balancer.warmup.is_some() && (balancer.consistent_hash.is_some() || !takes_warmup) {
        let key = if field.get("warmup").is_set() { "warmup" } else { "warmupDurationSecs" };
        field.get(key).warn("has an effect only with ROUND_ROBIN and LEAST_REQUEST");
    }
    Some(Arc::new(balancer))
}

fn consistent_hash(field: &Field<'_>) -> ConsistentHash {
    field.slips(&[&HASH_KEYS[..], &["ringHash", "maglev", "minimumRingSize"]].concat());
    let keys: Vec<&str> = HASH_KEYS.into_iter().filter(|key| field.has_any(&[key])).collect();
    if keys.len() > 1 {
        field.error(format_args!("has {}: hash one of them", keys.join(" and ")));
    }
    let key = match keys.first() {
        Some(&key @ "httpHeaderName") => http_name(&field.get(key)).map(HashKey::Header),
        Some(&key @ "httpCookie") => cookie(&field.get(key)),
        Some(&key @ "useSourceIp") => field.get(key).flag().filter(|used| *used).map(|_| HashKey::SourceIp),
        Some(&key) => http_name(&field.get(key)).map(HashKey::QueryParameter),
        None => None,
    };
    ConsistentHash { key, algorithm: algorithm(field) }
}

/// A name that Envoy takes: not empty, without control characters and blanks.
fn http_name(field: &Field<'_>) -> Option<Name> {
    let text = field.text()?;
    if text.is_empty() || text.chars().any(|c| c.is_ascii_control() || c == ' ') {
        field.error(format_args!("{text:?} is no name: it must not be empty or hold blanks"));
        return None;
    }
    Some(text.into())
}

fn cookie(field: &Field<'_>) -> Option<HashKey> {
    field.slips(&["name", "path", "ttl", "attributes"]);
    let name = field.get("name");
    name.required("name the cookie");
    let mut seen = BTreeSet::new();
    let attribute = |entry: Field<'_>| {
        let name = http_name(entry.slips(&["name", "value"]).get("name").required("name the attribute"))?;
        if !seen.insert(name.clone()) {
            entry.get("name").error(format_args!("{name:?} stands twice: keep one of them"));
        }
        Some((name, entry.get("value").name().unwrap_or_default()))
    };
    Some(HashKey::Cookie {
        attributes: field.get("attributes").list().into_iter().filter_map(attribute).collect(),
        path: field.get("path").name(),
        ttl: duration::or_zero(&field.get("ttl")),
        name: http_name(&name)?,
    })
}

fn algorithm(field: &Field<'_>) -> HashAlgorithm {
    let (maglev, ring, outdated) = (field.get("maglev"), field.get("ringHash"), field.get("minimumRingSize"));
    let old_size = ring_size(&outdated);
    if old_size.is_some() {
        outdated.warn("is outdated: use ringHash.minimumRingSize");
    }
    if [maglev.is_set(), ring.is_set(), old_size.is_some()].into_iter().filter(|set| *set).count() > 1 {
        field.error("has more than one of maglev, ringHash and minimumRingSize: keep one of them");
    }
    if maglev.is_set() {
        return HashAlgorithm::Maglev(table_size(maglev.slips(&["tableSize"])));
    }
    if ring.is_set() {
        return HashAlgorithm::RingHash(ring_size(&ring.slips(&["minimumRingSize"]).get("minimumRingSize")));
    }
    HashAlgorithm::RingHash(Some(old_size.unwrap_or(RING)))
}

fn ring_size(field: &Field<'_>) -> Option<u64> {
    field.integer(0..=LARGEST_RING).filter(|size| *size > 0)
}

fn table_size(maglev: &Field<'_>) -> Option<u64> {
    let field = maglev.get("tableSize");
    field.required("give the size of the table, a prime number such as 65537");
    let size = field.integer::<u64>(0..=u64::MAX)?;
    if size < TOO_LARGE_TABLE && is_prime(size) {
        return Some(size);
    }
    field.error(format_args!("{size} is no size of a table: use a prime number below {TOO_LARGE_TABLE}"));
    None
}

fn is_prime(number: u64) -> bool {
    let mut factors = (2..).take_while(|factor| factor * factor <= number);
    number > 0 && factors.all(|factor| !number.is_multiple_of(factor))
}

fn warmup(field: &Field<'_>) -> Option<Warmup> {
    let warmup = field.get("warmup");
    if !warmup.is_set() {
        let duration = duration::positive(&field.get("warmupDurationSecs"))?;
        return Some(Warmup { duration, minimum_percent: None, aggression: None });
    }
    warmup.slips(&["duration", "minimumPercent", "aggression"]);
    let duration = warmup.get("duration");
    duration.required("say how long an endpoint counts as new, for example 30s");
    let minimum = warmup.get("minimumPercent").decimal(0.0, 100.0);
    let aggression = warmup.get("aggression").decimal(1.0, f64::MAX);
    Some(Warmup {
        duration: duration::positive(&duration)?,
        minimum_percent: minimum.or_else(|| Some("10".into())),
        aggression: aggression.or_else(|| Some("1".into())),
    })
}
