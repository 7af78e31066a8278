//! eastwest: certificate authority and xDS server for mutual TLS.
fn main() {}
