//! TLS configuration: 1.2 and 1.3, with ring as the only provider of cryptography.

use std::sync::Arc;

use rustls::{
    CertificateError, CipherSuite, ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName,
    Error, ServerConfig, SignatureScheme, WantsVerifier,
    client::danger::HandshakeSignatureValid,
    crypto::{self, CryptoProvider},
    server::{
        NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, UnixTime};

/// Why the builders below cannot fail.
const SUITES: &str = "ring has cipher suites for TLS 1.2 and 1.3";

/// ring with its default algorithms.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::ring::default_provider())
}

/// The beginning of a server's configuration.
pub fn server_builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    server_builder_with(provider())
}

fn server_builder_with(provider: Arc<CryptoProvider>) -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]).expect(SUITES)
}

/// The beginning of a client's configuration.
pub fn client_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12]).expect(SUITES)
}

/// The configuration of a gRPC port that serves the certificate that `certificate` chooses, and requests client
/// certificates without requiring them.
///
/// A client certificate is verified only so far that the client holds its key. The caller judges the certificate for
/// each request, so that a bad certificate does not invalidate a good token (CA.md A22).
///
/// Sessions are not resumed: a ticket could outlive the client's certificate (CA.md C10).
pub fn grpc_server_config(certificate: Arc<dyn ResolvesServerCert>) -> Arc<ServerConfig> {
    let mut provider = crypto::ring::default_provider();
    // The server's order counts, and the suite with SHA-256 goes first: most processors have instructions for it, and a
    // handshake with SHA-384 spends an eighth of its time in that hash.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let verifier = Arc::new(ProofOfPossession { provider: Arc::clone(&provider) });
    let mut config =
        server_builder_with(provider).with_client_cert_verifier(verifier).with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.ignore_client_order = true;
    Arc::new(config)
}

/// Accepts clients without a certificate, and every client that holds the key of its certificate.
#[derive(Debug)]
struct ProofOfPossession {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for ProofOfPossession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[] // without a hint, clients present whatever certificate they have
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if end_entity.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        Ok(ClientCertVerified::assertion())
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
