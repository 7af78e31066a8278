//! TLS for the gRPC port.

use std::{fmt, sync::Arc};

use eastwest_io::tls;
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::issuing::certificate_authority::CertificateAuthority;

/// The configuration of the gRPC port of `ca`: its current serving certificate, and optional client certificates, which
/// `authn::client_certificate` judges for each request.
pub fn server_config(ca: &Arc<CertificateAuthority>) -> Arc<ServerConfig> {
    tls::grpc_server_config(Arc::new(CurrentCertificate { ca: Arc::clone(ca) }))
}

/// Presents the serving certificate in force, whatever name the client asks for.
struct CurrentCertificate {
    ca: Arc<CertificateAuthority>,
}

impl fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentCertificate")
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.ca.ca_state().serving.key))
    }
}
