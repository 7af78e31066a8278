//! The real `eastwest` from outside: commands, ports, signals and files, as a user and a proxy meet them.
//!
//! Needs no root and no Envoy: everything is on loopback, at ports that the system chooses, in folders of its own.
//! `EASTWEST_BIN` names the program, else it is the one that cargo built beside these tests.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod authority;
mod bundles;
mod can;
mod ci_page;
mod commands;
mod configuration;
mod cut_off;
mod debug_access;
mod defects;
mod diff;
mod expiring_proofs;
mod following;
mod harness;
mod identities;
mod inject;
mod issuing;
mod ledger;
mod left_behind;
mod lifecycle;
mod naming;
mod pages;
mod plugged_in;
mod proofs;
mod render;
mod resources;
mod restarts;
mod rotation;
mod route;
mod secrets;
mod seeing;
mod sources;
mod standalone;
mod standard_streams;
mod strangers;
mod streams;
