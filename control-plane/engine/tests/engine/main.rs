//! Tests of the engine as its users see it: manifests or objects in, settings, explanations and warnings out.
#![allow(clippy::unwrap_used)] // an unwrap that fails here is a failed test
#![allow(clippy::disallowed_methods)] // fixtures are files

mod access;
mod combinations;
mod credentials;
mod diffs;
mod effects;
mod mesh;
mod pairs;
mod pods;
mod properties;
mod rules;
mod takeovers;
mod templates;
mod tls_cases;
mod traffic;
mod undeclared;
