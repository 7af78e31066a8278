//! Another issuer name for a finished certificate. rcgen keeps one value of each kind in a name, and so loses part of
//! names such as `DC=com, DC=example`; but what is signed must name its issuer byte for byte (RFC 5280 §6.1.3).

use rcgen::SigningKey as _;
use rustls_pki_types::CertificateDer;

use crate::x509::{
    der::{self, Malformed, Reader},
    key::PrivateKey,
};

/// The certificate with `name` as its issuer, signed anew. `None` if it cannot be read or signed.
pub(crate) fn with_issuer(
    certificate: &CertificateDer<'_>,
    name: &[u8],
    key: &PrivateKey,
) -> Option<CertificateDer<'static>> {
    let (tbs, algorithm) = renamed(certificate, name).ok()?;
    let signature = key.sign(&tbs).ok()?;
    let signature = der::element(der::BIT_STRING, &[&[0], &signature]).ok()?;
    let whole = der::element(der::SEQUENCE, &[&tbs, algorithm, &signature]).ok()?;
    Some(whole.to_vec().into())
}

/// What is to be signed (RFC 5280 §4.1), and the algorithm of the signature.
fn renamed<'a>(certificate: &'a [u8], name: &[u8]) -> Result<(Vec<u8>, &'a [u8]), Malformed> {
    let mut whole = Reader::new(Reader::new(certificate).next(der::SEQUENCE)?.content);
    let tbs = whole.next(der::SEQUENCE)?.content;
    let algorithm = whole.next(der::SEQUENCE)?.whole;
    let mut fields = Reader::new(tbs);
    fields.next(der::CONTEXT_0)?; // version
    fields.next(der::INTEGER)?; // serial number
    fields.next(der::SEQUENCE)?; // algorithm
    let before = &tbs[..tbs.len() - fields.rest().len()];
    fields.next(der::SEQUENCE)?; // issuer
    let tbs = der::element(der::SEQUENCE, &[before, name, fields.rest()])?;
    Ok((tbs.to_vec(), algorithm))
}
