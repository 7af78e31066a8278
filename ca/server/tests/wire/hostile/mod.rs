//! Hostile input on the wire (CA.md A1 to A26 and B1 to B73): the exact answer to each attack, and after each a
//! good request that is answered as if nothing had happened.

#[path = "../../../../tests/forge/mod.rs"]
mod forge;
mod frames;
mod messages;
mod peers;
mod raw;
mod requests;
mod transport;

use std::time::Duration;

use super::common::{Ca, REVIEWS, identity, request};

/// How long a good request may take while others misbehave.
const PATIENCE: Duration = Duration::from_secs(20);

/// A CA under attack.
struct Siege {
    ca: Ca,
}

impl Siege {
    async fn begin() -> Self {
        Self { ca: Ca::start().await }
    }

    /// A good token.
    fn token(&self) -> String {
        self.ca.token("shop", "reviews")
    }

    /// That a newcomer with a good request is served.
    async fn serves(&self, after: &str) {
        let good = async { self.ca.client().token(&self.token()).await.create(request()).await };
        let answer = tokio::time::timeout(PATIENCE, good).await;
        let answer = answer.unwrap_or_else(|_| panic!("after {after}: no answer"));
        assert_eq!(identity(&answer.unwrap_or_else(|status| panic!("after {after}: {status:?}"))), REVIEWS);
    }
}
