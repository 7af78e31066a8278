//! TLS to the control plane: which roots are trusted, and which client certificate is presented.

use std::path::Path;

use eastwest_io::tls;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::svid::Svid;

/// The trust anchor's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot use the trust anchor {path}: {reason}; --ca-root must name the control plane's root certificate in PEM"
)]
pub(crate) struct CaRootError {
    path: String,
    reason: String,
}

/// The roots that a control plane's certificate may lead to, in PEM: those of `file` and, once a certificate is held,
/// those of the mesh, which are renewed with the certificate even when the file is not.
pub(crate) fn control_plane_roots(file: &Path, held: Option<&Svid>) -> Result<String, CaRootError> {
    let error = |reason: String| CaRootError { path: file.display().to_string(), reason };
    let pem = std::fs::read_to_string(file).map_err(|cause| error(cause.to_string()))?;
    match CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => Err(error("it holds no certificate".into())),
        Err(cause) => Err(error(cause.to_string())),
        Ok(_) => {
            let mesh = held.map_or("", |held| held.bundle_pem.trim());
            let known = pem.contains(mesh);
            Ok(if known { pem } else { format!("{}\n{mesh}\n", pem.trim_end()) })
        }
    }
}

/// The configuration of a connection that trusts `roots` (PEM) and presents `certificate`, if any.
///
/// # Errors
/// No root is usable, or the certificate or its key is not.
pub(super) fn client_config(roots: &str, certificate: Option<&Svid>) -> Result<ClientConfig, rustls::Error> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(roots.as_bytes()).filter_map(Result::ok));
    if store.is_empty() {
        return Err(rustls::Error::General("no certificate of the trust anchor is usable".into()));
    }
    let builder = tls::client_builder().with_root_certificates(store);
    let mut config = match certificate.map(Svid::client_identity).transpose() {
        Ok(None) => builder.with_no_client_auth(),
        Ok(Some((chain, key))) => builder.with_client_auth_cert(chain, key)?,
        Err(error) => return Err(rustls::Error::General(error.to_string())),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
