//! PEM (RFC 7468): strict for input of peers, and as people have it for files of operators.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
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
    /// A block of a file that begins and does not end.
    #[error("the block {0} ({1}) has no -----END {1}-----; the file is cut off")]
    Unfinished(usize, String),
    /// A block of a file whose content is not base64.
    #[error("the block {0} ({1}) is not base64; it is damaged")]
    Block(usize, String),
    /// A file that should hold certificates holds blocks of other kinds, or none.
    #[error("there is no readable CERTIFICATE block{}", found(.0))]
    NoCertificate(Vec<String>),
    /// A file in DER, or a PKCS#12 archive.
    #[error(
        "it is not PEM but DER or PKCS#12: convert it with `openssl x509 -inform DER` (a certificate), `openssl pkey \
         -inform DER` (a key) or `openssl pkcs12 -nodes` (both)"
    )]
    Der,
    /// A text of two bytes a character, as Windows writes it.
    #[error("it is text in UTF-16: save it as UTF-8")]
    Utf16,
}

/// What a file has in place of what it should have.
pub(crate) fn found(labels: &[String]) -> String {
    match labels {
        [] => String::new(),
        labels => format!(", but {}", labels.join(", ")),
    }
}

/// A block of a file.
pub(crate) struct Block {
    /// Its label, as `CERTIFICATE`.
    pub(crate) label: String,
    /// Whether a header says that it is encrypted (RFC 1421 §4.6.1.1).
    pub(crate) encrypted: bool,
    /// Its content; what is encrypted stays so.
    pub(crate) content: Zeroizing<Vec<u8>>,
}

/// Every block of a file that people wrote or a tool did. Text before, between and after blocks is passed over (the
/// attributes of `openssl pkcs12`, the text of `openssl x509 -text`), and so are a byte-order mark and spaces at the ends of
/// lines.
///
/// # Errors
/// A block that does not end or is no base64, or a file that is no PEM at all.
pub(crate) fn blocks(file: &[u8]) -> Result<Vec<Block>, PemError> {
    if file.starts_with(&[0xff, 0xfe]) || file.starts_with(&[0xfe, 0xff]) {
        return Err(PemError::Utf16);
    }
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut lines = file.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(label) = marked(line, b"-----BEGIN ") else { continue };
        let (number, label) = (blocks.len() + 1, label.to_owned());
        let (mut base64, mut encrypted) = (Zeroizing::new(Vec::with_capacity(file.len())), false);
        loop {
            let Some(line) = lines.next() else { return Err(PemError::Unfinished(number, label)) };
            match marked(line, b"-----END ") {
                Some(end) if end == label => break,
                Some(_) => return Err(PemError::Unfinished(number, label)),
                None if line.starts_with(b"-----BEGIN ") => return Err(PemError::Unfinished(number, label)),
                // A header, such as `Proc-Type: 4,ENCRYPTED`; base64 has no colons.
                None if line.contains(&b':') => encrypted |= line.ends_with(b"ENCRYPTED"),
                None => base64.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace())),
            }
        }
        let content = STANDARD.decode(&*base64).map_err(|_| PemError::Block(number, label.clone()));
        // The content of an encrypted block is of no use.
        let content = if encrypted { content.or_else(|_| Ok(Vec::new())) } else { content };
        blocks.push(Block { label, encrypted, content: Zeroizing::new(content?) });
    }
    match blocks.is_empty()
        && file.first() == Some(&0x30)
        && file.get(1).is_some_and(|length| *length >= 0x80)
    {
        true => Err(PemError::Der),
        false => Ok(blocks),
    }
}

/// The label of a line that begins with `mark` and ends with dashes.
fn marked<'a>(line: &'a [u8], mark: &[u8]) -> Option<&'a str> {
    std::str::from_utf8(line.strip_prefix(mark)?.strip_suffix(b"-----")?).ok()
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

/// Every certificate in a file, in order; other blocks and text between them are passed over.
///
/// # Errors
/// No certificate, or a block that cannot be read.
pub fn certificates(file: &(impl AsRef<[u8]> + ?Sized)) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let (mut certificates, mut others) = (Vec::new(), Vec::new());
    for Block { label, content, .. } in blocks(file.as_ref())? {
        let certificate = CertificateDer::from(content.to_vec());
        match label == CERTIFICATE || label == "X509 CERTIFICATE" {
            true => certificates.push(certificate),
            false => others.push(label),
        }
    }
    if certificates.is_empty() { Err(PemError::NoCertificate(others)) } else { Ok(certificates) }
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
