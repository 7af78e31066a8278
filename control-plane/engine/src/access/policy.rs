//! A policy in the terms of a proxy.

use std::sync::Arc;

use eastwest_model::{
    Name, ObjectRef,
    mesh::{Authorizer, AuthorizerProtocol},
    policy::{Attribute, AuthorizationAction},
};
use ipnet::IpNet;

use super::text::Text;

/// A policy that applies to a workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Which one.
    pub object: ObjectRef,
    /// What it does.
    pub action: AuthorizationAction,
    /// It is only observed.
    pub dry_run: bool,
    /// Who is asked, of a CUSTOM policy.
    pub provider: Option<Provider>,
    /// Its rules by their number in the object, in the order in which a proxy finds them (Z13).
    pub rules: Vec<(usize, Rule)>,
}

/// The external authorizer that a CUSTOM policy names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Provider {
    /// It is asked.
    Known(Arc<Authorizer>),
    /// It cannot be: everything that the policy matches is denied.
    Broken { name: Name, why: Name },
}

impl Policy {
    /// What names a rule in Envoy's logs, metrics and metadata.
    pub fn rule_name(&self, rule: usize) -> String {
        format!("ns[{}]-policy[{}]-rule[{rule}]", self.object.namespace, self.object.name)
    }

    /// Whether its authorizer is asked about HTTP alone (Z11).
    pub fn is_for_http_alone(&self) -> bool {
        matches!(&self.provider, Some(Provider::Known(one)) if one.protocol == AuthorizerProtocol::Http)
    }

    /// The rules as they hold for bytes (Z40, Z41).
    pub fn rules_for_bytes(&self) -> Vec<(usize, Rule)> {
        let is_allow = self.action == AuthorizationAction::Allow;
        let kept = self.rules.iter().filter(|(_, rule)| !is_allow || rule.first_http_only().is_none());
        kept.map(|(number, rule)| (*number, rule.for_bytes())).collect()
    }
}

/// A rule: some source, some operation and all conditions; no source at all is any, and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Rule {
    pub sources: Vec<Vec<Requirement>>,
    pub operations: Vec<Vec<Requirement>>,
    pub conditions: Vec<Requirement>,
}

impl Rule {
    /// Its first requirement that only HTTP meets.
    pub fn first_http_only(&self) -> Option<&Requirement> {
        let all =
            self.sources.iter().flatten().chain(self.operations.iter().flatten()).chain(&self.conditions);
        all.into_iter().find(|one| one.attribute.is_http_only())
    }

    /// The same without what only HTTP has. A source or an operation that loses everything is any.
    fn for_bytes(&self) -> Self {
        let kept = |list: &Vec<Requirement>| {
            list.iter().filter(|one| !one.attribute.is_http_only()).cloned().collect::<Vec<_>>()
        };
        Self {
            sources: self.sources.iter().map(kept).collect(),
            operations: self.operations.iter().map(kept).collect(),
            conditions: kept(&self.conditions),
        }
    }
}

/// One of the tests must match, or none of them if it is negated.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// Its place in a rule.
    pub place: Name,
    /// What it is about.
    pub attribute: Attribute,
    /// None may match.
    pub negated: bool,
    /// The values as written.
    pub values: Vec<Name>,
    /// One for each value, or several where a value stands for several.
    pub tests: Vec<Test>,
}

/// What a proxy compares.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// The SPIFFE ID of the peer's verified certificate; plaintext has none.
    Peer(Text),
    /// The peer of the connection.
    SourceAddress(IpNet),
    /// The client by X-Forwarded-For.
    RemoteAddress(IpNet),
    /// The address that was dialled.
    DestinationAddress(IpNet),
    /// The port that was dialled.
    DestinationPort(u16),
    /// The server name of the handshake.
    ServerName(Text),
    /// The authority, without regard to case; [`Text::Any`] = there is one.
    Host(Text),
    /// A header; [`Text::Any`] = it is there, be it empty.
    Header(Name, Text),
    /// The path without query.
    Path(Text),
    /// The path by a template in the syntax of Envoy: `/a/*/**`.
    PathTemplate(Name),
    /// A claim of the token, a text or a list of texts.
    Claim(Vec<Name>, Text),
    /// Issuer and subject of the token.
    RequestPrincipal {
        /// `iss`
        issuer: Text,
        /// `sub`
        subject: Text,
    },
    /// Metadata of a filter.
    FilterMetadata {
        /// The filter.
        filter: Name,
        /// The key.
        key: Name,
        /// The value.
        value: Text,
        /// The value is an element of a list.
        in_list: bool,
    },
}
