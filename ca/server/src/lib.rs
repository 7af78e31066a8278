//! The certificate authority on the wire: gRPC, proofs of identity, key store, serving certificate.
//!
//! | module | what it does |
//! |---|---|
//! | [`state_dir`] | keys and certificates in a directory that only we may read |
//! | [`given`], [`test_root`] | keys and certificates that were given; the one that everybody has |
//! | `snapshot` | what one request is judged by: signer, roots and our own serving certificate |
//! | [`roots`], [`root_status`] | where signer and roots come from, followed while everything runs |
//! | [`followed`] | sources that are read again and again, and what is wrong with them |
//! | [`horizon`] | until when the certificates live that were issued |
//! | [`authority`] | puts the parts together and changes the snapshot |
//! | [`authn`] | who a peer is: client certificate first, then bearer token |
//! | [`service`] | `istio.v1.auth.IstioCertificateService`, with its [`status`] codes and [`metrics`] |
//! | [`limits`], `signers` | who may ask how often, and the threads that sign, fairly |
//! | [`https`] | what is fetched from others: key sets, TokenReviews, bundles |
//! | [`ledger`] | what was issued and refused, on disk before the answer leaves |
//! | [`tls`], [`incoming`], `corked`, [`shown`], [`hang_up`], [`transport`] | the ports: TLS with optional client certificates, or plaintext; their limits |
//! | [`operations`] | what the command line does with a state directory |
//!
//! What may be decided without a clock, a file or a socket is decided in `eastwest-ca`.

pub mod authn;
pub mod authority;
pub mod bundles;
mod corked;
mod files;
pub mod followed;
pub mod given;
pub mod hang_up;
pub mod horizon;
pub mod https;
pub mod incoming;
pub mod ledger;
pub mod limits;
pub mod metrics;
pub mod operations;
pub mod root_status;
pub mod roots;
pub mod service;
pub mod serving;
pub mod shown;
mod signers;
mod snapshot;
pub mod state_dir;
pub mod status;
pub mod test_root;
pub mod tls;
pub mod transport;

pub use authn::{
    Authenticator, AuthnError, Credentials,
    keys::{IssuerKeys, KeySource, Pace},
    kubernetes::{KubernetesApi, KubernetesApiError},
    oidc::{RulesError, RulesFile},
    proofs::ProofConfig,
    standing::{Doorkeeper, Standing},
};
pub use authority::{CaConfig, CertificateAuthority, Replaced, StartError};
pub use bundles::OwnBundle;
pub use followed::{Followed, SourceProblem};
pub use given::GivenRootError;
pub use hang_up::HangUp;
pub use horizon::Horizon;
pub use https::{FetchError, HttpsClient, TrustedRoots, check_address};
pub use incoming::{Connection, Incoming, PeerConnection};
pub use ledger::{LedgerConfig, LedgerError};
pub use limits::Limits;
pub use metrics::{Family, Sample};
pub use root_status::RootStatus;
pub use roots::{Keeper, RootsConfig, RootsError};
pub use serving::default_serving_names;
pub use shown::Shown;
pub use state_dir::{KeyMaterial, StateDir, StateError, StateLock, TOKEN_ISSUER};
pub use tls::server_config;
pub use transport::grpc_server;
