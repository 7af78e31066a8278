//! The CA through real clients over real TLS on loopback.
#![allow(clippy::unwrap_used, reason = "tests")]

mod certificates;
mod common;
mod ledger;
mod log;
mod overload;
mod port;
