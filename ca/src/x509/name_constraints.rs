//! Name constraints of CA certificates (RFC 5280 §4.2.1.10), evaluated for the names that our certificates have: hosts of
//! URIs, DNS names and IP addresses. A name of another form below a constraint of that form is never permitted.

use std::net::IpAddr;

use der::Decode as _;
use thiserror::Error;
use x509_cert::ext::pkix::{self, SubjectAltName, constraints::name::GeneralSubtree, name::GeneralName};
use x509_parser::{
    certificate::X509Certificate,
    oid_registry::{OID_X509_EXT_NAME_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME, Oid},
};

use crate::x509::{self, network};

/// A constraint that cannot be read: verifiers refuse everything below it, or cannot read the certificate at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "has name constraints that cannot be read{0}; a URI constraint is a host (cluster.local or .cluster.local), a DNS \
     constraint a domain, an IP constraint an address and a mask"
)]
pub struct MalformedConstraint(String);

/// A name that a constraint forbids.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the name constraint {constraint} of {owner} does not allow {name}")]
pub struct Violation {
    /// The subject of the CA certificate with the constraints.
    pub owner: String,
    /// The constraints, as OpenSSL's configuration writes them: `permitted;URI:cluster.local`.
    pub constraint: String,
    /// The name.
    pub name: String,
}

/// The name constraints of a CA certificate, or of several that all count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameConstraints(Vec<Subtrees>);

/// Those of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subtrees {
    /// The subject of the certificate.
    owner: String,
    permitted: Vec<GeneralName>,
    excluded: Vec<GeneralName>,
}

impl NameConstraints {
    /// The constraints of a certificate, critical or not; none if it has no such extension.
    ///
    /// # Errors
    /// They cannot be read, or name something that cannot be a constraint.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Result<Self, MalformedConstraint> {
        let malformed = |_| MalformedConstraint(String::new());
        let Some(value) = extension(certificate, &OID_X509_EXT_NAME_CONSTRAINTS).map_err(malformed)? else {
            return Ok(Self::default());
        };
        let found = pkix::NameConstraints::from_der(value).map_err(|_| MalformedConstraint(String::new()))?;
        let bases = |subtrees: Option<Vec<GeneralSubtree>>| {
            let subtrees = subtrees.unwrap_or_default().into_iter();
            subtrees.map(|subtree| subtree.base).collect::<Vec<_>>()
        };
        let own = Subtrees {
            owner: x509::name_of(certificate),
            permitted: bases(found.permitted_subtrees),
            excluded: bases(found.excluded_subtrees),
        };
        for (word, base) in own.all() {
            if !is_base(base) {
                return Err(MalformedConstraint(format!(" ({word};{})", text(base, true))));
            }
        }
        Ok(Self(vec![own]))
    }

    /// These and those of a further certificate.
    #[must_use]
    pub(crate) fn and(mut self, further: Self) -> Self {
        self.0.extend(further.0);
        self
    }

    /// Whether some of them are of URIs.
    pub(crate) fn has_uris(&self) -> bool {
        let mut all = self.0.iter().flat_map(Subtrees::all);
        all.any(|(_, base)| matches!(base, GeneralName::UniformResourceIdentifier(_)))
    }

    /// A constraint of directory names, if there is one.
    pub(crate) fn directory_names(&self) -> Option<String> {
        let mut all = self.0.iter().flat_map(Subtrees::all);
        let found = all.find(|(_, base)| matches!(base, GeneralName::DirectoryName(_)));
        found.map(|(word, base)| format!("{word};{}", text(base, true)))
    }

    /// Whether `name` may stand in a certificate below.
    ///
    /// # Errors
    /// The constraint that forbids it.
    pub(crate) fn check(&self, name: &GeneralName) -> Result<(), Violation> {
        self.0.iter().try_for_each(|subtrees| subtrees.check(name))
    }

    /// Whether every name of `certificate` may stand below: the alternative names, and the subject unless it is empty.
    ///
    /// # Errors
    /// The constraint that forbids one.
    pub(crate) fn check_all(&self, certificate: &X509Certificate<'_>) -> Result<(), Violation> {
        if self.0.is_empty() {
            return Ok(());
        }
        let unreadable = || Violation {
            owner: self.0.first().map_or_else(String::new, |subtrees| subtrees.owner.clone()),
            constraint: "(any)".to_owned(),
            name: "names that cannot be read".to_owned(),
        };
        let names = extension(certificate, &OID_X509_EXT_SUBJECT_ALT_NAME).map_err(|()| unreadable())?;
        let names = names.map(SubjectAltName::from_der).transpose().map_err(|_| unreadable())?;
        names.iter().flat_map(|names| &names.0).try_for_each(|name| self.check(name))?;
        match certificate.subject().iter().next() {
            Some(_) => {
                let subject = x509_cert::name::Name::from_der(certificate.subject().as_raw());
                self.check(&GeneralName::DirectoryName(subject.map_err(|_| unreadable())?))
            }
            None => Ok(()),
        }
    }
}

