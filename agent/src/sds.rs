//! The secret discovery service on a unix socket: what Envoy uses as certificate, key and roots.
//!
//! | secret | content |
//! |---|---|
//! | `default` | certificate chain and key of the workload |
//! | `ROOTCA` | roots of the mesh |
//! | `CONTROL_PLANE_ROOTCA` | roots that the control plane's certificate may lead to |
//!
//! Each rotation and each change of a root is pushed unasked. An expired certificate stays: Envoy keeps the
//! last one anyway, its peers refuse it, and established connections live on.

use std::{
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eastwest_proto::{
    Message,
    envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret, TlsCertificate, secret::Type,
        },
    },
};
use eastwest_xds::{EncodedResource, ResourceSet, TypeUrl, View};
use eastwest_xds_server::{Admission, Gatekeeper, Node, Peer, XdsServer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Server};

use crate::certificate::{
    rotation::Held,
    svid::Svid,
    tls::{CaRootError, control_plane_roots},
};

/// Name of the secret with chain and key.
pub(crate) const WORKLOAD: &str = "default";
/// Name of the secret with the roots of the mesh.
pub(crate) const MESH_ROOTS: &str = "ROOTCA";
/// Name of the secret with the roots for the control plane.
pub(crate) const CONTROL_PLANE_ROOTS: &str = "CONTROL_PLANE_ROOTCA";
/// How often the trust anchor's file is looked at.
const ROOT_FILE_POLL: Duration = Duration::from_secs(30);

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("another agent serves {0} already; give each agent its own --dir")]
    InUse(PathBuf),
    #[error("{0} exists and is no socket; remove it or choose another --dir")]
    NotASocket(PathBuf),
    #[error("cannot listen on {path}: {source}; is --dir writable?")]
    Io { path: PathBuf, source: io::Error },
}

/// Listens on the unix socket `path`, for the owner alone; the socket of an agent that died is replaced.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(SocketError::InUse(path.to_owned())),
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves `view` until `stop`.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    listener: UnixListener,
    view: watch::Receiver<Arc<View>>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let server = XdsServer::new(Arc::new(Everybody(view)), stop.clone());
    Server::builder()
        .add_service(server.secrets())
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
        .await
}

/// The socket's mode is the authentication: whoever may open it is the workload.
struct Everybody(watch::Receiver<Arc<View>>);

#[tonic::async_trait]
impl Gatekeeper for Everybody {
    async fn admit(&self, _: &Peer, _: &Node) -> Result<Admission, Status> {
        Ok(Admission { identity: None, view: self.0.clone() })
    }
}

/// Keeps `view` equal to the certificate held and the trust anchor's file `ca_root`. Before the first
/// certificate the view knows no secrets, so requests wait. Drop the future to end it.
pub(crate) async fn publish(mut held: Held, ca_root: PathBuf, view: watch::Sender<Arc<View>>) {
    let mut poll = tokio::time::interval(ROOT_FILE_POLL);
    let mut roots = None;
    loop {
        let svid = held.svid.borrow_and_update().clone();
        if let Some(svid) = svid {
            match control_plane_roots(&ca_root, Some(&svid)) {
                Ok(read) => roots = Some(read),
                // The file was good once; what it said then stays.
                Err(error) => warn(&error),
            }
            let roots = roots.as_deref().unwrap_or(&svid.bundle_pem);
            let set = Arc::new(ResourceSet::new(TypeUrl::SECRET, secrets(&svid, roots)));
            view.send_if_modified(|view| {
                let next = view.next([set]);
                let changed = !Arc::ptr_eq(view, &next);
                *view = next;
                changed
            });
        }
        tokio::select! {
            changed = held.svid.changed() => if changed.is_err() { return },
            _ = poll.tick() => {}
        }
    }
}

fn warn(error: &CaRootError) {
    tracing::warn!("{error}; Envoy keeps the roots it has");
}

fn secrets(svid: &Svid, control_plane_roots: &str) -> [Arc<EncodedResource>; 3] {
    let certificate = TlsCertificate {
        certificate_chain: inline(&svid.chain_pem),
        private_key: inline(&svid.key_pem),
        ..Default::default()
    };
    let roots = |pem| {
        Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(pem),
            ..Default::default()
        })
    };
    [
        secret(WORKLOAD, Type::TlsCertificate(certificate)),
        secret(MESH_ROOTS, roots(&svid.bundle_pem)),
        secret(CONTROL_PLANE_ROOTS, roots(control_plane_roots)),
    ]
}

fn secret(name: &str, content: Type) -> Arc<EncodedResource> {
    let secret = Secret { name: name.to_owned(), r#type: Some(content) };
    Arc::new(EncodedResource::new(TypeUrl::SECRET, name, &secret.encode_to_vec()))
}

fn inline(pem: &str) -> Option<DataSource> {
    let specifier = Some(Specifier::InlineBytes(pem.as_bytes().to_vec().into()));
    Some(DataSource { specifier, watched_directory: None })
}

#[cfg(test)]
mod tests;
