//! The names that certificates of a CA must be able to carry, held against its name constraints (CA.md C38).

use eastwest_identity::TrustDomain;
use thiserror::Error;

use crate::{
    issuing::issuer::{IssueError, LocalIssuer},
    names::ServingName,
};

/// A name of a serving certificate that clients in a cluster do not use.
const LOCALHOST: &str = "localhost";

/// The names in our own serving certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServingNames {
    /// Names that somebody asked for. All of them must be possible.
    Chosen(Vec<ServingName>),
    /// The usual names. Those that a CA does not allow are left out, as long as services can still be named.
    Usual(Vec<ServingName>),
}

/// Why a CA is of no use: clients would refuse what it signs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NeedsError {
    /// It does not allow the identities of the trust domain.
    #[error(
        "{problem}: workloads of {trust_domain} would be refused everywhere; have the CA certificate issued with \
         permitted;URI:{trust_domain} or without a constraint of URIs, or use a trust domain that it allows"
    )]
    TrustDomain {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// The constraint.
        problem: IssueError,
    },
    /// It does not allow a name that was asked for.
    #[error(
        "{0}: clients would refuse our serving certificate; name others with --serving-name, or have the CA certificate \
         issued without that constraint"
    )]
    Serving(IssueError),
    /// It allows none of the usual names of services.
    #[error(
        "{0}, nor any other usual name of our services: clients would refuse our serving certificate; give it names that \
         the CA allows with --serving-name, and have clients use them, or have the CA certificate issued without that \
         constraint"
    )]
    NoService(IssueError),
}

/// What is asked of a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The trust domain of the identities that it is to certify.
    pub trust_domain: TrustDomain,
    /// The names of our own server.
    pub serving: ServingNames,
}

impl Needs {
    /// That `issuer` can certify them.
    ///
    /// # Errors
    /// See [`NeedsError`].
    pub fn check(&self, issuer: &LocalIssuer) -> Result<(), NeedsError> {
        let trust_domain = &self.trust_domain;
        let allowed = issuer.check_trust_domain(trust_domain);
        allowed.map_err(|problem| NeedsError::TrustDomain { trust_domain: trust_domain.clone(), problem })?;
        self.serving.allowed(issuer).map(|_| ())
    }
}

impl ServingNames {
    /// The names that `issuer` can certify, and those that are left out because it does not allow them.
    ///
    /// # Errors
    /// A chosen name, or every usual name of a service, is not allowed.
    pub fn allowed(&self, issuer: &LocalIssuer) -> Result<(Vec<ServingName>, Vec<IssueError>), NeedsError> {
        let names = match self {
            Self::Chosen(names) => {
                names.iter().try_for_each(|name| issuer.check_name(name)).map_err(NeedsError::Serving)?;
                return Ok((names.clone(), Vec::new()));
            }
            Self::Usual(names) => names,
        };
        let (mut allowed, mut left_out) = (Vec::new(), Vec::new());
        for name in names {
            match issuer.check_name(name) {
                Ok(()) => allowed.push(name.clone()),
                Err(problem) => left_out.push((name, problem)),
            }
        }
        let is_service = |name: &&ServingName| matches!(name, ServingName::Dns(name) if name != LOCALHOST);
        let reachable =
            allowed.iter().any(|name| is_service(&name)) || !names.iter().any(|name| is_service(&name));
        if !reachable || allowed.is_empty() {
            let services_first = |(name, _): &(&ServingName, IssueError)| is_service(name);
            let at = left_out.iter().position(services_first).unwrap_or(0);
            if at < left_out.len() {
                return Err(NeedsError::NoService(left_out.swap_remove(at).1));
            }
        }
        Ok((allowed, left_out.into_iter().map(|(_, problem)| problem).collect()))
    }
}
