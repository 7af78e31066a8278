//! Configuration of authentication.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use eastwest_ca::{NodeAccounts, Pod, Pods, ServiceAccount, SharedPods, pods::KnownAccount};
use eastwest_ca_server::{BoundPods, IssuerKeys, KeySource, Pace, ProofConfig, RulesFile, TOKEN_ISSUER};
use eastwest_cluster::TokenIssuer;
use eastwest_io::{HttpsClient, TrustedRoots};
use eastwest_kubernetes::{Api, ApiOptions, Facts, Key, Repeated, SERVICE_ACCOUNT};
use eastwest_model::{Workload, WorkloadKey};
use tokio::{sync::watch, time::sleep};

use super::startup::Startup;
use crate::query::World;

/// Service accounts of the control plane. Node proxies may not represent them unless other names are configured.
const OWN_ACCOUNTS: [&str; 2] = ["istiod", "eastwest"];

/// How long to wait before the API is asked again for its issuer.
const RETRY: Duration = Duration::from_secs(2);

/// The validated configuration of authentication in `serve` and `ca serve`.
pub(crate) struct ProvingConfig {
    pub(crate) tokens: TokenConfig,
    pub(crate) nodes: NodeConfig,
    /// The Kubernetes API, if it is asked about tokens.
    pub(crate) kubernetes: Option<KubernetesConfig>,
    /// Rules for jobs of CI systems.
    pub(crate) jobs: Option<JobConfig>,
}

/// The Kubernetes API that is asked about tokens.
pub(crate) struct KubernetesConfig {
    /// Where it is.
    pub(crate) api: ApiOptions,
    /// Whether it is asked about each token of an issuer whose keys are not known.
    pub(crate) review: bool,
}

/// Rules for jobs of CI systems.
pub(crate) struct JobConfig {
    /// Their file.
    pub(crate) rules: PathBuf,
    /// Roots of the issuers' servers.
    pub(crate) roots: TrustedRoots,
}

/// Which bearer tokens of service accounts are accepted.
pub(crate) struct TokenConfig {
    /// A token must be for one of these.
    pub(crate) audiences: Vec<String>,
    /// Whose tokens besides our own.
    pub(crate) issuer: Option<TokenIssuerConfig>,
    /// Whether tokens that are bound to an unknown pod are accepted.
    pub(crate) any_pod: bool,
}

/// A further issuer of service accounts' tokens.
pub(crate) struct TokenIssuerConfig {
    /// Its `iss`; `None` = that of the Kubernetes API's tokens.
    pub(crate) issuer: Option<String>,
    /// Where its keys are.
    pub(crate) keys: KeyPlace,
    /// Roots for the address.
    pub(crate) roots: TrustedRoots,
}

/// Where an issuer's keys are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeyPlace {
    /// Where its discovery document says.
    Discovery,
    /// At an address.
    Address(String),
    /// In a file.
    File(PathBuf),
    /// At the Kubernetes API, with our rights there.
    Kubernetes,
}

/// Configuration of node proxies.
pub(crate) struct NodeConfig {
    /// Their accounts.
    pub(crate) trusted: Vec<ServiceAccount>,
    /// Accounts that they may not represent; `None` = those of the control plane.
    pub(crate) protected: Option<Vec<ServiceAccount>>,
}

impl ProvingConfig {
    /// Opens what the configuration names; `pods` are those of the mesh, if there is one, and a request waits as long as
    /// `pod_patience` for the pod of its token to become known. Waits for the Kubernetes API if
    /// only that knows the issuer of its tokens.
    ///
    /// # Errors
    /// A file of keys or roots, or a kubeconfig, that cannot be used.
    pub(super) async fn open(
        &self,
        root_namespace: &str,
        pods: Option<SharedPods>,
        pod_patience: Duration,
        startup: &Startup,
    ) -> anyhow::Result<ProofConfig> {
        let api = match &self.kubernetes {
            Some(config) => Some(config.open().await?),
            None => None,
        };
        let issuer = match &self.tokens.issuer {
            Some(issuer) => Some(issuer.open(api.as_ref(), startup).await?),
            None => None,
        };
        let own =
            || OWN_ACCOUNTS.iter().filter_map(|name| ServiceAccount::new(root_namespace, name)).collect();
        let protected = self.nodes.protected.clone().unwrap_or_else(own);
        let jobs = self.jobs.as_ref().map(|jobs| {
            let client = HttpsClient::new(&jobs.roots).context("--oidc-ca")?;
            let mut taken = vec![TOKEN_ISSUER.to_owned()];
            taken.extend(issuer.iter().map(|keys| keys.issuer().to_owned()));
            RulesFile::open(jobs.rules.clone(), client, taken).context("--oidc-rules")
        });
        let bound = pods.clone().filter(|_| !self.tokens.any_pod);
        let review = api.filter(|_| self.kubernetes.as_ref().is_some_and(|config| config.review));
        Ok(ProofConfig {
            review: review.map(|api| Arc::new(api) as _),
            jobs: jobs.transpose()?,
            audiences: self.tokens.audiences.clone(),
            issuers: issuer.into_iter().collect(),
            bound_pods: bound.map(|pods| BoundPods { pods, patience: pod_patience }),
            pods,
            spent_tokens: None,
            node_accounts: NodeAccounts::new(self.nodes.trusted.clone(), protected),
        })
    }
}

