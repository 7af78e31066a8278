//! What a record of the ledger says.

use std::net::IpAddr;

use eastwest_identity::SpiffeId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::hash::Hash;
use crate::{
    authn::{caller::Caller, jwt::SignedSvid},
    issuing::{grant::Grant, issuer::IssuedCertificate},
    x509::csr::VerifiedCsr,
};

/// The longest reason, in bytes: parts of it come from unauthenticated peers.
const MAX_REASON: usize = 512;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number in the ledger, from 1 without gaps.
    pub seq: u64,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A [`Record`] to be written.
#[derive(Serialize)]
pub(super) struct Written<'a> {
    pub(super) seq: u64,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) time: OffsetDateTime,
    #[serde(flatten)]
    pub(super) event: &'a Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Event {
    /// A file began.
    Segment {
        /// Its number, from 1.
        number: u64,
        /// The hash at which the one before it ended.
        previous: Hash,
    },
    /// The CA certified a ledger key.
    Signer {
        /// SHA-256 of its SubjectPublicKeyInfo.
        key: String,
        /// The same of the CA's key.
        ca: String,
        /// Its certificate and the intermediates above it, in DER as base64.
        chain: Vec<String>,
    },
    /// A certificate was issued.
    Issued(Box<Issued>),
    /// A JWT-SVID was issued.
    #[serde(rename = "jwt-svid")]
    JwtSvid(Box<JwtSvid>),
    /// A certificate or a JWT-SVID was refused.
    Refused(Box<Refused>),
    /// A crash had left half a record, which was cut off.
    Repaired {
        /// How many bytes.
        bytes: u64,
        /// Their SHA-256.
        sha256: String,
    },
    /// A signature over everything before.
    Checkpoint {
        /// The ledger key.
        key: String,
        /// Its signature over the hash before this record, as base64.
        signature: String,
    },
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Whom it names.
    pub identity: SpiffeId,
    /// DNS names and addresses beside the identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// Kind of its key.
    pub key: String,
    /// SHA-256 of the key's SubjectPublicKeyInfo.
    pub key_sha256: String,
    /// End of its life.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// Seconds granted; the end of the signing chain may cut them.
    pub ttl: u64,
    /// Who requested it.
    #[serde(flatten)]
    pub requester: Requester,
}

impl Issued {
    /// The record of `leaf`.
    pub fn new(leaf: &IssuedCertificate, grant: &Grant, csr: &VerifiedCsr, requester: Requester) -> Self {
        Self {
            identity: grant.identity().clone(),
            names: grant.names().iter().map(ToString::to_string).collect(),
            serial: leaf.serial.clone(),
            key: csr.key().kind().to_string(),
            key_sha256: csr.key().fingerprint(),
            not_after: leaf.not_after,
            ttl: grant.lifetime().as_secs(),
            requester,
        }
    }
}

/// A JWT-SVID that was issued. The token itself is not recorded: a token that was found is compared by its `jti`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtSvid {
    /// Whom it names, its `sub`.
    pub identity: SpiffeId,
    /// Its `jti`.
    pub jti: String,
    /// Who shall accept it, its `aud`.
    pub audience: Vec<String>,
    /// End of its life.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// Seconds of it.
    pub ttl: u64,
    /// Who requested it.
    #[serde(flatten)]
    pub requester: Requester,
}

impl JwtSvid {
    /// What is to be said about `svid`, made for `audience` and `ttl` seconds.
    pub fn new(
        svid: &SignedSvid,
        identity: SpiffeId,
        audience: Vec<String>,
        ttl: u64,
        requester: Requester,
    ) -> Self {
        Self { identity, jti: svid.jti.clone(), audience, not_after: svid.expires, ttl, requester }
    }
}

/// What was requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// A certificate; where a record does not say, it was one.
    #[default]
    Certificate,
    /// A JWT-SVID.
    JwtSvid,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_certificate(wanted: &Wanted) -> bool {
    *wanted == Wanted::Certificate
}

/// A refusal, or many alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What was asked for.
    #[serde(default, skip_serializing_if = "is_certificate")]
    pub wanted: Wanted,
    /// The gRPC code answered.
    pub code: String,
    /// Why; of many, why the last.
    pub reason: String,
    /// How many.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
    /// When the first of many was.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub since: Option<OffsetDateTime>,
    /// Who requested it, as far as is known.
    #[serde(flatten)]
    pub requester: Requester,
}

fn one() -> u64 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for a reference
fn is_one(count: &u64) -> bool {
    *count == 1
}

impl Refused {
    /// A single refusal of a certificate with a gRPC code.
    pub fn new(code: impl Into<String>, reason: impl Into<String>, requester: Requester) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        Self { wanted: Wanted::Certificate, code: code.into(), reason, count: 1, since: None, requester }
    }

    /// The same refusal of something else.
    #[must_use]
    pub fn of(self, wanted: Wanted) -> Self {
        Self { wanted, ..self }
    }
}

/// Who sent a request, and how its identity was proven.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// The proven identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<SpiffeId>,
    /// How.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Issuer of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_issuer: Option<String>,
    /// Subject of a job's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_subject: Option<String>,
    /// Serial number of the client certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_serial: Option<String>,
    /// The pod that the token is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its UID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// The node it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The pod that a node's proxy spoke for, `NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_pod: Option<String>,
    /// Where the request came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
}

impl Requester {
    /// An authenticated peer.
    pub fn caller(caller: &Caller, peer: Option<IpAddr>) -> Self {
        let proof = &caller.proof;
        Self {
            caller: Some(caller.identity.clone()),
            proof: Some(proof.kind().to_owned()),
            proof_issuer: proof.issuer().map(str::to_owned),
            proof_subject: proof.subject().map(str::to_owned),
            proof_serial: proof.serial().map(str::to_owned),
            pod: proof.pod().map(|pod| pod.name.clone()),
            pod_uid: proof.pod().map(|pod| pod.uid.clone()),
            node: proof.node().map(|node| node.name.clone()),
            for_pod: caller.represented().map(|represented| represented.pod().to_string()),
            peer,
        }
    }

    /// An unauthenticated peer.
    pub fn stranger(peer: Option<IpAddr>) -> Self {
        Self { peer, ..Self::default() }
    }
}
