//! Which proxies may ask for the identities of the pods on their nodes.

use clap::Args;
use eastwest_ca::ServiceAccount;

use super::istiod;
use crate::{config::Problems, serve::NodeConfig};

/// istiod's name for the trusted accounts, commas between them; our flag goes before it.
const ISTIOD_TRUSTED: &str = "CA_TRUSTED_NODE_ACCOUNTS";

/// Flags of proxies that serve a whole node.
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// A service account whose pods get certificates for the other pods of their nodes, for example
    /// istio-system/ztunnel (repeatable) [default: CA_TRUSTED_NODE_ACCOUNTS, else none].
    #[arg(long, value_name = "NS/SA", value_delimiter = ',', env = "EASTWEST_TRUSTED_NODE_ACCOUNT")]
    trusted_node_account: Vec<String>,
    /// A service account whose identity they never get (repeatable) [default: istiod and eastwest of the root namespace].
    #[arg(long, value_name = "NS/SA", value_delimiter = ',', env = "EASTWEST_PROTECTED_ACCOUNT")]
    protected_account: Vec<String>,
}

impl NodeArgs {
    /// Reads them.
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
