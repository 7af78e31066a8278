//! The rules of docs/XDS.md as text scenarios, one file per group; each runs over both variants.
#![allow(missing_docs, clippy::unwrap_used)]

mod script;

#[test]
fn x4_to_x9_streams() {
    script::play(include_str!("scenarios/streams.txt"));
}

#[test]
fn x10_to_x15_acks() {
    script::play(include_str!("scenarios/acks.txt"));
}

#[test]
fn x16_to_x26_subscriptions() {
    script::play(include_str!("scenarios/subscriptions.txt"));
}

#[test]
fn x27_to_x39_delta() {
    script::play(include_str!("scenarios/delta.txt"));
}

#[test]
fn x40_to_x46_order() {
    script::play(include_str!("scenarios/order.txt"));
}
