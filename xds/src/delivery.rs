//! The responses of one type on one stream: sent, acknowledged (ACK), rejected (NACK).

use std::time::{Duration, Instant};

use crate::request::Reaction;
use crate::resource::Version;
use crate::response::Serial;
use crate::subscription::Subscription;

/// The longest time that a push waits for the ACK or NACK of the response before it. Some clients send neither after
/// they dropped a subscription, so there must be a limit (XDS.md X57).
const ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest error text that is kept, in bytes.
const MAX_ERROR: usize = 4096;

/// With these words stock Envoy says what it did not take of a response, when it has taken the rest (XDS.md X69).
const PARTLY: &str = "Error adding/updating";

/// The state of a type on a stream, named as `istioctl proxy-status` does (XDS.md X59).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// Requested, but nothing was sent yet.
    NotSent,
    /// The last response was accepted.
    Synced,
    /// The last response is not answered yet.
    Stale,
    /// The client rejected a resource, and it was not replaced yet.
    Error,
}

impl SyncState {
    /// The word that `istioctl proxy-status` prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "NOT SENT",
            Self::Synced => "SYNCED",
            Self::Stale => "STALE",
            Self::Error => "ERROR",
        }
    }
}

/// Sent, accepted and rejected responses of one type on one stream.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) sent: Option<Sent>,
    pub(crate) acked: Option<Serial>,
    pub(crate) rejection: Option<Rejection>,
    pub(crate) rejects: u64,
}

/// The latest response.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) serial: Serial,
    pub(crate) version: Version,
    pub(crate) at: Instant,
    answered: bool,
}

/// A response that the client rejected (NACK), in whole or in part.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) message: String,
    serial: Serial,
    /// Something is held back for it.
    holds: bool,
    /// When the latest response had been sent. `None` = there was none.
    pub(crate) at: Option<Instant>,
}

impl Delivery {
    /// Records a response.
    pub(crate) fn send(&mut self, serial: Serial, version: Version, at: Instant) {
        self.sent = Some(Sent { serial, version, at, answered: false });
    }

    /// Whether `serial` is the latest response of this type.
    pub(crate) fn is_latest(&self, serial: Option<Serial>) -> bool {
        self.sent.as_ref().is_some_and(|sent| Some(sent.serial) == serial)
    }

    /// Records an answer to the response `serial`, which need not be the latest one.
    pub(crate) fn answer(
        &mut self,
        serial: Serial,
        error: Option<String>,
        subscription: &mut Subscription,
    ) -> Reaction {
        let Some(sent) = &mut self.sent else { return Reaction::Stale };
        let latest = sent.serial == serial;
        sent.answered |= latest;
        if let Some(message) = error {
            return self.reject(serial, message, subscription);
        }
        self.acked = self.acked.max(Some(serial));
        subscription.accept(serial);
        let later = self.rejection.as_ref().is_some_and(|rejection| serial > rejection.serial);
        if later && subscription.accepts_all() {
            self.rejection = None;
        }
        if latest { Reaction::Ack } else { Reaction::Stale }
    }

    /// Nothing is to be sent: a rejection is over whose resources are gone (XDS.md X70).
    pub(crate) fn resolve(&mut self, subscription: &Subscription) {
        let over = self.rejection.as_ref().is_some_and(|one| one.holds) && subscription.accepts_all();
        if let Some(sent) = self.sent.as_ref().filter(|sent| over && sent.answered) {
            self.acked = Some(sent.serial);
            self.rejection = None;
        }
    }

    fn reject(&mut self, serial: Serial, message: String, subscription: &mut Subscription) -> Reaction {
        let others_taken = message.starts_with(PARTLY);
        subscription.refuse(serial, |name| mentions(&message, name), others_taken);
        let message = shorten(message);
        self.rejects += 1;
        let at = self.sent.as_ref().map(|sent| sent.at);
        self.rejection =
            Some(Rejection { message: message.clone(), serial, at, holds: !subscription.accepts_all() });
        Reaction::Nack(message)
    }

    /// The end of the ACK timeout of the latest response; `None` if it is answered or the time is over.
    pub(crate) fn ack_deadline(&self, now: Instant) -> Option<Instant> {
        let until = self.sent.as_ref().filter(|sent| !sent.answered).map(|sent| sent.at + ACK_TIMEOUT);
        until.filter(|until| *until > now)
    }

    /// Since when the type is in its state: when the response was sent that led to it.
    pub(crate) fn since(&self) -> Option<Instant> {
        let refused = self.rejection.as_ref().and_then(|rejection| rejection.at);
        refused.or(self.sent.as_ref().map(|sent| sent.at))
    }

    /// The state of this type.
    pub(crate) fn state(&self) -> SyncState {
        match (&self.sent, &self.rejection) {
            (None, _) => SyncState::NotSent,
            (Some(_), Some(_)) => SyncState::Error,
            (Some(sent), None) if self.acked == Some(sent.serial) => SyncState::Synced,
            (Some(_), None) => SyncState::Stale,
        }
    }
}

fn shorten(mut message: String) -> String {
    if message.len() > MAX_ERROR {
        let end = (0..=MAX_ERROR).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Whether `message` contains the name of a resource, not only as part of a longer name.
fn mentions(message: &str, name: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '|');
    !name.is_empty()
        && message.match_indices(name).any(|(start, _)| {
            let before = message[..start].chars().next_back();
            let after = message[start + name.len()..].chars().next();
            !before.is_some_and(joins) && !after.is_some_and(joins)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_mentions_whole_names_only() {
        let message = "Error adding/updating listener(s) virtualInbound: no such filter\n10.0.0.1_80: bad";
        assert!(mentions(message, "virtualInbound"));
        assert!(mentions(message, "10.0.0.1_80"));
        assert!(!mentions(message, "virtual"));
        assert!(!mentions(message, "0.0.1_8"));
        assert!(!mentions(message, ""));
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let cut = shorten("é".repeat(MAX_ERROR));
        assert!(cut.len() <= MAX_ERROR + '…'.len_utf8());
        assert!(cut.ends_with("é…"));
    }
}
