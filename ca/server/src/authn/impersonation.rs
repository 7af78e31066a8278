//! Impersonation: a node proxy requests a certificate for a pod on its node, named in its metadata (CA.md C18).

use eastwest_ca::{Caller, ImpersonationError, NodeAccounts, SharedPods};
use prost_types::{Struct, value::Kind};

use crate::trust::ca_state::Current;

/// The key of the metadata.
const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";

/// Decides which workload an authenticated caller represents.
pub struct Impersonation {
    current: Current,
    accounts: NodeAccounts,
    pods: Option<SharedPods>,
}

impl Impersonation {
    /// Allows `accounts` to represent the `pods` on their node.
    pub(super) fn new(current: Current, accounts: NodeAccounts, pods: Option<SharedPods>) -> Self {
        Self { current, accounts, pods }
    }

    /// The caller, representing the workload that the request names, if it names one.
    ///
    /// # Errors
    /// See [`ImpersonationError`].
    pub(crate) fn speak(
        &self,
        caller: Caller,
        metadata: Option<&Struct>,
    ) -> Result<Caller, ImpersonationError> {
        let Some(asked) = asked_for(metadata)? else { return Ok(caller) };
        let pods = self.pods.as_deref().ok_or(ImpersonationError::NoPods)?;
        self.accounts.represent(caller, asked, &self.current.load().trust_domain, pods)
    }
}

/// The identity that the request names; a missing or empty one is none.
fn asked_for(metadata: Option<&Struct>) -> Result<Option<&str>, ImpersonationError> {
    let value = metadata.and_then(|metadata| metadata.fields.get(IMPERSONATED_IDENTITY));
    match value.and_then(|value| value.kind.as_ref()) {
        None | Some(Kind::NullValue(_)) => Ok(None),
        Some(Kind::StringValue(identity)) => Ok(Some(identity.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(ImpersonationError::NotText),
    }
}
