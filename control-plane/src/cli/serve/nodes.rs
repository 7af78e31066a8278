//! Which proxies may ask for the identities of the pods on their nodes.

use clap::Args;
use eastwest_ca::ServiceAccount;

use super::istiod;
use crate::{config::Problems, serve::NodeConfig};

/// istiod's variable for the trusted accounts, separated by commas. Our flag takes precedence.
const ISTIOD_TRUSTED: &str = "CA_TRUSTED_NODE_ACCOUNTS";

/// Flags of proxies that serve all pods of their node.
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// A service account whose pods may request certificates for other pods on the same node, for example
    /// istio-system/ztunnel (repeatable) [default: CA_TRUSTED_NODE_ACCOUNTS, else none].
    #[arg(long, value_name = "NS/SA", value_delimiter = ',', env = "EASTWEST_TRUSTED_NODE_ACCOUNT")]
    trusted_node_account: Vec<String>,
    /// A service account for which they may never request certificates (repeatable) [default: istiod and eastwest in the
    /// root namespace].
    #[arg(long, value_name = "NS/SA", value_delimiter = ',', env = "EASTWEST_PROTECTED_ACCOUNT")]
    protected_account: Vec<String>,
}

impl NodeArgs {
    /// Reads the flags.
    pub(super) fn read(self, problems: &mut Problems) -> NodeConfig {
        let trusted = match &self.trusted_node_account[..] {
            [] => {
                let text = istiod::text(ISTIOD_TRUSTED).unwrap_or_default();
                let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
                accounts(problems, ISTIOD_TRUSTED, &names)
            }
            names => accounts(problems, "--trusted-node-account", names),
        };
        let protected = accounts(problems, "--protected-account", &self.protected_account);
        NodeConfig { trusted, protected: Some(protected).filter(|list| !list.is_empty()) }
    }
}

fn accounts(problems: &mut Problems, flag: &str, names: &[String]) -> Vec<ServiceAccount> {
    let names = names.iter().filter(|name| !name.is_empty());
    names.filter_map(|name| problems.take(flag, name.parse())).collect()
}
