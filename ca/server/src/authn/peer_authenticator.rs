//! For calls that go on: lets a peer in, and says when what it proved is over.

use std::{sync::Arc, time::Duration};

use eastwest_ca::{Caller, Proof, peer::PeerError};
use eastwest_io::PeerConnection;
use time::OffsetDateTime;
use tokio::{sync::watch, time::sleep};
use tonic::Status;

use super::{Authenticator, AuthnError, Credentials, client_certificate};
use crate::trust::ca_state::Current;

/// Longest wait before the time of day is looked at again: clocks jump.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Lets peers in whose calls go on.
pub struct PeerAuthenticator {
    authenticator: Arc<Authenticator>,
    current: Current,
}

impl PeerAuthenticator {
    pub(crate) fn new(authenticator: Arc<Authenticator>, current: Current) -> Self {
        Self { authenticator, current }
    }

    /// Who a peer is at `now`, for a call that is answered at once.
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

    /// Who a peer is now, and its validity from now on. A connection on which a certificate was shown in vain ends
    /// soon: the next one may show another.
    ///
    /// # Errors
    /// What is wrong with its proof.
    pub async fn admit(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<(Caller, CredentialValidity), AuthnError> {
        // Before the judgement, so that no change after it goes unnoticed.
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

/// That a peer was let in, until what it proved is over: at the end of its certificate or token, and for a certificate
/// as soon as it is revoked or no root of ours vouches for it.
pub struct CredentialValidity {
    current: Current,
    changes: watch::Receiver<()>,
    expires: Option<OffsetDateTime>,
    /// The connection with the certificates that were the proof, if they were.
    certificate: Option<PeerConnection>,
}

impl CredentialValidity {
    /// Waits until it is over; what the peer is to be told. The connection whose certificate that is ends soon after.
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

    /// Judges the certificate by the roots and revocations of now.
    fn judge(&self) -> Result<(), PeerError> {
        let Some(peer) = &self.certificate else { return Ok(()) };
        client_certificate::verify(&peer.certificates, &self.current.load().roots, OffsetDateTime::now_utc())
    }
}
