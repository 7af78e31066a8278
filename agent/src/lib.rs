//! The companion of a workload: key, certificate, SDS, Envoy bootstrap and supervision.
