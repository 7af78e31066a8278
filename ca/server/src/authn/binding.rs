//! The pods that tokens are bound to.

use std::time::Duration;

use eastwest_ca::{
    Caller, ServiceAccount, SharedPods,
    pods::{self, BindingError},
};
use tokio::time::{Instant, sleep};

use super::AuthnError;

/// How often a pod that is not known yet is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// The pods that tokens must be bound to.
#[derive(Clone)]
pub struct BoundPods {
    /// The pods of the cluster.
    pub pods: SharedPods,
    /// How long a request waits for a pod that is not known yet. A pod may use its token before the watch of Pods has
    /// told of it, and clients do not try again after a refusal (CA.md C29).
    pub patience: Duration,
}

impl BoundPods {
    /// A token is refused when its service account or the pod that it is bound to is gone (CA.md C16).
    ///
    /// # Errors
    /// The account or the pod is not the one that the token was made for.
    pub(super) async fn check(&self, caller: &Caller) -> Result<(), AuthnError> {
        let Some(account) = ServiceAccount::of(&caller.identity) else { return Ok(()) };
        let deadline = Instant::now() + self.patience;
        loop {
            match self.look(caller, &account) {
                Ok(()) => return Ok(()),
                Err(error) if error.may_pass() && Instant::now() < deadline => sleep(LOOK).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn look(&self, caller: &Caller, account: &ServiceAccount) -> Result<(), BindingError> {
        if let Some(bound) = caller.proof.account() {
            pods::check_account(&*self.pods, account, bound)?;
        }
        if let Some(bound) = caller.proof.pod() {
            pods::bound_pod(&*self.pods, account, bound, caller.proof.node())?;
        }
        Ok(())
    }
}
