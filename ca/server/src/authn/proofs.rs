//! All methods of authentication.

use std::sync::Arc;

use eastwest_ca::{NodeAccounts, SharedPods, TrustedIssuer};
use eastwest_io::{SourceStatus, defects};
use tokio::task::JoinSet;

use super::{
    Authenticator, Method,
    binding::BoundPods,
    client_certificate::ClientCertificates,
    impersonation::Impersonation,
    keys::{IssuerKeys, Issuers},
    kubernetes::KubernetesApi,
    oidc::{JobTokens, RulesFile, SharedSpentTokens},
    review::ReviewedTokens,
    token::BearerTokens,
};
use crate::trust::ca_state::Current;

/// Configuration of authentication. Client certificates of our own CA are always accepted.
#[derive(Clone, Default)]
pub struct ProofConfig {
    /// A service account's token must be for one of these.
    pub audiences: Vec<String>,
    /// Issuers of service accounts' tokens besides our own token key.
    pub issuers: Vec<Arc<IssuerKeys>>,
    /// The pods that tokens are bound to; `None` accepts a token whatever became of its pod.
    pub bound_pods: Option<BoundPods>,
    /// The pods of the cluster, for proxies that speak for them; `None` where none are known.
    pub pods: Option<SharedPods>,
    /// Which service accounts may represent the pods on their node.
    pub node_accounts: NodeAccounts,
    /// The Kubernetes API, to be asked about tokens of other issuers.
    pub review: Option<Arc<dyn KubernetesApi>>,
    /// Rules for CI jobs.
    pub jobs: Option<Arc<RulesFile>>,
    /// What remembers used tokens of CI jobs for all replicas; without it, this process does.
    pub spent_tokens: Option<Arc<dyn SharedSpentTokens>>,
}

/// The methods, shared by all ports.
pub(crate) struct Proofs {
    cluster_id: String,
    current: Current,
    issuers: Arc<Issuers<Vec<String>>>,
    bound_pods: Option<BoundPods>,
    impersonation: Arc<Impersonation>,
    reviews: Option<Arc<ReviewedTokens>>,
    rules: Option<Arc<RulesFile>>,
    jobs: Option<Arc<JobTokens>>,
}

impl Proofs {
    pub(crate) fn new(
        config: ProofConfig,
        cluster_id: String,
        own_tokens: Option<TrustedIssuer>,
        current: Current,
    ) -> Self {
        let ProofConfig { audiences, issuers, bound_pods, pods, node_accounts, review, jobs, spent_tokens } =
            config;
        let own = own_tokens.map(|own| IssuerKeys::fixed(own.issuer, own.keys));
        let issuers: Vec<_> = issuers.into_iter().chain(own).collect();
        let local = issuers.iter().map(|keys| keys.issuer().to_owned()).collect();
        let reviews = review.map(|api| {
            let (current, audiences, jobs) = (current.clone(), audiences.clone(), jobs.clone());
            Arc::new(ReviewedTokens::new(current, api, audiences, local, jobs, bound_pods.clone()))
        });
        let issuers = issuers.into_iter().map(|keys| (keys, audiences.clone()));
        Self {
            cluster_id,
            issuers: Arc::new(Issuers::new(issuers)),
            reviews,
            jobs: jobs.clone().map(|rules| Arc::new(JobTokens::new(current.clone(), rules, spent_tokens))),
            rules: jobs,
            impersonation: Arc::new(Impersonation::new(current.clone(), node_accounts, pods)),
            current,
            bound_pods,
        }
    }

    /// For streams and JWT-SVIDs: client certificate, else the token of a service account.
    pub(crate) fn authenticator(&self) -> Arc<Authenticator> {
        let certificates = ClientCertificates::new(self.current.clone());
        Arc::new(Authenticator::new(self.cluster_id.clone(), self.methods(certificates)))
    }

    /// For certificate requests: also the tokens of CI jobs, each of which is accepted once.
    pub(crate) fn issuing_authenticator(&self) -> Arc<Authenticator> {
        let certificates = ClientCertificates::new(self.current.clone()).without_jobs(self.rules.clone());
        let mut methods = self.methods(certificates);
        methods.extend(self.jobs.clone().map(|jobs| jobs as Arc<dyn Method>));
        Arc::new(Authenticator::new(self.cluster_id.clone(), methods))
    }

    fn methods(&self, certificates: ClientCertificates) -> Vec<Arc<dyn Method>> {
        let (issuers, pods) = (Arc::clone(&self.issuers), self.bound_pods.clone());
        let tokens = BearerTokens::new(self.current.clone(), issuers, pods);
        let mut methods: Vec<Arc<dyn Method>> = vec![Arc::new(certificates), Arc::new(tokens)];
        methods.extend(self.reviews.clone().map(|reviews| reviews as Arc<dyn Method>));
        methods
    }

    /// Which workloads a caller may represent.
    pub(crate) fn impersonation(&self) -> Arc<Impersonation> {
        Arc::clone(&self.impersonation)
    }

    /// The sources of keys and rules with their problems.
    pub(crate) fn followed(&self) -> Vec<Arc<SourceStatus>> {
        let keys = self.issuers.keys().filter_map(|keys| keys.origin());
        keys.chain(self.rules.iter().flat_map(|rules| rules.followed())).collect()
    }

    /// Keeps the keys up to date; never returns.
    pub(crate) async fn follow(&self) {
        let mut followed: JoinSet<()> = self.issuers.keys().map(|keys| Arc::clone(keys).follow()).collect();
        if let Some(rules) = &self.rules {
            followed.spawn(Arc::clone(rules).follow());
        }
        followed.spawn(std::future::pending());
        while let Some(ended) = followed.join_next().await {
            if ended.is_err_and(|ended| ended.is_panic()) {
                defects::end("the task that follows keys or rules");
            }
        }
    }
}
