//! The real `eastwest` from outside: commands, ports, signals and files, as a user and a proxy meet them.
//!
//! Needs no root and no Envoy: everything is on loopback, at ports that the system chooses, in folders of its own.
//! `EASTWEST_BIN` names the program, else it is the one that cargo built beside these tests.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alone;
mod authority;
mod bundles;
mod ci_page;
mod clients;
mod commands;
mod configuration;
mod diff;
mod following;
mod harness;
mod identities;
mod ledger;
mod lifecycle;
mod proofs;
mod render;
mod resources;
mod restarts;
mod roots;
mod rotation;
mod secrets;
mod sources;
mod standing;
mod streams;
mod xds;
