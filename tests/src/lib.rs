//! Harness of the whole-system tests and of `cargo xtask demo`: a small mesh of real programs.
//!
//! A [`World`](netns::World) is a set of network namespaces around a bridge: each pod has its own,
//! with the address that its manifest says, and the control plane runs where the bridge is. A
//! [`Mesh`](mesh::Mesh) puts the bookshop into it: `eastwest serve`, and for each lifted pod an
//! application, the redirection by `eastwest redirect`, `eastwest agent`, and
//! stock Envoy. Nothing of it is visible outside, so runs do not meet.
//!
//! Beside it stands a real [Kubernetes API](kubernetes::Kubernetes).
//!
//! Needs root, and the programs that `cargo xtask tools` fetches.

pub mod app;
pub mod bookshop;
pub mod capture;
pub mod control_plane;
pub mod kubernetes;
pub mod mesh;
pub mod netns;
pub mod outside;
pub mod pages;
pub mod process;
pub mod programs;
pub mod redirection;
pub mod sidecar;
