//! One certificate, asked for once and handed over: for tests and scripts that need no companion.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use eastwest_identity::SpiffeId;
use zeroize::Zeroizing;

use crate::{
    certificate::{
        client::{Ask, CaClient, IssueError, TokenSource, system_clock},
        rotation::Issue as _,
        svid::Svid,
        written,
    },
    config::{ConfigError, control_plane},
    files,
};

/// What is asked for, of whom, and by what proof.
pub struct Order {
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
    /// Whether the CA may choose another trust domain.
    pub any_trust_domain: bool,
    /// Name of the cluster that the token is of.
    pub cluster_id: String,
    /// Life of the certificate.
    pub cert_ttl: Duration,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// What was asked for makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody answered, or the answer was no.
    #[error(transparent)]
    Refused(#[from] RefusedError),
}

/// Nobody answered, or the answer was no.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RefusedError(#[from] IssueError);

/// A key and its certificate, checked as the agent checks its own. Shows no secret.
#[derive(Debug)]
pub struct Ordered(Svid);

/// Makes a key, has it certified, and checks the answer.
///
/// # Errors
/// See [`OrderError`].
pub async fn order(order: Order) -> Result<Ordered, OrderError> {
    let server = control_plane("--server", &order.server, order.server_name.as_deref());
    let ask = Ask {
        control_plane: server.map_err(|mistake| ConfigError(vec![format!("--server: {mistake}")]))?,
        identity: order.identity,
        any_trust_domain: order.any_trust_domain,
        ca_root: order.ca_root,
        token: order.token,
        cluster_id: order.cluster_id,
        cert_ttl: order.cert_ttl,
    };
    let svid = CaClient::new(ask, system_clock()).issue(None, 0).await;
    Ok(Ordered(svid.map_err(RefusedError)?))
}

impl Ordered {
    /// Whose certificate it is.
    pub fn identity(&self) -> &SpiffeId {
        &self.0.identity
    }

    /// Serial number, hexadecimal.
    pub fn serial(&self) -> &str {
        &self.0.serial
    }

    /// End of its life.
    pub fn not_after(&self) -> SystemTime {
        self.0.not_after
    }

    /// Leaf and intermediates, PEM.
    pub fn chain_pem(&self) -> &str {
        &self.0.chain_pem
    }

    /// What the peers of its holder must trust, PEM.
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
    /// The system refused.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        files::create_private_dir(dir)?;
        written::write(&self.0, dir)
    }
}
