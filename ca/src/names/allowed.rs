//! DNS names and IP addresses that certificates may carry beside an identity (CA.md C39).

use std::{fmt, sync::Arc};

use ipnet::IpNet;
use thiserror::Error;

use super::serving_name::ServingName;
use crate::x509::network::{self, NetworkError};

/// Why a list of names is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AllowedNamesError {
    /// Neither a name nor a pattern.
    #[error(
        "{0:?} is neither a DNS name nor a pattern: write for example localhost, db.example.com, or *.test for every name \
         that ends so"
    )]
    Pattern(String),
    /// Not an address.
    #[error(transparent)]
    Address(#[from] NetworkError),
}

/// The names that a caller may have in its certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedNames(Arc<Allowed>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Allowed {
    any: bool,
    dns: Vec<Pattern>,
    addresses: Vec<IpNet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// This name.
    Name(String),
    /// Every name that ends so; the text begins with a dot.
    Below(String),
}

impl AllowedNames {
    /// Every name: for who has the key of the CA.
    pub fn any() -> Self {
        Self(Arc::new(Allowed { any: true, ..Allowed::default() }))
    }

    /// These DNS names (`localhost`) and patterns (`*.test`: every name that ends so, with one more label or several), and
    /// these addresses and blocks of addresses.
    ///
    /// # Errors
    /// The first that is none.
    pub fn new<'a>(
        dns: impl IntoIterator<Item = &'a str>,
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, AllowedNamesError> {
        let dns = dns.into_iter().map(pattern).collect::<Result<_, _>>()?;
        let addresses = addresses.into_iter().map(network::parse).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Allowed { any: false, dns, addresses })))
    }

    /// The names of both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (own, other) = (&*self.0, &*other.0);
        Self(Arc::new(Allowed {
            any: own.any || other.any,
            dns: [own.dns.as_slice(), &other.dns].concat(),
            addresses: [own.addresses.as_slice(), &other.addresses].concat(),
        }))
    }

    /// Whether no name is allowed.
    pub fn is_empty(&self) -> bool {
        !self.0.any && self.0.dns.is_empty() && self.0.addresses.is_empty()
    }

    /// Whether a certificate may have this name.
    pub fn allows(&self, name: &ServingName) -> bool {
        let Allowed { any, dns, addresses } = &*self.0;
        *any || match name {
            ServingName::Dns(name) => dns.iter().any(|pattern| pattern.matches(name)),
            ServingName::Ip(address) => addresses.iter().any(|block| block.contains(address)),
        }
    }
}

impl fmt::Display for AllowedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.any {
            return f.write_str("all names");
        }
        let dns = self.0.dns.iter().map(|pattern| match pattern {
            Pattern::Name(name) => name.clone(),
            Pattern::Below(end) => format!("*{end}"),
        });
        let all: Vec<_> = dns.chain(self.0.addresses.iter().map(ToString::to_string)).collect();
        f.write_str(&if all.is_empty() { "none".to_owned() } else { all.join(", ") })
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => name == own,
            Self::Below(end) => name.len() > end.len() && name.ends_with(end.as_str()),
        }
    }
}

fn pattern(text: &str) -> Result<Pattern, AllowedNamesError> {
    let name = |text: &str| match text.parse() {
        Ok(ServingName::Dns(name)) => Ok(name),
        Ok(ServingName::Ip(_)) | Err(_) => Err(AllowedNamesError::Pattern(text.to_owned())),
    };
    match text.strip_prefix("*.") {
        Some(end) => {
            let end = name(end).map_err(|_| AllowedNamesError::Pattern(text.to_owned()))?;
            Ok(Pattern::Below(format!(".{end}")))
        }
        None => name(text).map(Pattern::Name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        let allowed = AllowedNames::new(["localhost", "*.Test"], ["127.0.0.0/8", "::1"]).unwrap();
        for (name, allows) in [
            ("localhost", true),
            ("LOCALHOST.", true),
            ("a.localhost", false),
            ("a.test", true),
            ("a.b.test", true),
            ("test", false),
            ("atest", false),
            ("a.test.example", false),
            ("127.8.0.1", true),
            ("128.0.0.1", false),
            ("::1", true),
            ("::2", false),
        ] {
            let name: ServingName = name.parse().unwrap();
            assert_eq!(allowed.allows(&name), allows, "{name}");
            assert!(AllowedNames::any().allows(&name) && !AllowedNames::default().allows(&name));
        }
        assert_eq!(allowed.to_string(), "localhost, *.test, 127.0.0.0/8, ::1/128");
        assert!(AllowedNames::default().is_empty() && !allowed.is_empty() && !AllowedNames::any().is_empty());
    }

    #[test]
    fn what_is_no_list_of_names() {
        for bad in ["*", "*.", "a.*.test", "a*.test", "10.0.0.1", "a b", "", "**.test"] {
            let refused = AllowedNames::new([bad], []).unwrap_err().to_string();
            assert!(refused.contains(bad) && refused.contains("*.test"), "{refused}");
        }
        for bad in ["10.0.0.0/33", "::/129", "localhost", "10.0.0.0/x", ""] {
            assert!(AllowedNames::new([], [bad]).is_err(), "{bad}");
        }
    }
}
