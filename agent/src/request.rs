//! One certificate, requested once: for tests and scripts that need no agent.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use eastwest_ca::ServingName;
use eastwest_identity::SpiffeId;
use eastwest_io::files::create_private_dir;
use tonic::Code;
use zeroize::Zeroizing;

use crate::{
    certificate::{
        client::{CaClient, CaClientConfig, IssueError, TokenSource, system_clock},
        files as certificate_files,
        rotation::Issue as _,
        svid::Svid,
    },
    config::{ConfigError, control_plane},
};

/// The CA, the certificate to request, and the proof of identity.
pub struct CertificateRequest {
    /// TLS address of the CA, HOST:PORT.
    pub server: String,
    /// DNS name or IP address expected in its certificate; the host if `None`.
    pub server_name: Option<String>,
    /// File with the trust anchor for the CA.
    pub ca_root: PathBuf,
    /// Proof of the identity.
    pub token: TokenSource,
    /// The identity; the proof must be for it.
    pub identity: SpiffeId,
    /// DNS names and addresses that the certificate must have beside it.
    pub names: Vec<ServingName>,
    /// Whether the CA may choose another trust domain.
    pub any_trust_domain: bool,
    /// Name of the cluster that the token is of.
    pub cluster_id: String,
    /// Requested lifetime.
    pub cert_ttl: Duration,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateRequestError {
    /// The request is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The CA did not answer, or refused.
    #[error(transparent)]
    Refused(#[from] IssuanceError),
}

/// The CA did not answer, or refused.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct IssuanceError(#[from] IssueError);

impl IssuanceError {
    /// Whether the CA understood the request and said no: another request may get another answer, the same one will not.
    pub fn is_denial(&self) -> bool {
        match &self.0 {
            IssueError::Refused(status) => {
                matches!(
                    status.code(),
                    Code::PermissionDenied | Code::Unauthenticated | Code::ResourceExhausted
                )
            }
            IssueError::Answer(_) => true,
            _ => false,
        }
    }
}

/// A key and its certificate, checked as the agent checks its own. `Debug` prints no secret.
#[derive(Debug)]
pub struct IssuedCertificate(Svid);

/// Generates a key, requests a certificate for it, and checks the response.
///
/// # Errors
/// See [`CertificateRequestError`].
pub async fn request_certificate(
    request: CertificateRequest,
) -> Result<IssuedCertificate, CertificateRequestError> {
    let server = control_plane("--server", &request.server, request.server_name.as_deref());
    let config = CaClientConfig {
        control_plane: server.map_err(|mistake| ConfigError(vec![format!("--server: {mistake}")]))?,
        identity: request.identity,
        names: request.names,
        any_trust_domain: request.any_trust_domain,
        ca_root: request.ca_root,
        token: request.token,
        cluster_id: request.cluster_id,
        cert_ttl: request.cert_ttl,
    };
    let svid = CaClient::new(config, system_clock()).issue(None, 0).await;
    Ok(IssuedCertificate(svid.map_err(IssuanceError)?))
}

impl IssuedCertificate {
    /// The identity in the certificate.
    pub fn identity(&self) -> &SpiffeId {
        &self.0.identity
    }

    /// Serial number, hexadecimal.
    pub fn serial(&self) -> &str {
        &self.0.serial
    }

    /// End of its validity.
    pub fn not_after(&self) -> SystemTime {
        self.0.not_after
    }

    /// Leaf and intermediates, PEM.
    pub fn chain_pem(&self) -> &str {
        &self.0.chain_pem
    }

    /// The roots that peers of the holder must trust, PEM.
    pub fn roots_pem(&self) -> &str {
        &self.0.bundle_pem
    }

    /// The private key, PKCS #8 in PEM.
    pub fn key_pem(&self) -> &Zeroizing<String> {
        &self.0.key_pem
    }

    /// Writes `cert-chain.pem`, `key.pem` (mode 0600) and `root-cert.pem` into `dir`, creating it if absent.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        create_private_dir(dir)?;
        certificate_files::write(&self.0, dir)
    }
}
