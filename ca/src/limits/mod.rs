//! Shares of a limited resource: how often a caller may ask, and whose turn it is.

pub mod fair_queue;
pub mod rate_limit;
