//! AuthorizationPolicy: who may call a workload, and with what (AUTHORIZATION.md).

use std::fmt;

use eastwest_identity::Name;
use ipnet::IpNet;
use serde::Serialize;

use crate::meta::{Meta, Selector};

/// The annotation that puts a policy on trial.
pub const DRY_RUN: &str = "istio.io/dry-run";

/// What a policy does with the requests that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthorizationAction {
    /// An external authorizer is asked.
    Custom,
    /// They are marked for the log.
    Audit,
    /// They are denied.
    Deny,
    /// They are allowed; what no such policy matches is denied.
    Allow,
}

impl fmt::Display for AuthorizationAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Custom => "CUSTOM",
            Self::Audit => "AUDIT",
            Self::Deny => "DENY",
            Self::Allow => "ALLOW",
        })
    }
}

/// An AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Metadata.
    pub meta: Meta,
    /// Which workloads; empty = all of the namespace, or of the mesh from the root namespace (Z2).
    pub selector: Selector,
    /// It has `targetRefs`, so it is for gateways and waypoints alone (Z3).
    pub is_targeted: bool,
    /// What it does.
    pub action: AuthorizationAction,
    /// The external authorizer of a CUSTOM policy, by its name in the mesh's `extensionProviders`.
    pub provider: Option<Name>,
    /// It is only observed (Z10).
    pub dry_run: bool,
    /// One match is enough (Z8). None at all matches nothing (Z7).
    pub rules: Vec<AuthorizationRule>,
}

/// A rule: some source, some operation and all conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// Sources; empty = any. All requirements of one must hold.
    pub sources: Vec<Vec<Requirement>>,
    /// Operations; empty = any. All requirements of one must hold.
    pub operations: Vec<Vec<Requirement>>,
    /// Conditions, all of which must hold.
    pub conditions: Vec<Requirement>,
}

impl AuthorizationRule {
    /// All requirements: those of sources, of operations, and conditions.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.sources.iter().flatten().chain(self.operations.iter().flatten()).chain(&self.conditions)
    }
}

/// One field of a source or an operation, or one list of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// Its place in a rule: `from.source.notPrincipals`, `to.operation.paths`, `when[request.headers[x]].values`.
    pub place: Name,
    /// What is compared.
    pub attribute: Attribute,
    /// None of the values may match; else one of them must.
    pub negated: bool,
    /// The values as written.
    pub values: Vec<Name>,
}

/// What a requirement is about. Addresses and ports have their values in parsed form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// The identity of the peer, without the scheme (Z17).
    Principal,
    /// The namespace of the peer (Z18).
    Namespace,
    /// The service account of the peer (Z19).
    ServiceAccount,
    /// The trust domain of the peer (Z20).
    TrustDomain,
    /// Issuer and subject of the token (Z24).
    RequestPrincipal,
    /// The peer of the connection (Z22).
    SourceAddress(Vec<IpNet>),
    /// The client by X-Forwarded-For (Z22).
    RemoteAddress(Vec<IpNet>),
    /// The address of the workload (Z30).
    DestinationAddress(Vec<IpNet>),
    /// The port of the workload (Z30).
    DestinationPort(Vec<u16>),
    /// The authority of the request (Z29).
    Host,
    /// The method (Z31).
    Method,
    /// The path (Z32 to Z34).
    Path,
    /// A header, by its name in lower case (Z35).
    Header(Name),
    /// The server name of the handshake (Z36).
    ServerName,
    /// A claim of the token, by its path (Z37).
    Claim(Vec<Name>),
    /// Metadata that a filter of Envoy has written (Z39).
    FilterMetadata {
        /// The filter.
        filter: Name,
        /// The key.
        key: Name,
    },
}

impl Attribute {
    /// Whether only HTTP has it (section "TCP chains").
    pub fn is_http_only(&self) -> bool {
        matches!(
            self,
            Self::RequestPrincipal
                | Self::Host
                | Self::Method
                | Self::Path
                | Self::Header(_)
                | Self::Claim(_)
        )
    }

    /// Whether it is part of the peer's identity, which plaintext does not have (Z21).
    pub fn is_peer_identity(&self) -> bool {
        matches!(self, Self::Principal | Self::Namespace | Self::ServiceAccount | Self::TrustDomain)
    }
}
