//! PEM (RFC 7468), strict for input of peers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;
use zeroize::Zeroizing;

/// Label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// Label of a PKCS#8 private key.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// Label of an RSA private key in PKCS#1.
pub const RSA_PRIVATE_KEY: &str = "RSA PRIVATE KEY";
/// Label of an elliptic curve private key (RFC 5915).
pub const EC_PRIVATE_KEY: &str = "EC PRIVATE KEY";
/// Label of a certificate revocation list.
pub const REVOCATION_LIST: &str = "X509 CRL";

/// Why a text is not the PEM that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PemError {
    /// The text does not begin with the block that was expected.
    #[error("the text does not begin with -----BEGIN {0}-----")]
    Begin(&'static str),
    /// The block does not end with its own label.
    #[error("the block does not end with -----END {0}-----")]
    End(&'static str),
    /// Something follows the block.
    #[error("there is text after the one block allowed")]
    Trailing,
    /// The block's content is not base64.
    #[error("the block is not base64")]
    Base64,
    /// A file that should hold certificates holds none that can be read.
    #[error("there is no readable CERTIFICATE block")]
    NoCertificate,
}

/// The content of the one block in `text`, which must have one of `labels` and nothing but white space around it.
///
/// # Errors
/// One variant per departure; the first label is the one that messages name.
pub fn decode_one(text: &str, labels: &[&'static str]) -> Result<Vec<u8>, PemError> {
    let text = text.trim_ascii();
    let found = labels.iter().find_map(|&label| {
        let rest = text.strip_prefix("-----BEGIN ")?.strip_prefix(label)?.strip_prefix("-----")?;
        Some((label, rest))
    });
    let expected = labels.first().copied().unwrap_or(CERTIFICATE);
    let (label, rest) = found.ok_or(PemError::Begin(expected))?;
    let (body, end) = rest.split_once("-----END ").ok_or(PemError::End(label))?;
    let after = end.strip_prefix(label).and_then(|e| e.strip_prefix("-----")).ok_or(PemError::End(label))?;
    if !after.is_empty() {
        return Err(PemError::Trailing);
    }
    let body: Zeroizing<Vec<u8>> =
        Zeroizing::new(body.bytes().filter(|b| !b.is_ascii_whitespace()).collect());
    STANDARD.decode(&*body).map_err(|_| PemError::Base64)
}

/// Every certificate in `text`, in order; other blocks and text between them are passed over.
///
/// # Errors
/// No certificate, or a block that cannot be read.
pub fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(PemError::NoCertificate),
    }
}

/// `der` as one block with a newline at its end.
pub fn encode(label: &str, der: &[u8]) -> String {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut text = String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_and_nothing_else() {
        let block = encode("X", &[7; 100]);
        assert_eq!(decode_one(&block, &["Y", "X"]), Ok(vec![7; 100]));
        assert_eq!(decode_one(&format!("\r\n {block}\n\n"), &["X"]), Ok(vec![7; 100]));
        assert_eq!(decode_one(&block, &["Y"]), Err(PemError::Begin("Y")));
        assert_eq!(decode_one(&format!("a{block}"), &["X"]), Err(PemError::Begin("X")));
        assert_eq!(decode_one(&format!("{block}a"), &["X"]), Err(PemError::Trailing));
        assert_eq!(decode_one(&format!("{block}{block}"), &["X"]), Err(PemError::Trailing));
        assert_eq!(decode_one(&block.replace("END X", "END Z"), &["X"]), Err(PemError::End("X")));
        assert_eq!(decode_one(&block.replacen("BwcH", "Bw!H", 1), &["X"]), Err(PemError::Base64));
        assert_eq!(decode_one(&block.replacen("BwcH", "a: b\n", 1), &["X"]), Err(PemError::Base64));
        assert_eq!(decode_one("", &["X"]), Err(PemError::Begin("X")));
    }

    #[test]
    fn lines_are_64_wide() {
        let block = encode("X", &[0; 96]);
        assert!(block.lines().all(|line| line.len() <= 64), "{block}");
        assert_eq!(block.lines().count(), 4);
    }
}
