//! What a control plane asks of the Kubernetes API besides its objects, and what it writes there.
//!
//! The rules and their tests are in `docs/KUBERNETES.md`.

mod tokens;

pub use tokens::TokenIssuer;
