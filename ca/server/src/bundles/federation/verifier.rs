//! Verification of the servers of bundle endpoints.

use std::{fs, path::Path, sync::Arc};

use eastwest_ca::{TrustBundle, peer};
use eastwest_identity::SpiffeId;
use eastwest_io::tls;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};
use time::OffsetDateTime;

/// TLS to a server that is known by its host name, and vouched for by the CAs in `file` or by the system's.
///
/// # Errors
/// No usable CA.
pub(super) fn web(file: Option<&Path>) -> Result<ClientConfig, String> {
    let certificates = match file {
        None => rustls_native_certs::load_native_certs().certs,
        Some(path) => {
            let pem = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect()
        }
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        let place = file.map_or_else(|| "the system".to_owned(), |path| path.display().to_string());
        return Err(format!("{place} has no usable CA certificate; name others with ca=FILE"));
    }
    Ok(tls::client_builder().with_root_certificates(roots).with_no_client_auth())
}

/// TLS to a server that is known by its SPIFFE ID, vouched for by the bundle of that ID's own trust domain.
pub(super) fn spiffe(id: SpiffeId, roots: TrustBundle) -> ClientConfig {
    let verifier = Arc::new(BySpiffeId { id, roots, provider: tls::provider() });
    tls::client_builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

#[derive(Debug)]
struct BySpiffeId {
    id: SpiffeId,
    roots: TrustBundle,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for BySpiffeId {
    /// The host name is not checked: the SPIFFE ID identifies the server.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let now = OffsetDateTime::from_unix_timestamp(seconds);
        let now = now.map_err(|_| Error::General("the clock is out of range".to_owned()))?;
        peer::verify_server(&chain, &self.roots, &self.id, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(|error| Error::General(error.to_string()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
