//! The secret discovery service on a unix socket: what Envoy uses as certificate, key and roots.
//!
//! | secret | content |
//! |---|---|
//! | `default` | certificate chain and key of the workload |
//! | `ROOTCA` | roots of the mesh |
//! | `CONTROL_PLANE_ROOTCA` | roots that the control plane's certificate may lead to |
//! | `file-cert:…`, `file-root:…` | files that rules name, see [`file_secrets`](crate::file_secrets) |
//!
//! Each rotation and each change of a root is pushed. An expired certificate stays: Envoy would keep the last one in
//! any case, peers refuse it, and established connections continue.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eastwest_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, TlsCertificate, secret::Type,
};
use eastwest_xds::{EncodedResource, Interest, Request, ResourceSet, TypeUrl, View};
use eastwest_xds_server::{
    AuthenticatedClient, AuthorizedStream, Node, StreamAuthorizer, StreamObserver, XdsServer,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    time::MissedTickBehavior,
};
use tokio_stream::{StreamExt as _, wrappers::UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Server};

use crate::{
    authority::AnyAuthority,
    certificate::{
        rotation::HeldCertificate,
        svid::Svid,
        tls::{CaRootError, control_plane_roots},
    },
    file_secrets::{self, FileSecrets, is_file},
    secret::{inline, secret},
    workload_api::WorkloadApiService,
};

/// Name of the secret with chain and key.
pub(crate) const WORKLOAD: &str = "default";
/// Name of the secret with the roots of the mesh.
pub(crate) const MESH_ROOTS: &str = "ROOTCA";
/// Name of the secret with the roots for the control plane.
pub(crate) const CONTROL_PLANE_ROOTS: &str = "CONTROL_PLANE_ROOTCA";
/// How often the trust anchor's file is read.
const ROOT_FILE_POLL: Duration = Duration::from_secs(30);

/// The socket of the secret discovery service cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Another process serves it.
    #[error("another agent serves {0} already; give each agent its own --dir")]
    InUse(PathBuf),
    /// The file of that name is not a socket.
    #[error("{0} exists and is no socket; remove it or choose another --dir")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {path}: {source}; is --dir writable?")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// The listening unix socket; removed when dropped.
