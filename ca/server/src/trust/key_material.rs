//! What a CA starts with.

use std::sync::Arc;

use eastwest_ca::{LocalIssuer, TrustBundle, TrustedIssuer};

use crate::trust::latest_expiry::LatestExpiry;

/// What a CA signs with, from wherever it was kept.
pub struct KeyMaterial {
    /// Signs certificates.
    pub issuer: Arc<LocalIssuer>,
    /// What peers trust.
    pub roots: TrustBundle,
    /// Until when the certificates live that were issued, kept beside the key.
    pub latest_expiry: Arc<LatestExpiry>,
    /// Issuer of the tokens that our own token key signs, its audiences still empty; `None` if there is no such key.
    pub own_tokens: Option<TrustedIssuer>,
}
