//! The one cryptography provider, for checking and for connections alike.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

/// ring, with its default choice of algorithms.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
