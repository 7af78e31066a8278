//! The document of a bundle, and the document of several bundles by trust domain.

use std::{collections::BTreeMap, fmt, time::Duration};

use eastwest_identity::{IdentityError, TrustDomain};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{
    SpiffeBundle,
    jwk::{self, Entry},
};

/// Longest document in bytes.
const MAX_BYTES: usize = 4 << 20;
/// Most keys of one domain.
const MAX_KEYS: usize = 256;
/// Most domains in one document.
const MAX_DOMAINS: usize = 1024;

/// Why a text is no SPIFFE bundle, or no document of bundles by trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpiffeBundleError {
    /// Not JSON with an array `keys`, or a number that is none.
    #[error("SPIFFE bundle: {0}")]
    Json(String),
    /// More than 4 MiB.
    #[error("SPIFFE bundle: {0} bytes are more than {MAX_BYTES}")]
    TooLong(usize),
    /// More than 256 keys.
    #[error("SPIFFE bundle: {0} keys are more than {MAX_KEYS}")]
    TooMany(usize),
    /// An entry of a kind and use that we know with a member that is damaged.
    #[error("SPIFFE bundle: keys[{index}].{member}: {problem}")]
    Key {
        /// Which entry.
        index: usize,
        /// Which of its members.
        member: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More than 1024 domains.
    #[error("SPIFFE bundles: {0} trust domains are more than {MAX_DOMAINS}")]
    TooManyDomains(usize),
    /// A name that is no trust domain.
    #[error("SPIFFE bundles: trust_domains: {name:?}: {source}")]
    TrustDomain {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// A domain that stands there twice.
    #[error("SPIFFE bundles: trust_domains: {0} stands there twice; which of them is meant?")]
    Twice(TrustDomain),
    /// The bundle of one of the domains.
    #[error("{domain}: {source}")]
    Of {
        /// Whose bundle.
        domain: TrustDomain,
        /// What is wrong with it.
        source: Box<SpiffeBundleError>,
    },
}

#[derive(Deserialize)]
struct Document {
    spiffe_sequence: Option<u64>,
    spiffe_refresh_hint: Option<u64>,
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Domains {
    trust_domains: Pairs,
}

/// An object with its members in order, those of the same name too: a map would let the last one win.
struct Pairs(Vec<(String, Document)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of bundles by trust domain")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = members.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Reads the document of one bundle.
pub(super) fn read(text: &str) -> Result<SpiffeBundle, SpiffeBundleError> {
    parse::<Document>(text).and_then(bundle)
}

/// Reads several bundles by trust domain: `{"trust_domains": {"example.org": {"keys": …}}}`.
///
/// # Errors
/// See [`SpiffeBundleError`]; a domain that stands there twice is one.
pub fn map_from_json(text: &str) -> Result<BTreeMap<TrustDomain, SpiffeBundle>, SpiffeBundleError> {
    let Domains { trust_domains: Pairs(pairs) } = parse(text)?;
    if pairs.len() > MAX_DOMAINS {
        return Err(SpiffeBundleError::TooManyDomains(pairs.len()));
    }
    let mut bundles = BTreeMap::new();
    for (name, document) in pairs {
        let domain = TrustDomain::parse(&name)
            .map_err(|source| SpiffeBundleError::TrustDomain { name: name.clone(), source })?;
        let bundle = bundle(document)
            .map_err(|source| SpiffeBundleError::Of { domain: domain.clone(), source: Box::new(source) })?;
        if bundles.insert(domain.clone(), bundle).is_some() {
            return Err(SpiffeBundleError::Twice(domain));
        }
    }
    Ok(bundles)
}

/// Several bundles in one document, each under its domain.
pub fn map_to_json(bundles: &BTreeMap<TrustDomain, SpiffeBundle>) -> String {
    let domains: Map<_, _> =
        bundles.iter().map(|(domain, bundle)| (domain.to_string(), write(bundle))).collect();
    json!({ "trust_domains": domains }).to_string()
}

fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, SpiffeBundleError> {
    if text.len() > MAX_BYTES {
        return Err(SpiffeBundleError::TooLong(text.len()));
    }
    serde_json::from_str(text).map_err(|error| SpiffeBundleError::Json(error.to_string()))
}

fn bundle(document: Document) -> Result<SpiffeBundle, SpiffeBundleError> {
    if document.keys.len() > MAX_KEYS {
        return Err(SpiffeBundleError::TooMany(document.keys.len()));
    }
    let mut bundle = SpiffeBundle {
        sequence: document.spiffe_sequence,
        refresh_hint: document.spiffe_refresh_hint.map(Duration::from_secs),
        ..SpiffeBundle::default()
    };
    for (index, entry) in document.keys.iter().enumerate() {
        let entry = jwk::read(entry);
        match entry.map_err(|(member, problem)| SpiffeBundleError::Key { index, member, problem })? {
            Entry::Certificate(der) if bundle.certificates.contains(&der) => {}
            Entry::Certificate(der) => bundle.certificates.push(der),
            Entry::Jwt(key) => bundle.jwt_keys.push(key),
            Entry::Skipped => {}
        }
    }
    Ok(bundle)
}

/// The document of one bundle.
pub(super) fn write(bundle: &SpiffeBundle) -> Value {
    let mut document = Map::new();
    if let Some(sequence) = bundle.sequence {
        document.insert("spiffe_sequence".to_owned(), sequence.into());
    }
    if let Some(hint) = bundle.refresh_hint {
        document.insert("spiffe_refresh_hint".to_owned(), hint.as_secs().into());
    }
    let roots = bundle.certificates.iter().map(|der| jwk::write(der));
    let keys = roots.chain(bundle.jwt_keys.iter().map(|key| key.members.clone().into()));
    document.insert("keys".to_owned(), keys.collect());
    document.into()
}

/// The keys for JWT-SVIDs alone.
pub(super) fn write_jwt_keys(bundle: &SpiffeBundle) -> Value {
    let keys: Vec<_> = bundle.jwt_keys.iter().map(|key| Value::Object(key.members.clone())).collect();
    json!({ "keys": keys })
}
