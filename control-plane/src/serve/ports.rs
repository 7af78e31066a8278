//! The ports of a server: gRPC over TLS, HTTP, and plaintext gRPC if there is a mesh and it is wanted.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::Router;
use eastwest_ca_server::{CertificateAuthority, bundles::IdentityService, server_config};
use eastwest_io::{Incoming, defects::Defect, grpc_server, http};
use eastwest_proto::{
    eastwest::v1::workload_identity_server,
    envoy::service::{
        discovery::v3::aggregated_discovery_service_server,
        status::v3::client_status_discovery_service_server,
    },
    istio::v1::auth::istio_certificate_service_server,
};
use eastwest_xds_server::XdsServer;
use tokio::{net::TcpListener, task::JoinHandle};

use super::shutdown::Shutdown;

/// Addresses of the ports: those to bind, or those that are bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PortAddresses {
    /// Plaintext gRPC, for proxies on this machine.
    pub(crate) plaintext: Option<SocketAddr>,
    /// gRPC over TLS.
    pub(crate) tls: SocketAddr,
    /// HTTP.
    pub(crate) http: SocketAddr,
}

/// Bound. HTTP is served already, gRPC not yet.
pub(super) struct Ports {
    plaintext: Option<TcpListener>,
    tls: TcpListener,
    http: SocketAddr,
    pages: JoinHandle<()>,
}

/// What the ports serve.
pub(super) struct Services {
    /// xDS on the plaintext port, which authenticates nobody.
    pub(super) plaintext_xds: Option<XdsServer>,
    /// xDS on the TLS port.
    pub(super) xds: Option<XdsServer>,
    pub(super) ca: Arc<CertificateAuthority>,
    pub(super) identity: IdentityService,
}

impl Ports {
    /// Binds the ports, and serves `pages` over HTTP until the shutdown.
    ///
    /// # Errors
    /// An address is in use or not of this machine; names the flag.
    pub(super) async fn bind(
        addresses: &PortAddresses,
        pages: Router,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let plaintext = match addresses.plaintext {
            Some(address) => Some(bind("--grpc-addr", address).await?),
            None => None,
        };
        let tls = bind("--grpc-tls-addr", addresses.tls).await?;
        let listener = bind("--http-addr", addresses.http).await?;
        let address = listener.local_addr()?;
        let pages = tokio::spawn(http::serve(listener, pages, shutdown.requested()));
        Ok(Self { plaintext, tls, http: address, pages })
    }

    /// The bound addresses.
    pub(super) fn addresses(&self) -> std::io::Result<PortAddresses> {
        let plaintext = self.plaintext.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(PortAddresses { plaintext, tls: self.tls.local_addr()?, http: self.http })
    }

    /// Serves until the shutdown: its first signal ends new connections, HTTP ends with the streams.
    pub(super) async fn serve(self, services: Services, shutdown: Shutdown) -> anyhow::Result<()> {
        let Services { plaintext_xds, xds, ca, identity } = services;
        // A port that ends before its time takes the process with it.
        let whole = |ended: anyhow::Result<()>| match shutdown.is_requested() {
            true => ended,
            false => ended.and(Err(Defect("a port").into())),
        };
        let plaintext = async {
            match self.plaintext.zip(plaintext_xds) {
                Some(port) => whole(serve_plaintext(port, &shutdown).await),
                None => Ok(()),
            }
        };
        let tls = async { whole(serve_tls(self.tls, &ca, xds, identity, &shutdown).await) };
        let pages = async { whole(self.pages.await.context("the task of the HTTP port")) };
        tokio::try_join!(plaintext, tls, pages).map(drop)
    }
}

/// Binds one port.
async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let remedy = "is another control plane running? Choose another address, or port 0 for any free one";
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("{flag}: cannot listen on {address} ({remedy})"))
}

/// Plaintext gRPC until the shutdown: xDS alone.
async fn serve_plaintext(
    (listener, xds): (TcpListener, XdsServer),
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let server = grpc_server().add_service(xds.aggregated());
    let serving = server.serve_with_incoming_shutdown(Incoming::plain(listener), shutdown.requested());
    serving.await.context("--grpc-addr")
}

/// gRPC over TLS until the shutdown: the CA, health and reflection, and xDS if there is a mesh.
async fn serve_tls(
    listener: TcpListener,
    ca: &Arc<CertificateAuthority>,
    xds: Option<XdsServer>,
    identity: IdentityService,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    // The descriptors contain services that are not served here, such as the agent's.
    let mut served = vec![
        istio_certificate_service_server::SERVICE_NAME,
        workload_identity_server::SERVICE_NAME,
        tonic_health::pb::health_server::SERVICE_NAME,
    ];
    if xds.is_some() {
        served.push(aggregated_discovery_service_server::SERVICE_NAME);
        served.push(client_status_discovery_service_server::SERVICE_NAME);
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(eastwest_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    let reflection =
        served.into_iter().fold(reflection, |reflection, name| reflection.with_service_name(name));
    let (_, health) = tonic_health::server::health_reporter();
    grpc_server()
        .add_optional_service(xds.as_ref().map(XdsServer::client_status))
        .add_optional_service(xds.map(|xds| xds.aggregated()))
        .add_service(ca.service())
        .add_service(identity.server())
        .add_service(health)
        .add_service(reflection.build_v1().context("gRPC reflection")?)
        .serve_with_incoming_shutdown(Incoming::tls(listener, server_config(ca)), shutdown.requested())
        .await
        .context("--grpc-tls-addr")
}
