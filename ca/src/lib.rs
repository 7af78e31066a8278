//! The pure certificate authority: identities proven, granted, profiled and signed.
