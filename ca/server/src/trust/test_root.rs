//! A root whose key everybody has: a fixed trust anchor for golden tests, and nothing else.

use eastwest_ca::{TrustBundle, pem};
use time::OffsetDateTime;

use crate::trust::{key_material::KeyMaterial, provided_root::ProvidedRootError};

/// Its certificate, which never changes; its subject says what it is.
pub const CERTIFICATE_PEM: &str = include_str!("test_root/root-cert.pem");
/// Its key, for everybody to read.
pub const KEY_PEM: &str = include_str!("test_root/root-key.pem");
/// What everybody must be told who meets it.
pub const WARNING: &str = "INSECURE TEST ROOT: the key of this root is published in the source of eastwest, so anybody \
                           can make certificates that it vouches for. Never trust it outside a test.";

/// Signs with it.
///
/// # Errors
/// The clock is beyond the years 2020 to 2120.
pub fn key_material(now: OffsetDateTime) -> Result<KeyMaterial, ProvidedRootError> {
    KeyMaterial::given(CERTIFICATE_PEM, KEY_PEM, now)
}

/// Whether it is one of these roots, wherever they came from.
pub fn is_among(roots: &TrustBundle) -> bool {
    let certificates = pem::certificates(CERTIFICATE_PEM).unwrap_or_default();
    certificates.iter().any(|certificate| roots.contains(certificate))
}

#[cfg(test)]
mod tests {
    use eastwest_ca::CertificateSummary;

    use super::*;

    /// The fingerprint stands in golden tests of others: it must never change.
    #[test]
    fn the_test_root_is_fixed_and_says_what_it_is() {
        let keys = key_material(OffsetDateTime::now_utc()).unwrap();
        assert!(is_among(&keys.roots));
        let summary = CertificateSummary::of(keys.roots.certificates().next().unwrap()).unwrap();
        assert!(summary.subject.contains("eastwest INSECURE TEST ROOT"), "{}", summary.subject);
        let fingerprint = summary.sha256.replace(':', "").to_lowercase();
        assert_eq!(fingerprint, "4ceb183227bfcd23cc688b7752596b30fbe6687bbd47b0e3d7ce20babbe1c1a4");
    }
}
