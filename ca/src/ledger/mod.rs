//! The ledger: the record of what the CA issued and refused, chained by hashes and signed.
//!
//! ```text
//! segment ─ signer ─ issued ─ refused ─ checkpoint ─ jwt-svid ─ checkpoint ─ …   next segment ─ signer ─ …
//! ```
//! - A [line](chain) is `{"hash":"…","record":{…}}`. The hash is taken over the hash before it and the bytes of the
//!   record as they stand, so nothing can be changed, left out or put in without breaking all that follows.
//! - A checkpoint signs the hash before it with the [ledger key](key). Each commit ends with one, so
//!   every record stands under a signature.
//! - A signer record holds a certificate of the ledger key by the CA. When the CA rotates, the key is certified anew
//!   and stays: the whole ledger can be verified with the roots of any of its certificates.
//! - A segment is a file. It begins with the hash at which the one before it ended, and with a signer, so that it can
//!   be verified when older ones have been moved away.
//!
//! Nothing here is secret: no key, no token, no request.

pub mod chain;
pub mod expiry;
pub mod hash;
pub mod key;
pub mod record;
pub mod refusals;
pub mod verify;

pub use chain::Head;
pub use hash::Hash;
pub use key::LedgerKey;
pub use record::{Event, Issued, JwtSvid, Record, Refused, Requester, Wanted};
pub use refusals::Refusals;
pub use verify::{Broken, Problem, Report, Verifier};

#[cfg(test)]
mod tests;
