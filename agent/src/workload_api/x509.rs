//! Responses of the X.509 profile.

use std::collections::BTreeMap;

use bytes::Bytes;
use eastwest_identity::TrustDomain;
use eastwest_proto::spiffe::{X509BundlesResponse, X509svid, X509svidResponse};
use rustls_pki_types::{CertificateDer, pem};
use tonic::Status;

use super::state::WorkloadState;

/// The one identity of the workload, and the bundles of other domains. A single identity needs no hint.
pub(super) fn identities(known: &WorkloadState) -> Result<X509svidResponse, Status> {
    let svid = &known.svid;
    let (chain, key) = svid.client_identity().map_err(internal)?;
    let identity = X509svid {
        spiffe_id: svid.identity.to_string(),
        x509_svid: concatenated(&chain),
        x509_svid_key: Bytes::copy_from_slice(key.secret_der()),
        bundle: concatenated(&known.own_roots().map_err(internal)?),
        hint: String::new(),
    };
    Ok(X509svidResponse { svids: vec![identity], crl: Vec::new(), federated_bundles: foreign(known) })
}

/// The bundles that the workload may verify X.509-SVIDs with, each under its own domain.
pub(super) fn bundles(known: &WorkloadState) -> Result<X509BundlesResponse, Status> {
    let mut bundles = foreign(known);
    bundles.insert(id(&known.own()), concatenated(&known.own_roots().map_err(internal)?));
    Ok(X509BundlesResponse { crl: Vec::new(), bundles })
}

/// The bundles of other domains. One without roots is left out, because its domain is no longer trusted.
fn foreign(known: &WorkloadState) -> BTreeMap<String, Bytes> {
    let own = known.own();
    let others = known.bundles.iter().filter(|(domain, _)| **domain != own);
    others
        .filter(|(_, bundle)| !bundle.certificates().is_empty())
        .map(|(domain, bundle)| (id(domain), concatenated(bundle.certificates())))
        .collect()
}

/// The SPIFFE ID of a trust domain.
pub(super) fn id(domain: &TrustDomain) -> String {
    format!("spiffe://{domain}")
}

/// DER after DER, without anything between (SPIFFE Workload API §5).
fn concatenated(certificates: &[CertificateDer<'_>]) -> Bytes {
    certificates.iter().flat_map(|der| der.iter().copied()).collect()
}

/// Cannot happen: the texts were parsed when the certificate was accepted.
fn internal(error: pem::Error) -> Status {
    Status::internal(format!("the certificate held cannot be read: {error}"))
}
