//! The CA through real clients over real TLS on loopback.
#![allow(clippy::unwrap_used, reason = "tests")]

mod certificates;
mod common;
mod hostile;
mod issuer;
mod jobs;
mod keys;
mod kubernetes_api;
mod ledger;
mod log;
mod names;
mod nodes;
mod overload;
mod port;
mod reviews;
mod svids;
mod tokens;
mod web;
