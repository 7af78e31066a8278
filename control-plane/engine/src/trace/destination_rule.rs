//! Why a DestinationRule applies to a host, or does not (POLICY.md D1 to D9, O1).

use std::fmt;

use eastwest_model::{Host, Name, ObjectRef};

use super::{Decision, StepOutcome};

/// What became of a DestinationRule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are documented, their fields are named for what they are")]
pub enum DestinationRuleReason {
    /// D1: its host is partial, and a host with a dot is taken literally.
    PartialHost,
    /// O1: its host is an ExternalName alias.
    AliasHost,
    /// D2: the rules for a more specific host of the same namespace apply.
    LessSpecific { host: Host, pattern: Host, winner: ObjectRef },
    /// D3: it applies. `at_client`: its namespace is the client's; `selects`: by its workloadSelector.
    Applies { host: Host, namespace: Name, at_client: bool, selects: bool },
    /// D3: the search ended in a namespace that comes first.
    NotReached { end: Name, winner: ObjectRef },
    /// D4: clients in the root namespace look at its private rules first.
    PrivateFirst { winner: ObjectRef },
    /// D5: its exportTo does not reach the namespace of the client.
    NotExported { client: Name },
    /// D5: the client cannot see the rules for the most specific host of the namespace.
    Shadowed { pattern: Host, winner: ObjectRef },
    /// D6: its workloadSelector makes it private to its namespace.
    Private { namespace: Name },
    /// D6: its workloadSelector does not match the client.
    SelectsOthers,
    /// D6: its workloadSelector does not match the client, or a rule that comes first matches too.
    SelectsOthersOrComesLater { winner: ObjectRef },
    /// D6: a rule with a workloadSelector matches the client.
    SelectedInstead { winner: ObjectRef },
    /// D7: rules that select other workloads end the search for the host.
    HiddenBySelecting { pattern: Host, winner: ObjectRef },
    /// D8: a subset of that name is in an older rule.
    SubsetDropped { subset: Name, winner: ObjectRef },
    /// D8: it is merged into an older rule, and the traffic policy of another one holds.
    PolicyIgnored { base: ObjectRef, winner: ObjectRef },
    /// D8: it is merged into an older rule.
    Merged { base: ObjectRef },
    /// D8: it is merged into an older rule, which has all that it says.
    AddsNothing { base: ObjectRef },
    /// D9: of rules with different exportTo the youngest is used.
    OtherExport { winner: ObjectRef },
}

impl Decision for DestinationRuleReason {
    fn rule(&self) -> &'static str {
        match self {
            Self::PartialHost => "D1",
            Self::AliasHost => "O1",
            Self::LessSpecific { .. } => "D2",
            Self::Applies { .. } | Self::NotReached { .. } => "D3",
            Self::PrivateFirst { .. } => "D4",
            Self::NotExported { .. } | Self::Shadowed { .. } => "D5",
            Self::Private { .. }
            | Self::SelectsOthers
            | Self::SelectsOthersOrComesLater { .. }
            | Self::SelectedInstead { .. } => "D6",
            Self::HiddenBySelecting { .. } => "D7",
            Self::SubsetDropped { .. }
            | Self::PolicyIgnored { .. }
            | Self::Merged { .. }
            | Self::AddsNothing { .. } => "D8",
            Self::OtherExport { .. } => "D9",
        }
    }

    fn outcome(&self) -> StepOutcome {
        match self {
            Self::Applies { .. } | Self::Merged { .. } => StepOutcome::Inherited,
            _ => StepOutcome::Lost,
        }
    }

    fn winner(&self) -> Option<&ObjectRef> {
        match self {
            Self::LessSpecific { winner, .. }
            | Self::NotReached { winner, .. }
            | Self::PrivateFirst { winner }
            | Self::Shadowed { winner, .. }
            | Self::SelectsOthersOrComesLater { winner }
            | Self::SelectedInstead { winner }
            | Self::HiddenBySelecting { winner, .. }
            | Self::SubsetDropped { winner, .. }
            | Self::PolicyIgnored { winner, .. }
            | Self::OtherExport { winner } => Some(winner),
            Self::AddsNothing { base } => Some(base),
            Self::PartialHost
            | Self::AliasHost
            | Self::Applies { .. }
            | Self::NotExported { .. }
            | Self::Private { .. }
            | Self::SelectsOthers
            | Self::Merged { .. } => None,
        }
    }
}

impl fmt::Display for DestinationRuleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartialHost => f.write_str(
                "a host with a dot is taken literally, and this one names no service: write the full name",
            ),
            Self::AliasHost => f.write_str(
                "its host is an ExternalName alias, which has no cluster of its own: rules must name the target",
            ),
            Self::LessSpecific { host, pattern, .. } => write!(f, "{pattern} is more specific than {host}"),
            Self::Applies { host, namespace, at_client, selects } => {
                let whose = if *at_client { "the client's" } else { "the first matching" };
                let selected = if *selects { ", and it selects the client" } else { "" };
                write!(f, "{host} is the most specific host in {whose} namespace {namespace}{selected}")
            }
            Self::NotReached { end, .. } => {
                write!(f, "the search ended in namespace {end} before it came here")
            }
            Self::PrivateFirst { .. } => {
                f.write_str("for clients in the root namespace its private rules come first")
            }
            Self::NotExported { client } => write!(f, "its exportTo does not reach namespace {client}"),
            Self::Shadowed { pattern, .. } => {
                write!(f, "shadowed by the more specific {pattern}, which this client cannot see")
            }
            Self::Private { namespace } => {
                write!(f, "its workloadSelector makes it private to namespace {namespace}")
            }
            Self::SelectsOthers => f.write_str("it selects other workloads"),
            Self::SelectsOthersOrComesLater { winner } => {
                write!(f, "it selects other workloads, or the older {winner} selects this one too")
            }
            Self::SelectedInstead { winner } => write!(f, "{winner} selects the client"),
            Self::HiddenBySelecting { pattern, winner } => write!(
                f,
                "hidden by {winner}, which selects other workloads and yet ends the search for {pattern}"
            ),
            Self::SubsetDropped { subset, winner } => {
                write!(f, "its subset {subset} is dropped: {winner} has one of that name")
            }
            Self::PolicyIgnored { base, winner } => write!(
                f,
                "its trafficPolicy is ignored whole: merged into the older {base}, {winner} has one"
            ),
            Self::Merged { base } => write!(f, "merged into the older {base}"),
            Self::AddsNothing { base } => {
                write!(f, "merged into the older {base}, to which it adds nothing")
            }
            Self::OtherExport { winner } => write!(
                f,
                "its exportTo differs from that of {winner}, and of such rules the youngest is used"
            ),
        }
    }
}
