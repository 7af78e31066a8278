//! Text in, Envoy's resources out: goldens, the rules that must hold for every listener, what is shared, and stock
//! Envoy's own opinion.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests read files and fail by panicking")]

mod access;
mod call_cases;
mod calls;
mod envoy;
mod families;
mod fleet;
mod golden;
mod inbound;
mod joint;
mod outbound;
mod pairs;
mod people;
mod secrets;
mod sharing;
mod traffic;
mod traffic_cases;
mod wire;
mod world;