impl KubernetesConfig {
    async fn open(&self) -> anyhow::Result<TokenIssuer> {
        let flag = if self.review { "--token-review" } else { "--token-jwks kubernetes" };
        let api = Api::find(&self.api).await;
        let api = api.with_context(|| format!("{flag}: name an API that can be used with --kubeconfig"))?;
        Ok(TokenIssuer::new(api))
    }
}

impl TokenIssuerConfig {
    /// Its keys; `api` is the Kubernetes API, if it was named.
    async fn open(&self, api: Option<&TokenIssuer>, startup: &Startup) -> anyhow::Result<Arc<IssuerKeys>> {
        let api = || api.context("--token-jwks kubernetes: there is no API");
        let issuer = match &self.issuer {
            Some(issuer) => issuer.clone(),
            None => issuer_of(api()?, startup).await,
        };
        let client = || HttpsClient::new(&self.roots).context("--token-jwks-ca");
        let source = match &self.keys {
            KeyPlace::File(file) => {
                let keys = IssuerKeys::in_file(issuer, file.clone());
                return keys.with_context(|| format!("--token-jwks {}", file.display()));
            }
            KeyPlace::Address(address) => KeySource::parse(address, &client()?).context("--token-jwks")?,
            KeyPlace::Discovery => KeySource::discovered(&issuer, &client()?).context("--token-issuer")?,
            KeyPlace::Kubernetes => KeySource::Kubernetes(Arc::new(api()?.clone())),
        };
        Ok(IssuerKeys::followed(issuer, source, Pace::ADDRESS))
    }
}

/// The issuer of the tokens of `api`, once it answers.
async fn issuer_of(api: &TokenIssuer, startup: &Startup) -> String {
    let warned = Repeated::default();
    loop {
        match api.issuer().await {
            Ok(issuer) => {
                tracing::info!(
                    issuer,
                    "tokens of this issuer are verified with the keys of the Kubernetes API"
                );
                return issuer;
            }
            Err(error) => {
                let problem = format!(
                    "the issuer of the cluster's tokens is not known: {error}; name it with --token-issuer"
                );
                if warned.is_due("issuer", Instant::now()) {
                    tracing::warn!("{problem}");
                }
                startup.waits(problem);
                sleep(RETRY).await;
            }
        }
    }
}

/// The pods of the current world, and in a cluster its service accounts.
pub(super) struct WatchedPods {
    pub(super) world: watch::Receiver<World>,
    pub(super) accounts: Option<Facts>,
}

impl Pods for WatchedPods {
    fn pod(&self, key: &WorkloadKey) -> Option<Pod> {
        self.world.borrow().snapshot.pod(key).map(|pod| facts(pod))
    }

    fn pods_of(&self, account: &ServiceAccount) -> Vec<Pod> {
        let world = self.world.borrow();
        world.snapshot.pods_of(account.namespace(), account.name()).map(|pod| facts(pod)).collect()
    }

    fn account(&self, account: &ServiceAccount) -> KnownAccount {
        let Some(facts) = &self.accounts else { return KnownAccount::Unfollowed };
        let key = Key { namespace: account.namespace().into(), name: account.name().into() };
        facts.read(|all| match all.of(&SERVICE_ACCOUNT) {
            None => KnownAccount::Unfollowed,
            Some(accounts) => match accounts.objects.get(&key) {
                Some(fact) => KnownAccount::Uid((*fact.uid).into()),
                None => KnownAccount::Absent,
            },
        })
    }
}

/// What the certificate authority looks at of a pod.
fn facts(pod: &Workload) -> Pod {
    Pod {
        key: pod.key(),
        service_account: pod.service_account.clone(),
        uid: pod.uid.clone(),
        node: pod.node.clone(),
        ended: pod.ended,
    }
}