pub(crate) struct Socket {
    listener: UnixListener,
    _file: SocketFile,
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If this fails, the next agent replaces the socket.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listens on `path` with mode 0600. The socket of an agent that crashed is replaced.
    ///
    /// # Errors
    /// It is in use, is not a socket, or cannot be created.
    pub(crate) async fn bind(path: PathBuf) -> Result<Self, SocketError> {
        match std::fs::symlink_metadata(&path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path)),
            Ok(_) if UnixStream::connect(&path).await.is_ok() => return Err(SocketError::InUse(path)),
            _ => {}
        }
        let file = SocketFile(path);
        match listen(&file.0) {
            Ok(listener) => Ok(Self { listener, _file: file }),
            Err(source) => Err(SocketError::Io { path: file.0.clone(), source }),
        }
    }

    /// Serves `view` and the Workload API until `stop`; adds the names of requested files to `wanted`.
    ///
    /// # Errors
    /// The listener fails.
    pub(crate) async fn serve(
        self,
        view: watch::Receiver<Arc<View>>,
        wanted: Wanted,
        workload_api: WorkloadApiService,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let server = XdsServer::new(Arc::new(SocketAuthorizer { view, wanted }), stop.clone());
        let incoming = UnixListenerStream::new(self.listener).map(|stream| stream.map(AnyAuthority::new));
        let server = Server::builder().add_service(server.secrets()).add_service(workload_api);
        server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Authorizes every stream: the mode of the socket lets only the workload open it.
struct SocketAuthorizer {
    view: watch::Receiver<Arc<View>>,
    wanted: Wanted,
}

/// Names of the requested secrets that are files, with the number of streams that request each.
pub(crate) type Wanted = watch::Sender<BTreeMap<String, usize>>;

#[tonic::async_trait]
impl StreamAuthorizer for SocketAuthorizer {
    async fn authenticate(&self, _: &tonic::Request<()>) -> Result<Box<dyn AuthenticatedClient>, Status> {
        let view = self.view.clone();
        let files = RequestedFiles { names: BTreeSet::new(), wanted: self.wanted.clone() };
        Ok(Box::new(move |_: &Node| Ok(AuthorizedStream::new(None, view).observed_by(files))))
    }
}

/// The files that one stream requests.
struct RequestedFiles {
    names: BTreeSet<String>,
    wanted: Wanted,
}

impl StreamObserver for RequestedFiles {
    fn requested(&mut self, request: &Request) {
        let mut next = self.names.clone();
        match &request.interest {
            Interest::Names(names) => next = names.iter().cloned().collect(),
            Interest::Change { subscribe, unsubscribe, .. } => {
                next.extend(subscribe.iter().cloned());
                next.retain(|name| !unsubscribe.contains(name));
            }
        }
        next.retain(|name| is_file(name));
        self.request(next);
    }
}

impl RequestedFiles {
    fn request(&mut self, next: BTreeSet<String>) {
        let before = std::mem::replace(&mut self.names, next);
        let (new, old): (Vec<_>, Vec<_>) =
            (self.names.difference(&before).collect(), before.difference(&self.names).collect());
        self.wanted.send_if_modified(|known| {
            for name in &new {
                *known.entry((*name).clone()).or_default() += 1;
            }
            for name in &old {
                if let Some(count) = known.get_mut(*name) {
                    *count -= 1;
                }
            }
            known.retain(|_, count| *count > 0);
            !new.is_empty() || !old.is_empty()
        });
    }
}

impl Drop for RequestedFiles {
    fn drop(&mut self) {
        self.request(BTreeSet::new());
    }
}

/// Reads the requested files, again when they change, on threads that may wait for a disk. Drop the future to end it.
pub(crate) async fn follow_files(
    mut files: FileSecrets,
    mut wanted: watch::Receiver<BTreeMap<String, usize>>,
    read: watch::Sender<Arc<ResourceSet>>,
) {
    let mut poll = tokio::time::interval(file_secrets::POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let names = wanted.borrow_and_update().keys().cloned().collect();
        let reading = tokio::task::spawn_blocking(move || {
            files.want(&names);
            let resources = files.resources();
            (files, resources)
        });
        // A panic is logged, and ends the agent.
        let Ok((next, resources)) = reading.await else { return };
        files = next;
        let set = Arc::new(ResourceSet::new(TypeUrl::SECRET, resources));
        read.send_if_modified(|known| {
            let differs = known.version() != set.version();
            *known = set;
            differs
        });
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            _ = poll.tick(), if !files.is_empty() => {}
        }
    }
}

/// Keeps `view` equal to the certificate held, the trust anchor's file `ca_root` and the `files` that were read. Before the
/// first certificate the view has no secrets, so requests wait. Drop the future to end it.
pub(crate) async fn publish(
    mut held: HeldCertificate,
    ca_root: PathBuf,
    mut files: watch::Receiver<Arc<ResourceSet>>,
    view: watch::Sender<Arc<View>>,
) {
    let mut poll = tokio::time::interval(ROOT_FILE_POLL);
    let mut roots = None;
    loop {
        let svid = held.svid.borrow_and_update().clone();
        if let Some(svid) = svid {
            match control_plane_roots(&ca_root, Some(&svid)) {
                Ok(read) => roots = Some(read),
                // What was read last stays in force.
                Err(error) => warn(&error),
            }
            let roots = roots.as_deref().unwrap_or(&svid.bundle_pem);
            let files = Arc::clone(&files.borrow_and_update());
            let all = secrets(&svid, roots).into_iter().chain(files.iter().cloned());
            let set = Arc::new(ResourceSet::new(TypeUrl::SECRET, all));
            view.send_if_modified(|view| {
                let same = view.get(&TypeUrl::SECRET).is_some_and(|old| old.version() == set.version());
                let next = if same { Arc::clone(view) } else { view.next([set]) };
                let changed = !Arc::ptr_eq(view, &next);
                *view = next;
                changed
            });
        }
        tokio::select! {
            changed = held.svid.changed() => if changed.is_err() { return },
            changed = files.changed() => if changed.is_err() { return },
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

#[cfg(test)]
mod tests;
