//! Who a caller is: client certificates, bearer tokens, and the pods they are bound to.

pub mod caller;
pub mod impersonation;
pub mod jwt;
pub mod oidc;
pub mod peer;
pub mod pods;
pub mod review;
pub mod service_account;
