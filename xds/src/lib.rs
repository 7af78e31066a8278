//! The xDS protocol without I/O: subscriptions and what a stream must send next.
