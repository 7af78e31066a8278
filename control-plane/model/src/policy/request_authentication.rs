//! RequestAuthentication: which tokens a workload accepts (AUTHORIZATION.md Z43 to Z49).

use std::time::Duration;

use eastwest_identity::Name;

use crate::meta::{Meta, Selector};

/// A RequestAuthentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAuthentication {
    /// Metadata.
    pub meta: Meta,
    /// Which workloads; empty = all of the namespace, or of the mesh from the root namespace (Z2).
    pub selector: Selector,
    /// It has `targetRefs`, so it is for gateways and waypoints alone (Z3).
    pub is_targeted: bool,
    /// Its rules.
    pub rules: Vec<JwtRule>,
}

/// Tokens of one issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JwtRule {
    /// `iss`, compared exactly; empty = any.
    pub issuer: Name,
    /// Audiences, one of which a token must have; none = any.
    pub audiences: Vec<Name>,
    /// Where the keys come from.
    pub keys: KeySource,
    /// Headers in which a token may stand.
    pub from_headers: Vec<TokenHeader>,
    /// Query parameters in which a token may stand.
    pub from_params: Vec<Name>,
    /// Cookies in which a token may stand.
    pub from_cookies: Vec<Name>,
    /// The header that gets the payload, in lower case.
    pub payload_header: Option<Name>,
    /// Headers, in lower case, that get a claim, by its path with dots.
    pub claim_headers: Vec<(Name, Name)>,
    /// A verified token stays in the request.
    pub forward: bool,
    /// Further claims that are lists with blanks between.
    pub space_delimited: Vec<Name>,
    /// How long fetching the keys may take.
    pub timeout: Option<Duration>,
}

/// Claims that are lists with blanks between in every token.
const SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

impl JwtRule {
    /// The claims that are lists with blanks between.
    pub fn space_delimited_claims(&self) -> impl Iterator<Item = &str> {
        SPACE_DELIMITED.into_iter().chain(self.space_delimited.iter().map(|claim| &**claim))
    }
}

/// A header in which a token may stand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenHeader {
    /// Its name in lower case.
    pub name: Name,
    /// What stands before the token; empty = nothing.
    pub prefix: Name,
}

/// Where the keys of an issuer come from (Z49).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// A key set in the rule, its private parts left out.
    Inline(Name),
    /// A key set in the rule without a key that verifies anything.
    Unusable,
    /// A key set at an address.
    Uri(Name),
    /// By OIDC discovery at the issuer.
    Discovery,
}
