//! The rules of xds.md section A as text scenarios, one file per group; each runs over both variants.
#![allow(missing_docs, clippy::unwrap_used)]

mod script;

#[test]
fn rules_4_to_9_streams() {
    script::play(include_str!("scenarios/streams.txt"));
}

#[test]
fn rules_10_to_15_acks() {
    script::play(include_str!("scenarios/acks.txt"));
}

#[test]
fn rules_16_to_26_subscriptions() {
    script::play(include_str!("scenarios/subscriptions.txt"));
}

#[test]
fn rules_27_to_39_delta() {
    script::play(include_str!("scenarios/delta.txt"));
}

#[test]
fn rules_40_to_46_order() {
    script::play(include_str!("scenarios/order.txt"));
}
