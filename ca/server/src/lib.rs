//! The certificate authority on the wire: gRPC, proofs of identity, key store, serving certificate.
//!
//! | module | what it does |
//! |---|---|
//! | [`authn`] | who a peer is: client certificate first, then bearer token |
//! | `issuing` | the running CA, `istio.v1.auth.IstioCertificateService`, limits and status codes |
//! | `trust` | signer and roots: in a state directory or another storage, provided by others, and in force |
//! | [`roots`] | where signer and roots come from, followed while everything runs |
//! | [`bundles`] | trust bundles for other domains, for agents, and from other domains |
//! | [`ledger`] | what was issued and refused, on disk before the answer leaves |
//! | [`tls`] | the TLS configuration of the gRPC port |
//! | `metrics`, [`scrape`] | counters and gauges |
//! | [`operations`] | what the command line does with a state directory |
//!
//! What may be decided without a clock, a file or a socket is decided in `eastwest-ca`. Ports, files and the HTTPS client
//! are those of `eastwest-io`.

pub mod authn;
pub mod bundles;
mod issuing;
pub mod ledger;
mod metrics;
pub mod operations;
pub mod roots;
pub mod scrape;
pub mod tls;
mod trust;

pub use authn::{
    AuthnError, Credentials,
    binding::BoundPods,
    keys::{IssuerKeys, KeySource, Pace},
    kubernetes::{KubernetesApi, KubernetesApiError},
    oidc::{RulesError, RulesFile, SharedSpentTokens},
    peer_authenticator::{CredentialValidity, PeerAuthenticator},
    proofs::ProofConfig,
};
pub use bundles::OwnBundle;
pub use issuing::{
    certificate_authority::{CertificateAuthority, CertificateAuthorityConfig, Replaced, StartError},
    limits::{self, Limits},
    readiness::Inability,
    service::{self, RefusedRequest},
    status,
};
pub use ledger::{LedgerConfig, LedgerError};
pub use roots::{PluggedSecret, PluggedSource, RootManager, RootsConfig, RootsError};
pub use tls::server_config;
pub use trust::{
    key_material::KeyMaterial,
    latest_expiry::LatestExpiry,
    provided_root::ProvidedRootError,
    root_files,
    root_status::{self, RootStatus},
    serving_certificate::default_serving_names,
    state_dir::{self, StateDir, StateLock, TOKEN_ISSUER},
    state_error::{Place, StateError},
    storage, test_root,
};
