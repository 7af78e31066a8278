//! All methods of proof, put together.

use std::sync::Arc;

use eastwest_ca::{NodeAccounts, TrustedIssuer};
use tokio::task::JoinSet;

use super::{
    Authenticator, FirstOf,
    client_certificate::ClientCertificates,
    impersonation::Impersonation,
    keys::{IssuerKeys, Issuers},
    token::{BearerTokens, SharedPods},
};
use crate::snapshot::Current;

/// How peers may prove who they are, besides the certificates that we issued.
#[derive(Clone, Default)]
pub struct ProofConfig {
    /// A service account's token must be for one of these.
    pub audiences: Vec<String>,
    /// Issuers of service accounts' tokens besides our own token key.
    pub issuers: Vec<Arc<IssuerKeys>>,
    /// The pods that tokens are bound to; `None` accepts a token whatever became of its pod.
    pub bound_pods: Option<SharedPods>,
    /// The pods of the cluster, for proxies that speak for them; `None` where none are known.
    pub pods: Option<SharedPods>,
    /// Who may speak for the pods of its node.
    pub node_accounts: NodeAccounts,
}

/// The methods, shared by all ports.
pub(crate) struct Proofs {
    cluster_id: String,
    current: Current,
    issuers: Arc<Issuers<Vec<String>>>,
    bound_pods: Option<SharedPods>,
    impersonation: Arc<Impersonation>,
}

impl Proofs {
    pub(crate) fn new(
        config: ProofConfig,
        cluster_id: String,
        own_tokens: Option<TrustedIssuer>,
        current: Current,
    ) -> Self {
        let ProofConfig { audiences, issuers, bound_pods, pods, node_accounts } = config;
        let own = own_tokens.map(|own| IssuerKeys::fixed(own.issuer, own.keys));
        let issuers = issuers.into_iter().chain(own).map(|keys| (keys, audiences.clone()));
        Self {
            cluster_id,
            issuers: Arc::new(Issuers::new(issuers)),
            impersonation: Arc::new(Impersonation::new(current.clone(), node_accounts, pods)),
            current,
            bound_pods,
        }
    }

    /// Who a peer is: by its client certificate, else by its bearer token.
    pub(crate) fn authenticator(&self) -> Arc<dyn Authenticator> {
        let (current, pods) = (self.current.clone(), self.bound_pods.clone());
        let methods: Vec<Arc<dyn Authenticator>> = vec![
            Arc::new(ClientCertificates::new(current.clone())),
            Arc::new(BearerTokens::new(current, Arc::clone(&self.issuers), pods)),
        ];
        Arc::new(FirstOf::new(self.cluster_id.clone(), methods))
    }

    /// For whom it may speak.
    pub(crate) fn impersonation(&self) -> Arc<Impersonation> {
        Arc::clone(&self.impersonation)
    }

    /// Keeps keys fresh, for ever.
    pub(crate) async fn follow(&self) {
        let mut followed: JoinSet<()> = self.issuers.keys().map(|keys| Arc::clone(keys).follow()).collect();
        followed.spawn(std::future::pending());
        while followed.join_next().await.is_some() {}
    }
}
