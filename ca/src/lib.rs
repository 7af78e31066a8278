//! The pure certificate authority: identities proven, granted, profiled and signed.
//!
//! ```text
//! client certificate ─ peer ─┐
//! bearer token ─────── jwt ──┴→ Caller → Authorizer → Grant ─┐
//! CSR → parse, proof of possession → VerifiedCsr ────────────┴→ profile → Issuer.issue → check → chain
//! ```
//! A [`Grant`] is made by an [`Authorizer`] alone and a [`VerifiedCsr`] by parsing alone, so signing without
//! authorization or without proof of possession does not compile. Nothing here reads a clock, a file or the
//! environment; keys, serial numbers and ECDSA signatures draw on the system's random numbers.

pub mod admission;
pub mod bundle;
pub mod caller;
pub mod chain;
mod check;
pub mod csr;
mod der;
pub mod expiry;
pub mod fair;
pub mod grant;
pub mod impersonation;
pub mod issuer;
pub mod jwt;
pub mod key;
pub mod ledger;
mod moment;
pub mod oidc;
pub mod peer;
pub mod pem;
pub mod plugged;
pub mod pods;
pub mod profile;
pub mod public_key;
mod reissue;
pub mod review;
pub mod revocation;
pub mod rotation;
pub mod service_account;
pub mod signing_chain;
pub mod spiffe_bundle;
pub mod summary;
mod x509;

pub use bundle::TrustBundle;
pub use caller::{BoundObject, Caller, Proof, Represented};
pub use csr::{CsrError, VerifiedCsr};
pub use grant::{Authorizer, Grant, Lifetimes, Refusal};
pub use impersonation::{ImpersonationError, NodeAccounts};
pub use issuer::{IssueError, IssuedCertificate, Issuer, LoadError, LocalIssuer, NewRoot};
pub use jwt::{Jwt, KeySet, TokenKey, TokenVerifier, TrustedIssuer};
pub use key::{NewKey, PrivateKey};
pub use oidc::JobRules;
pub use plugged::PluggedCa;
pub use pods::{Pod, Pods, SharedPods};
pub use profile::ServingName;
pub use public_key::PublicKey;
pub use revocation::Revocations;
pub use service_account::ServiceAccount;
pub use spiffe_bundle::SpiffeBundle;
pub use summary::CertificateSummary;

#[cfg(test)]
mod tests;
