//! The whole system: the real `eastwest`, stock Envoys, pods in network namespaces.
//!
//! Marked `ignore`, for they need root and Envoy; `cargo xtask test` runs them where both are.

mod harness;
