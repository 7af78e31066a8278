//! The value of `--federate`.

use std::{fmt, path::PathBuf, str::FromStr};

use eastwest_identity::{IdentityError, SpiffeId, TrustDomain};
use eastwest_io::HttpsUrl;
use http::Uri;
use thiserror::Error;

/// Why a text is not a relationship.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RelationshipError {
    /// Neither of the two forms.
    #[error("{0:?} is neither TRUST-DOMAIN=URL, TRUST-DOMAIN=FILE nor the FILE of a map of trust domains")]
    Form(String),
    /// Before the equals sign stands no trust domain.
    #[error("{name:?} is no trust domain: {source}")]
    TrustDomain {
        /// What stands there.
        name: String,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// Not a URL that a bundle endpoint may have (SPIFFE Federation §5.2.1.1).
    #[error("{url:?} is no bundle endpoint: {problem}")]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A parameter that there is not, or that needs another.
    #[error("{0}")]
    Parameter(String),
    /// The endpoint's identity is no SPIFFE ID.
    #[error("id={id}: {source}")]
    Id {
        /// The text.
        id: String,
        /// What is wrong with it.
        source: IdentityError,
    },
}

/// One trust domain, or several in one file, and where bundles come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relationship {
    /// Where from, about whom.
    pub source: Source,
    /// The bundle to begin with, by which an endpoint of profile `https_spiffe` is verified the first time.
    pub bootstrap: Option<PathBuf>,
}

/// Where bundles come from, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A bundle endpoint.
    Endpoint {
        /// Whose bundle.
        domain: TrustDomain,
        /// Where.
        url: EndpointUrl,
        /// How the server is verified.
        profile: Profile,
    },
    /// A file with the bundle of a domain.
    File(TrustDomain, PathBuf),
    /// A file with bundles by domain.
    Map(PathBuf),
}

/// How an endpoint is verified (SPIFFE Federation §5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// `https_web`: by the host's name, and public CAs or those of a file.
    Web {
        /// The CAs instead of the system's.
        roots: Option<PathBuf>,
    },
    /// `https_spiffe`: by the SPIFFE ID of its X509-SVID, with the bundle of that ID's domain.
    Spiffe(SpiffeId),
}

impl FromStr for Relationship {
    type Err = RelationshipError;

    /// Reads `TRUST-DOMAIN=URL[,id=SPIFFE-ID][,bundle=FILE][,ca=FILE]`, `TRUST-DOMAIN=FILE` or `FILE`.
    fn from_str(text: &str) -> Result<Self, RelationshipError> {
        let Some((name, rest)) = text.split_once('=') else {
            return match text.is_empty() {
                true => Err(RelationshipError::Form(text.to_owned())),
                false => Ok(Self { source: Source::Map(text.into()), bootstrap: None }),
            };
        };
        let domain = TrustDomain::parse(name)
            .map_err(|source| RelationshipError::TrustDomain { name: name.to_owned(), source })?;
        if rest.is_empty() {
            return Err(RelationshipError::Form(text.to_owned()));
        }
        if !rest.contains("://") {
            return Ok(Self { source: Source::File(domain, rest.into()), bootstrap: None });
        }
        let mut parts = rest.split(',');
        let url = parts.next().unwrap_or_default().parse()?;
        let parameters = Parameters::read(parts)?;
        let bootstrap = parameters.bundle.clone();
        Ok(Self { source: Source::Endpoint { domain, url, profile: parameters.profile()? }, bootstrap })
    }
}

#[derive(Default)]
struct Parameters {
    id: Option<SpiffeId>,
    bundle: Option<PathBuf>,
    ca: Option<PathBuf>,
}

impl Parameters {
    fn read<'a>(parts: impl Iterator<Item = &'a str>) -> Result<Self, RelationshipError> {
        let mut found = Self::default();
        for part in parts {
            match part.split_once('=') {
                Some(("id", id)) => {
                    let parsed = SpiffeId::parse(id);
                    let error = |source| RelationshipError::Id { id: id.to_owned(), source };
                    found.id = Some(parsed.map_err(error)?);
                }
                Some(("bundle", path)) => found.bundle = Some(path.into()),
                Some(("ca", path)) => found.ca = Some(path.into()),
                _ => {
                    let problem = format!("{part:?} is none of id=SPIFFE-ID, bundle=FILE and ca=FILE");
                    return Err(RelationshipError::Parameter(problem));
                }
            }
        }
        Ok(found)
    }

    fn profile(self) -> Result<Profile, RelationshipError> {
        let problem = |text: &str| Err(RelationshipError::Parameter(text.to_owned()));
        match (self.id, self.bundle, self.ca) {
            (Some(_), _, Some(_)) => problem("ca= is for endpoints without id=, which public CAs vouch for"),
            (Some(id), _, None) => Ok(Profile::Spiffe(id)),
            (None, Some(_), _) => problem("bundle= verifies the SPIFFE ID of the endpoint: name it with id="),
            (None, None, roots) => Ok(Profile::Web { roots }),
        }
    }
}

/// A URL that a bundle endpoint may have: https, a host, and no user information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUrl(HttpsUrl);

impl EndpointUrl {
    /// The address to ask.
    pub(super) fn address(&self) -> &HttpsUrl {
        &self.0
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EndpointUrl {
    type Err = RelationshipError;

    fn from_str(text: &str) -> Result<Self, RelationshipError> {
        let error = |problem| RelationshipError::Url { url: text.to_owned(), problem };
        let uri: Uri = text.parse().map_err(|_| error("write https://HOST[:PORT]/PATH"))?;
        if uri.scheme_str() != Some("https") {
            return Err(error("only https:// proves whose bundle it is"));
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                Err(error("it must hold no user information"))
            }
            _ => HttpsUrl::parse(text).map(Self).map_err(|_| error("there is no host")),
        }
    }
}
