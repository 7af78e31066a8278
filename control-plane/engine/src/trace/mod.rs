//! How a setting was decided: every candidate in the order it was looked at, the winner, and why the others lost.
//!
//! The selection in [`compute`](crate::compute) emits its reasons as values ([`Reason`]) that refer to the objects
//! concerned. A reason becomes text only when a step is printed.

mod client_tls;
mod credential;
mod destination_rule;
mod host;
mod peer_authentication;

use std::{fmt, sync::Arc};

use eastwest_model::{Meta, ObjectRef, Origin};
use serde::{Serialize, Serializer, ser::SerializeStruct};

pub use client_tls::ClientTlsReason;
pub use credential::{CredentialPart, CredentialProblem, CredentialReason};
pub use destination_rule::DestinationRuleReason;
pub use host::HostReason;
pub use peer_authentication::{Level, PeerAuthenticationReason};

/// How one setting was decided. Equal traces belong to equal decisions, so a trace is part of the settings.
///
/// Settings of one host, or of one workload, share the steps that they have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace([Arc<[Step]>; 2]);

impl Trace {
    /// The steps of `first`, then those of `rest`.
    pub(crate) fn new(first: Arc<[Step]>, rest: Arc<[Step]>) -> Self {
        Self([first, rest])
    }

    /// What was looked at, in order.
    pub fn steps(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.0.iter().flat_map(|part| part.iter())
    }
}

/// One candidate, or one inference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The object looked at; `None` for a default, mesh configuration or an inference.
    pub object: Option<ObjectRef>,
    /// Where it was read.
    pub origin: Option<Origin>,
    /// What became of it, and why.
    pub reason: Reason,
}

impl Step {
    /// What became of an object.
    pub(crate) fn of(meta: &Meta, reason: impl Into<Reason>) -> Self {
        let (object, origin) = (Some(meta.object.clone()), Some(meta.origin.clone()));
        Self { object, origin, reason: reason.into() }
    }

    /// A default, the mesh's configuration or an inference that decided.
    pub(crate) fn inferred(reason: impl Into<Reason>) -> Self {
        Self { object: None, origin: None, reason: reason.into() }
    }

    /// What became of the object.
    pub fn outcome(&self) -> StepOutcome {
        self.reason.decision().outcome()
    }

    /// The rule that decided, by its number in docs/POLICY.md, e.g. `P4`.
    pub fn rule(&self) -> &'static str {
        self.reason.decision().rule()
    }

    /// The object that won instead, where one did.
    pub fn beaten_by(&self) -> Option<&ObjectRef> {
        self.reason.decision().winner()
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let winner = self.beaten_by();
        let mut step = serializer.serialize_struct("Step", 5 + usize::from(winner.is_some()))?;
        step.serialize_field("object", &self.object)?;
        step.serialize_field("origin", &self.origin)?;
        step.serialize_field("outcome", &self.outcome())?;
        step.serialize_field("rule", self.rule())?;
        step.serialize_field("reason", &self.reason)?;
        match winner {
            Some(winner) => step.serialize_field("beaten_by", winner)?,
            None => step.skip_field("beaten_by")?,
        }
        step.end()
    }
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepOutcome {
    /// It decided the setting.
    Won,
    /// It took part, and a more specific one or an inference changed the result further.
    Inherited,
    /// It lost.
    Lost,
}

/// Why a candidate won, took part or lost, by the concern that decided. As text: the reason for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The mode of a server.
    PeerAuthentication(PeerAuthenticationReason),
    /// The owner of a host.
    Host(HostReason),
    /// The DestinationRule of a host.
    DestinationRule(DestinationRuleReason),
    /// The TLS setting of a cluster.
    ClientTls(ClientTlsReason),
    /// A credential that a setting names.
    Credential(CredentialReason),
}

/// What a reason tells besides its text.
trait Decision: fmt::Display {
    /// The rule that decided, by its number in docs/POLICY.md.
    fn rule(&self) -> &'static str;

    /// What became of the candidate.
    fn outcome(&self) -> StepOutcome;

    /// The object that won instead, where one did.
    fn winner(&self) -> Option<&ObjectRef>;
}

impl Reason {
    fn decision(&self) -> &dyn Decision {
        match self {
            Self::PeerAuthentication(reason) => reason,
            Self::Host(reason) => reason,
            Self::DestinationRule(reason) => reason,
            Self::ClientTls(reason) => reason,
            Self::Credential(reason) => reason,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.decision().fmt(f)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

macro_rules! reasons {
    ($($reason:ident($of:ty)),*) => {$(
        impl From<$of> for Reason {
            fn from(reason: $of) -> Self {
                Self::$reason(reason)
            }
        }
    )*};
}

reasons!(
    PeerAuthentication(PeerAuthenticationReason),
    Host(HostReason),
    DestinationRule(DestinationRuleReason),
    ClientTls(ClientTlsReason),
    Credential(CredentialReason)
);