impl Subtrees {
    fn all(&self) -> impl Iterator<Item = (&'static str, &GeneralName)> {
        let permitted = self.permitted.iter().map(|base| ("permitted", base));
        permitted.chain(self.excluded.iter().map(|base| ("excluded", base)))
    }

    fn check(&self, name: &GeneralName) -> Result<(), Violation> {
        let of_its_form = |(_, base): &(_, &GeneralName)| is_of_form(name, base);
        let violation = |constraints: Vec<String>| {
            let (owner, name) = (self.owner.clone(), text(name, false));
            Err(Violation { owner, constraint: constraints.join(", "), name })
        };
        let told = |word: &str, base: &GeneralName| format!("{word};{}", text(base, true));
        let permitted = || self.permitted.iter().filter(|base| is_of_form(name, base));
        for (word, base) in self.all().filter(of_its_form) {
            // A name that cannot be compared is refused, whatever the constraint (RFC 5280 §4.2.1.10).
            let forbidden = contains(base, name).is_none_or(|within| within && word == "excluded");
            if forbidden {
                return violation(vec![told(word, base)]);
            }
        }
        if permitted().next().is_some() && !permitted().any(|base| contains(base, name) == Some(true)) {
            return violation(permitted().map(|base| told("permitted", base)).collect());
        }
        Ok(())
    }
}

/// The value of an extension that is there at most once.
fn extension<'a>(certificate: &X509Certificate<'a>, oid: &Oid<'_>) -> Result<Option<&'a [u8]>, ()> {
    let mut found = certificate.iter_extensions().filter(|extension| extension.oid == *oid);
    match (found.next(), found.next()) {
        (first, None) => Ok(first.map(|extension| extension.value)),
        (_, Some(_)) => Err(()),
    }
}

fn is_of_form(name: &GeneralName, base: &GeneralName) -> bool {
    std::mem::discriminant(name) == std::mem::discriminant(base)
}

/// Whether a constraint is one that verifiers can read.
fn is_base(base: &GeneralName) -> bool {
    match base {
        GeneralName::UniformResourceIdentifier(host) => {
            let host = host.as_str();
            is_domain(host.strip_prefix('.').unwrap_or(host)) && host.parse::<IpAddr>().is_err()
        }
        GeneralName::DnsName(domain) => {
            let domain = domain.as_str();
            domain.is_empty() || is_domain(domain.strip_prefix('.').unwrap_or(domain))
        }
        GeneralName::IpAddress(bytes) => network::of_constraint(bytes.as_bytes()).is_some(),
        _ => true,
    }
}

/// Labels with dots between them. An underscore is allowed, as in trust domains.
fn is_domain(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_plain))
}

/// Whether `name` is within `base`; `None` if that cannot be told.
fn contains(base: &GeneralName, name: &GeneralName) -> Option<bool> {
    match (base, name) {
        (GeneralName::UniformResourceIdentifier(base), GeneralName::UniformResourceIdentifier(uri)) => {
            let (base, host) = (base.as_str().to_ascii_lowercase(), host(uri.as_str())?);
            Some(match base.starts_with('.') {
                true => host.len() > base.len() && host.ends_with(&base),
                false => host == base,
            })
        }
        (GeneralName::DnsName(base), GeneralName::DnsName(name)) => {
            let (base, name) = (base.as_str().to_ascii_lowercase(), name.as_str().to_ascii_lowercase());
            let below = |domain: &str| {
                name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            // What a wildcard stands for may be within a constraint and outside of it: that cannot be told.
            is_domain(&name).then(|| match base.strip_prefix('.') {
                Some(domain) => name != domain && below(domain),
                None => base.is_empty() || below(&base),
            })
        }
        (GeneralName::IpAddress(base), GeneralName::IpAddress(address)) => {
            Some(network::of_constraint(base.as_bytes())?.contains(&network::ip(address.as_bytes())?))
        }
        _ => None,
    }
}

/// The host of a URI, in lower case, if it is a domain and no address (RFC 3986 §3.2).
fn host(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host).to_ascii_lowercase();
    (is_domain(&host) && host.parse::<IpAddr>().is_err()).then_some(host)
}

/// A name, or what a constraint says of names, as people read it.
fn text(name: &GeneralName, is_constraint: bool) -> String {
    let (form, value) = match name {
        GeneralName::UniformResourceIdentifier(uri) => ("URI", uri.as_str().to_owned()),
        GeneralName::DnsName(name) => ("DNS", name.as_str().to_owned()),
        GeneralName::Rfc822Name(name) => ("email", name.as_str().to_owned()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let block = network::of_constraint(bytes).map(|block| block.to_string());
            let value = if is_constraint { block } else { network::ip(bytes).map(|ip| ip.to_string()) };
            ("IP", value.unwrap_or_else(|| "unreadable".to_owned()))
        }
        GeneralName::DirectoryName(name) => ("dirName", name.to_string()),
        GeneralName::OtherName(_) => ("otherName", String::new()),
        GeneralName::EdiPartyName(_) => ("ediPartyName", String::new()),
        GeneralName::RegisteredId(oid) => ("RID", oid.to_string()),
    };
    if is_constraint { format!("{form}:{value}") } else { value }
}

#[cfg(test)]
mod tests;
