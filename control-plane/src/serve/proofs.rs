//! Configuration of authentication.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use eastwest_ca::{NodeAccounts, Pod, Pods, ServiceAccount, SharedPods};
use eastwest_ca_server::{IssuerKeys, KeySource, KubernetesApi, Pace, ProofConfig, RulesFile, TOKEN_ISSUER};
use eastwest_io::{HttpsClient, TrustedRoots};
use eastwest_model::{Workload, WorkloadKey};
use tokio::sync::watch;

use crate::query::World;

/// Service accounts of the control plane. Node proxies may not represent them unless other names are configured.
const OWN_ACCOUNTS: [&str; 2] = ["istiod", "eastwest"];

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
    /// The file that says where it is; else what a pod is given says so.
    pub(crate) kubeconfig: Option<PathBuf>,
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
    /// Its `iss`.
    pub(crate) issuer: String,
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
    /// Opens what the configuration names; `pods` are those of the mesh, if there is one.
    ///
    /// # Errors
    /// A file of keys or roots that cannot be used.
    pub(super) fn open(&self, root_namespace: &str, pods: Option<SharedPods>) -> anyhow::Result<ProofConfig> {
        let api = self.kubernetes.as_ref().map(KubernetesConfig::open).transpose()?;
        let issuer = self.tokens.issuer.as_ref().map(|issuer| issuer.open(api.as_ref())).transpose()?;
        let own =
            || OWN_ACCOUNTS.iter().filter_map(|name| ServiceAccount::new(root_namespace, name)).collect();
        let protected = self.nodes.protected.clone().unwrap_or_else(own);
        let jobs = self.jobs.as_ref().map(|jobs| {
            let client = HttpsClient::new(&jobs.roots).context("--oidc-ca")?;
            let mut taken = vec![TOKEN_ISSUER.to_owned()];
            taken.extend(self.tokens.issuer.iter().map(|one| one.issuer.clone()));
            RulesFile::open(jobs.rules.clone(), client, taken).context("--oidc-rules")
        });
        Ok(ProofConfig {
            review: api.filter(|_| self.kubernetes.as_ref().is_some_and(|config| config.review)),
            jobs: jobs.transpose()?,
            audiences: self.tokens.audiences.clone(),
            issuers: issuer.into_iter().collect(),
            bound_pods: pods.clone().filter(|_| !self.tokens.any_pod),
            pods,
            node_accounts: NodeAccounts::new(self.nodes.trusted.clone(), protected),
        })
    }
}

impl KubernetesConfig {
    fn open(&self) -> anyhow::Result<Arc<KubernetesApi>> {
        let flag = if self.review { "--token-review" } else { "--token-jwks kubernetes" };
        let api = match &self.kubeconfig {
            Some(path) => KubernetesApi::of_kubeconfig(path).context("--kubeconfig"),
            None => KubernetesApi::in_cluster().context(flag),
        };
        api.map(Arc::new)
    }
}

impl TokenIssuerConfig {
    /// Its keys; `api` is the Kubernetes API, if it was named.
    fn open(&self, api: Option<&Arc<KubernetesApi>>) -> anyhow::Result<Arc<IssuerKeys>> {
        let issuer = self.issuer.clone();
        let client = || HttpsClient::new(&self.roots).context("--token-jwks-ca");
        let source = match &self.keys {
            KeyPlace::File(file) => {
                let keys = IssuerKeys::in_file(issuer, file.clone());
                return keys.with_context(|| format!("--token-jwks {}", file.display()));
            }
            KeyPlace::Address(address) => KeySource::parse(address, &client()?).context("--token-jwks")?,
            KeyPlace::Discovery => KeySource::discovered(&issuer, &client()?).context("--token-issuer")?,
            KeyPlace::Kubernetes => {
                KeySource::Kubernetes(Arc::clone(api.context("--token-jwks kubernetes: there is no API")?))
            }
        };
        Ok(IssuerKeys::followed(issuer, source, Pace::ADDRESS))
    }
}

/// The pods of the current world.
pub(super) struct WatchedPods(pub(super) watch::Receiver<World>);

impl Pods for WatchedPods {
    fn pod(&self, key: &WorkloadKey) -> Option<Pod> {
        self.0.borrow().snapshot.pod(key).map(|pod| facts(pod))
    }

    fn pods_of(&self, account: &ServiceAccount) -> Vec<Pod> {
        let world = self.0.borrow();
        world.snapshot.pods_of(account.namespace(), account.name()).map(|pod| facts(pod)).collect()
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
