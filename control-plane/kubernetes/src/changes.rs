//! Values that are told only when they change.

use tokio::sync::watch;

/// Sends a value, unless it is the one that was sent last.
pub fn send_if_different<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|known| {
        let differs = *known != value;
        *known = value;
        differs
    });
}
