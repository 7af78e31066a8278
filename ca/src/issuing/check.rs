//! Checks a finished certificate before it is returned, so that no mistake of a profile or a library reaches a caller.

use der::Decode as _;
use eastwest_identity::SpiffeId;
use x509_cert::ext::pkix::{SubjectAltName, name::GeneralName};
use x509_parser::{certificate::X509Certificate, oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME};

use crate::x509::{
    self, Window,
    public_key::{KeyKind, PublicKey},
};

/// What a leaf must be.
pub(crate) struct Expected<'a> {
    pub(crate) identity: &'a SpiffeId,
    /// Its alternative names, the identity first.
    pub(crate) names: Vec<GeneralName>,
    pub(crate) key: &'a PublicKey,
    pub(crate) window: Window,
    /// The signer's subject in DER.
    pub(crate) issuer: &'a [u8],
}

/// What is wrong with the leaf in `der`. Its signature is not verified anew: that would double the cost of each
/// certificate, and the key was tried when the issuer was loaded.
pub(crate) fn leaf(der: &[u8], expected: &Expected<'_>) -> Result<(), &'static str> {
    let leaf = x509::parse(der).ok_or("it cannot be parsed")?;
    let ensure = |holds: bool, problem| if holds { Ok(()) } else { Err(problem) };
    ensure(leaf.public_key().raw == expected.key.spki(), "another public key")?;
    ensure(leaf.issuer().as_raw() == expected.issuer, "another issuer name")?;
    ensure(leaf.subject().iter().next().is_none(), "a subject")?;
    ensure(x509::window(&leaf) == expected.window, "another validity")?;
    ensure((8..=20).contains(&leaf.raw_serial().len()), "a serial number of the wrong length")?;
    names(&leaf, expected)?;
    usages(&leaf, expected.key.kind())?;
    let known = leaf.iter_extensions().all(|extension| !extension.parsed_extension().unsupported());
    ensure(known && leaf.extensions().len() == 6, "extensions beyond the profile")
}

fn names(leaf: &X509Certificate<'_>, expected: &Expected<'_>) -> Result<(), &'static str> {
    let found = leaf.iter_extensions().find(|extension| extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME);
    let names = found.filter(|found| found.critical).map(|found| SubjectAltName::from_der(found.value));
    match names {
        Some(Ok(SubjectAltName(names))) if names == expected.names => {}
        _ => return Err("other alternative names, or none that are critical"),
    }
    match x509::uri_names(leaf).as_deref() {
        Some([uri]) if *uri == expected.identity.as_str() => Ok(()),
        _ => Err("another identity"),
    }
}

fn usages(leaf: &X509Certificate<'_>, key: KeyKind) -> Result<(), &'static str> {
    match leaf.basic_constraints() {
        Ok(Some(bc)) if bc.critical && !bc.value.ca => {}
        _ => return Err("basic constraints that do not deny a CA"),
    }
    // RFC 5280 §4.2.1.3: bit 0 is digitalSignature, bit 2 keyEncipherment.
    let flags = if matches!(key, KeyKind::Rsa(_)) { 0b101 } else { 0b001 };
    match leaf.key_usage() {
        Ok(Some(usage)) if usage.critical && usage.value.flags == flags => {}
        _ => return Err("another key usage"),
    }
    match leaf.extended_key_usage() {
        Ok(Some(eku)) if eku.value.server_auth && eku.value.client_auth && !eku.value.any => Ok(()),
        _ => Err("another extended key usage"),
    }
}
