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
//!
//! | room | what lies there |
//! |---|---|
//! | `authn` | who a caller is |
//! | `issuing` | what the caller gets |
//! | `trust` | what peers trust |
//! | `names` | names of hosts in certificates |
//! | `x509` | certificates, requests and keys as bytes |
//! | [`ledger`] | what was issued and refused |
//! | `limits` | rates and queues |

mod authn;
mod issuing;
pub mod ledger;
mod limits;
mod names;
mod rfc3339;
mod trust;
mod x509;

pub use authn::{
    caller::{self, BoundObject, Caller, Proof, Represented},
    impersonation::{self, ImpersonationError, NodeAccounts},
    jwt::{self, Jwt, KeySet, TokenKey, TokenVerifier, TrustedIssuer},
    oidc::{self, JobRules},
    peer,
    pods::{self, Pod, Pods, SharedPods},
    review,
    service_account::{self, ServiceAccount},
};
pub use issuing::{
    chain,
    grant::{self, Authorizer, Grant, Lifetimes, Refusal},
    issuer::{self, IssueError, IssuedCertificate, Issuer, LoadError, LocalIssuer},
    needs::{self, Needs, NeedsError, ServingNames},
    new_root::{self, NewRoot},
    plugged::{self, PluggedCa},
};
pub use ledger::expiry;
pub use limits::{fair_queue, rate_limit};
pub use names::{AllowedNames, AllowedNamesError, ServingName, ServingNameError};
pub use trust::{
    bundle::{self, TrustBundle},
    ca_chain,
    revocation::{self, Revocations},
    rotation,
    spiffe_bundle::{self, SpiffeBundle},
    wall_clock,
};
pub use x509::{
    csr::{self, CsrError, VerifiedCsr},
    key::{self, NewKey, PrivateKey},
    name_constraints, network, pem,
    public_key::{self, PublicKey},
    summary::{self, CertificateSummary},
};

#[cfg(test)]
mod tests;
