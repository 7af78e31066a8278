//! Type URLs of the resources that eastwest serves.

use std::sync::LazyLock;

use prost::Name;

use crate::eastwest::v1::WorkloadTls;
use crate::envoy::config::cluster::v3::Cluster;
use crate::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::envoy::config::listener::v3::Listener;
use crate::envoy::config::route::v3::RouteConfiguration;
use crate::envoy::extensions::transport_sockets::tls::v3::Secret;

