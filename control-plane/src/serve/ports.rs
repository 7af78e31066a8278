//! The three ports: plaintext gRPC, gRPC over TLS, HTTP.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use eastwest_ca_server::{CertificateAuthority, bundles::IdentityService, server_config};
use eastwest_io::{Incoming, grpc_server};
use eastwest_proto::{
    eastwest::v1::workload_identity_server,
    envoy::service::discovery::v3::aggregated_discovery_service_server,
    istio::v1::auth::istio_certificate_service_server,
};
use eastwest_xds_server::XdsServer;
use tokio::net::TcpListener;

use super::{Config, Shared, http, shutdown::Shutdown};

/// Bound, not yet served.
pub(super) struct Ports {
    grpc: TcpListener,
    tls: TcpListener,
    http: TcpListener,
}

/// What is behind them.
pub(super) struct Services {
    /// xDS for those who come by plaintext.
    pub(super) local: XdsServer,
    /// xDS for those who prove who they are.
    pub(super) xds: XdsServer,
    pub(super) ca: Arc<CertificateAuthority>,
    pub(super) identity: IdentityService,
    pub(super) shared: Arc<Shared>,
}

impl Ports {
    /// Binds all three.
    ///
    /// # Errors
    /// An address that is in use or not ours; names the flag.
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            grpc: bind("--grpc-addr", config.grpc).await?,
            tls: bind("--grpc-tls-addr", config.tls).await?,
            http: bind("--http-addr", config.http).await?,
        })
    }

    /// The bound addresses: plaintext gRPC, TLS gRPC, HTTP.
    pub(super) fn addresses(&self) -> std::io::Result<[SocketAddr; 3]> {
        Ok([self.grpc.local_addr()?, self.tls.local_addr()?, self.http.local_addr()?])
    }

    /// Serves until shutdown; new connections end with its first signal, HTTP with the streams.
    pub(super) async fn serve(self, services: Services, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Services { local, xds, ca, identity, shared } = services;
        let plain = grpc_server()
            .add_service(local.aggregated())
            .serve_with_incoming_shutdown(Incoming::plain(self.grpc), shutdown.requested());
        let tls = serve_tls(self.tls, &ca, Some(xds), identity, shutdown);
        let pages = axum::serve(self.http, http::routes(shared)).with_graceful_shutdown(shutdown.requested());
        let (plain, tls, pages) = tokio::join!(plain, tls, pages.into_future());
        plain.context("--grpc-addr")?;
        tls?;
        pages.context("--http-addr")
    }
}

/// Binds one port.
///
/// # Errors
/// An address that is in use or not ours; names the flag.
pub(super) async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let remedy = "is another control plane running? Choose another address, or port 0 for any free one";
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("{flag}: cannot listen on {address} ({remedy})"))
}

/// gRPC over TLS until shutdown: the CA, health and reflection, and xDS where there is a mesh.
pub(super) async fn serve_tls(
    listener: TcpListener,
    ca: &Arc<CertificateAuthority>,
    xds: Option<XdsServer>,
    identity: IdentityService,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    // The descriptors hold services of others too, such as the agent's.
    let mut served = vec![
        istio_certificate_service_server::SERVICE_NAME,
        workload_identity_server::SERVICE_NAME,
        tonic_health::pb::health_server::SERVICE_NAME,
    ];
    served.extend(xds.as_ref().map(|_| aggregated_discovery_service_server::SERVICE_NAME));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(eastwest_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    let reflection =
        served.into_iter().fold(reflection, |reflection, name| reflection.with_service_name(name));
    let (_, health) = tonic_health::server::health_reporter();
    grpc_server()
        .add_optional_service(xds.map(|xds| xds.aggregated()))
        .add_service(ca.service())
        .add_service(identity.server())
        .add_service(health)
        .add_service(reflection.build_v1().context("gRPC reflection")?)
        .serve_with_incoming_shutdown(Incoming::tls(listener, server_config(ca)), shutdown.requested())
        .await
        .context("--grpc-tls-addr")
}
