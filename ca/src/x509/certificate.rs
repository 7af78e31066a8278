//! Parsing certificates.

use eastwest_identity::SpiffeId;
use time::OffsetDateTime;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, x509::X509Name,
};

use crate::x509::public_key::hex;

/// The certificate in `der`, if there is nothing else.
pub(crate) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

/// Whether the certificate in `der` says by name that it is for the extended usage of that object identifier, one of
/// those that x509-parser does not know.
pub(crate) fn has_usage(der: &[u8], usage: &[u8]) -> bool {
    let certificate = parse(der);
    let usages = certificate.as_ref().and_then(|certificate| certificate.extended_key_usage().ok().flatten());
    usages.is_some_and(|usages| usages.value.other.iter().any(|other| other.as_bytes() == usage))
}

/// Why `certificate` may not sign others (X509-SVID §3.2 and §4, RFC 5280 §4.2.1.3 and §4.2.1.9).
pub(crate) fn not_a_ca(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.value.ca => {}
        Ok(Some(_)) => return Some("its basic constraints say CA:FALSE; have it issued as a CA (CA:TRUE)"),
        Ok(None) => {
            return Some("it has no basic constraints; have it issued as a CA (basicConstraints=CA:TRUE)");
        }
        Err(_) => return Some("its basic constraints cannot be read"),
    }
    match certificate.key_usage() {
        // Without the extension a key may be used for everything (RFC 5280 §4.2.1.3), as in BoringSSL and Go.
        Ok(None) => not_a_signing_identity(certificate),
        Ok(Some(usage)) if usage.value.key_cert_sign() => not_a_signing_identity(certificate),
        Ok(Some(_)) => Some(
            "its key usage lacks keyCertSign; have it issued with keyUsage=critical,keyCertSign,cRLSign, or without a key \
             usage",
        ),
        Err(_) => Some("its key usage cannot be read"),
    }
}

/// A distinguished name as people read it.
pub(crate) fn name(name: &X509Name<'_>) -> String {
    if name.iter().next().is_some() { name.to_string() } else { "an empty name".to_owned() }
}

/// The subject of a certificate; without one, its serial number.
pub(crate) fn name_of(certificate: &X509Certificate<'_>) -> String {
    match certificate.subject().iter().next() {
        Some(_) => name(certificate.subject()),
        None => format!("serial number {}", serial(certificate)),
    }
}

/// Why the names in a CA certificate are not those of one: it may name its trust domain, but no workload in it.
fn not_a_signing_identity(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    let Some(names) = uri_names(certificate) else { return Some("its alternative names cannot be read") };
    let mut ids = names.into_iter().filter(|uri| uri.starts_with("spiffe:"));
    match (ids.next().map(SpiffeId::parse), ids.next()) {
        (None, _) => None,
        (Some(_), Some(_)) => Some("it has more than one SPIFFE ID"),
        (Some(Err(_)), _) => Some("its SPIFFE ID is not valid"),
        (Some(Ok(id)), None) if id.path().is_empty() => None,
        (Some(Ok(_)), None) => Some("its SPIFFE ID has a path, which only workloads may have"),
    }
}

/// The URI names in the subject alternative name; `None` if that extension cannot be read or is there twice.
pub(crate) fn uri_names<'a>(certificate: &'a X509Certificate<'_>) -> Option<Vec<&'a str>> {
    let names = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names,
        Ok(None) => return Some(Vec::new()),
        Err(_) => return None,
    };
    // A URI that is not text must count too: it must not hide beside a good one.
    let uri = |name: &'a GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(*uri),
        GeneralName::Invalid(..) => Some(""),
        _ => None,
    };
    Some(names.iter().filter_map(uri).collect())
}

/// From when to when it is valid.
pub(crate) fn window(certificate: &X509Certificate<'_>) -> Window {
    let validity = certificate.validity();
    Window { not_before: validity.not_before.to_datetime(), not_after: validity.not_after.to_datetime() }
}

/// The serial number in hexadecimal.
pub(crate) fn serial(certificate: &X509Certificate<'_>) -> String {
    match certificate.raw_serial() {
        [0, rest @ ..] if !rest.is_empty() => hex(rest),
        all => hex(all),
    }
}

/// From when to when, both inclusive (RFC 5280 §4.1.2.5), in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl Window {
    pub(crate) fn contains(&self, now: OffsetDateTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// What both have in common.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }
}
