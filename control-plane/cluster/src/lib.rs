//! What a control plane writes to the Kubernetes API.
//!
//! The rules and their tests are in `docs/KUBERNETES.md`.
