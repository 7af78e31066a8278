//! The certificate authority on the wire: gRPC, proofs of identity, key store, serving certificate.
