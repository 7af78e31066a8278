//! What the X.509 profile answers.

use bytes::Bytes;
use eastwest_proto::spiffe::{X509BundlesResponse, X509svid, X509svidResponse};
use rustls_pki_types::{CertificateDer, pem};
use tonic::Status;

use crate::certificate::svid::Svid;

/// The one identity of the workload; where there is one alone, no hint is needed to tell it from others.
pub(super) fn identities(svid: &Svid) -> Result<X509svidResponse, Status> {
    let (chain, key) = svid.client_identity().map_err(internal)?;
    let identity = X509svid {
        spiffe_id: svid.identity.to_string(),
        x509_svid: concatenated(&chain),
        x509_svid_key: Bytes::copy_from_slice(key.secret_der()),
        bundle: own_bundle(svid)?,
        hint: String::new(),
    };
    Ok(X509svidResponse { svids: vec![identity], ..X509svidResponse::default() })
}

/// The bundles that the workload may verify X.509-SVIDs with: that of its own domain.
pub(super) fn bundles(svid: &Svid) -> Result<X509BundlesResponse, Status> {
    let own = (trust_domain_id(svid), own_bundle(svid)?);
    Ok(X509BundlesResponse { bundles: [own].into(), ..X509BundlesResponse::default() })
}

fn own_bundle(svid: &Svid) -> Result<Bytes, Status> {
    svid.roots().map(|roots| concatenated(&roots)).map_err(internal)
}

/// The SPIFFE ID of the workload's trust domain.
fn trust_domain_id(svid: &Svid) -> String {
    format!("spiffe://{}", svid.identity.trust_domain())
}

/// DER after DER, without anything between (SPIFFE Workload API §5).
fn concatenated(certificates: &[CertificateDer<'_>]) -> Bytes {
    certificates.iter().flat_map(|der| der.iter().copied()).collect()
}

/// The texts were checked when the certificate was accepted.
fn internal(error: pem::Error) -> Status {
    Status::internal(format!("the certificate held cannot be read: {error}"))
}
