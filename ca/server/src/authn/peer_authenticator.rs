//! Authentication of peers, for single calls and for streams, whose credentials may expire.

use std::{sync::Arc, time::Duration};

use eastwest_ca::{Caller, Proof, peer::PeerError};
use eastwest_io::PeerConnection;
use time::OffsetDateTime;
use tokio::{sync::watch, time::sleep};
use tonic::Status;

use super::{Authenticator, AuthnError, Credentials, client_certificate};
use crate::trust::ca_state::Current;

/// Longest wait before the clock is read again: it may jump.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Authenticates peers.
pub struct PeerAuthenticator {
    authenticator: Arc<Authenticator>,
    current: Current,
}

impl PeerAuthenticator {
    pub(crate) fn new(authenticator: Arc<Authenticator>, current: Current) -> Self {
        Self { authenticator, current }
    }

    /// The caller of a single call at `now`.
    ///
    /// # Errors
    /// Why its credentials prove no identity.
    pub(crate) async fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now: OffsetDateTime,
    ) -> Result<Caller, AuthnError> {
        self.authenticator.authenticate(credentials, now).await
    }

    /// The caller of a stream, and how long its credentials stay valid. If the connection has a client certificate and
    /// authentication fails, the connection is closed soon, so that the peer can connect with another certificate.
    ///
    /// # Errors
    /// Why its credentials prove no identity.
    pub async fn admit(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<(Caller, CredentialValidity), AuthnError> {
        // Subscribed before authentication, so that no later change is missed.
        let changes = self.current.changes();
        let peer = credentials.encrypted()?;
        let judged = self.authenticator.authenticate(credentials, OffsetDateTime::now_utc()).await;
        let caller = judged.inspect_err(|_| {
            if !peer.certificates.is_empty() {
                peer.closer.close_soon();
            }
        })?;
        let certificate = matches!(caller.proof, Proof::ClientCertificate { .. }).then(|| peer.clone());
        // The last second of a certificate is one in which it is good.
        let expires = caller.proof.expires().map(|end| end.saturating_add(time::Duration::SECOND));
        Ok((caller, CredentialValidity { current: self.current.clone(), changes, expires, certificate }))
    }
}

/// Whether the credentials of a stream are still valid. They become invalid when the certificate or token expires. A
/// certificate also becomes invalid when it is revoked or when no root leads to it any more.
pub struct CredentialValidity {
    current: Current,
    changes: watch::Receiver<()>,
    expires: Option<OffsetDateTime>,
    /// The connection with the certificates that were the proof, if they were.
    certificate: Option<PeerConnection>,
}

impl CredentialValidity {
    /// Waits until the credentials are invalid; returns the status for the peer. A connection with an invalid
    /// certificate is closed soon after.
    pub async fn over(mut self) -> Status {
        let reason = self.lapse().await;
        if let Some(peer) = &self.certificate {
            peer.closer.close_soon();
        }
        let what = if self.certificate.is_some() { "client certificate" } else { "token" };
        Status::unauthenticated(format!(
            "the {what} that opened this call {reason}: connect again with a new one"
        ))
    }

    async fn lapse(&mut self) -> String {
        loop {
            let left = self.expires.map(|end| end - OffsetDateTime::now_utc());
            if left.is_some_and(|left| !left.is_positive()) {
                return "has expired".to_owned();
            }
            let left = left.and_then(|left| Duration::try_from(left).ok()).unwrap_or(LONGEST_WAIT);
            tokio::select! {
                () = sleep(left.min(LONGEST_WAIT)) => {}
                _ = self.changes.changed() => if let Err(error) = self.judge() {
                    return format!("is no longer trusted ({error})");
                },
            }
        }
    }

    /// Verifies the certificate with the current roots and revocations.
    fn judge(&self) -> Result<(), PeerError> {
        let Some(peer) = &self.certificate else { return Ok(()) };
        client_certificate::verify(&peer.certificates, &self.current.load().roots, OffsetDateTime::now_utc())
    }
}
