//! The whole system: the real `eastwest`, stock Envoys, pods in network namespaces.
//!
//! The tests are marked `ignore`, because they need root and Envoy; `cargo xtask test` runs them if both are there.
//! Each prints its figures: `cargo test -p eastwest-tests --test whole_system -- --ignored --nocapture`.

mod access;
mod calls;
mod cells;
mod credentials;
mod destination;
mod families;
mod forged;
mod harness;
mod identity;
mod modes;
mod origination;
mod policy;
mod probes;
mod redirection;
mod restart;
mod resumption;
mod root_rotation;
mod rotation;
