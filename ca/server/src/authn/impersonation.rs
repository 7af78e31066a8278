//! A node's proxy asking for the identity of one of its pods, by the metadata of its request (CA.md C18).

use eastwest_ca::{Caller, ImpersonationError, NodeAccounts, SharedPods};
use prost_types::{Struct, value::Kind};

use crate::trust::ca_state::Current;

/// The key of the metadata.
const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";

/// Decides for whom an authenticated caller speaks.
pub struct Impersonation {
    current: Current,
    accounts: NodeAccounts,
    pods: Option<SharedPods>,
}

impl Impersonation {
    /// Lets `accounts` speak for the pods beside them, as far as `pods` are known.
    pub(super) fn new(current: Current, accounts: NodeAccounts, pods: Option<SharedPods>) -> Self {
        Self { current, accounts, pods }
    }

    /// The caller, speaking for whom the request names, or for itself if it names nobody.
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
