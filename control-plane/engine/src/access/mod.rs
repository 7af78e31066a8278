//! Access control: what a workload's policies say of a request (AUTHORIZATION.md).
//!
//! [`Access`] is what applies to one workload, in the terms of a proxy. The translator renders it, and [`judge`] answers by
//! it, so that both mean the same.

mod failed;
mod judge;
mod path;
mod policy;
mod request;
mod resolve;
mod text;
mod token;

pub use failed::Failed;
pub use judge::{By, Judged, Outcome, judge};
pub use policy::{Policy, Provider, Requirement, Rule, Test};
pub use request::{HttpRequest, Request, RequestLine};
pub use text::Text;
pub use token::{Given, TokenRule};

pub(crate) use resolve::{policy, token_rules};

use std::sync::Arc;

use eastwest_model::mesh::PathNormalization;

/// The policies of access that apply to a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Access {
    /// In the order in which a proxy names the one that decided (Z13).
    pub policies: Vec<Arc<Policy>>,
    /// Sorted by issuer (Z43).
    pub tokens: Vec<TokenRule>,
    /// How paths are normalized first.
    pub paths: PathNormalization,
}

impl Access {
    /// Nothing applies.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.tokens.is_empty()
    }
}
