//! A summary of a certificate, for people and for JSON.

use ring::digest;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::extensions::GeneralName;

use crate::x509::{
    self, network,
    public_key::{PublicKey, hex},
};

/// A summary of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateSummary {
    /// Subject, as RFC 4514 text; often empty.
    pub subject: String,
    /// DNS names, URIs and IP addresses.
    pub names: Vec<String>,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// Start of its life, RFC 3339.
    pub not_before: String,
    /// End of its life, RFC 3339.
    pub not_after: String,
    /// Kind of key, e.g. `ECDSA P-256`.
    pub key: String,
    /// SHA-256 of the whole certificate in hexadecimal.
    pub sha256: String,
}

impl CertificateSummary {
    /// Describes a certificate; `None` if it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = x509::parse(certificate)?;
        let window = x509::window(&parsed);
        let date = |date: OffsetDateTime| date.format(&Rfc3339).unwrap_or_default();
        let names = parsed.subject_alternative_name().ok()?.map_or_else(Vec::new, |extension| {
            let text = |name: &GeneralName<'_>| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => network::ip(bytes).map(|ip| ip.to_string()),
                _ => None,
            };
            extension.value.general_names.iter().filter_map(text).collect()
        });
        let key = PublicKey::from_spki(parsed.public_key().raw);
        Some(Self {
            subject: parsed.subject().to_string(),
            names,
            serial: x509::serial(&parsed),
            not_before: date(window.not_before),
            not_after: date(window.not_after),
            key: key.map_or_else(|_| "another kind".to_owned(), |key| key.kind().to_string()),
            sha256: hex(digest::digest(&digest::SHA256, certificate).as_ref()),
        })
    }
}
