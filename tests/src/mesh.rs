//! The bookshop, lifted: a control plane and the pods that a test asks for.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    app::{self, Answer, Kind, Load, Talk},
    bookshop::{Manifests, Member},
    capture::{Capture, Wire},
    control_plane::ControlPlane,
    netns::{Namespace, World},
    process::{Process, until},
    redirection,
    sidecar::{self, Certificate, Sidecar},
};

/// A running control plane, and where pods can be lifted.
#[derive(Debug)]
pub struct Mesh {
    // Dropped in this order: the world is last.
    /// `eastwest serve`.
    pub control_plane: ControlPlane,
    /// The manifests it follows.
    pub manifests: Manifests,
    world: World,
}

impl Mesh {
    /// Starts a control plane on a copy of the bookshop.
    pub fn start() -> Result<Self> {
        let world = World::new()?;
        let manifests = Manifests::copy_to(&world.dir().join("bookshop"))?;
        let control_plane = ControlPlane::start(world.hub(), manifests.dir(), world.dir())?;
        Ok(Self { control_plane, manifests, world })
    }

    /// The namespace of control plane and bridge.
    pub fn hub(&self) -> &Namespace {
        self.world.hub()
    }

    /// A folder for files of the test.
    pub fn dir(&self) -> &Path {
        self.world.dir()
    }

    /// A pod with application and sidecar, with certificates of the usual lifetime.
    pub fn lift(&self, member: Member) -> Result<Pod> {
        self.lift_with_ttl(member, "1h")
    }

    /// A pod whose sidecar asks for certificates that live as long as `cert_ttl`.
    pub fn lift_with_ttl(&self, member: Member, cert_ttl: &str) -> Result<Pod> {
        self.lift_with(member, &["--cert-ttl", cert_ttl])
    }

    /// A pod whose agent has these flags besides those that say who it is.
    pub fn lift_with(&self, member: Member, flags: &[&str]) -> Result<Pod> {
        let mut pod = self.lift_plain(member)?;
        redirection::redirect(&pod.namespace)?;
        let sidecar = Sidecar::start(&pod.namespace, &member, &self.control_plane, &pod.dir, flags)
            .with_context(|| format!("the sidecar of {}", member.pod))?;
        pod.sidecar = Some(sidecar);
        Ok(pod)
    }

    /// A pod with an application and without a sidecar.
    pub fn lift_plain(&self, member: Member) -> Result<Pod> {
        let dir = self.world.dir().join(member.pod);
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        let namespace = self.world.connect(member.pod, &member.addresses())?;
        let app = app::serve(&namespace, &member, &dir)?;
        Ok(Pod { sidecar: None, _app: app, member, dir, namespace })
    }

    /// Captures what passes between a pod and the bridge while `scene` plays.
    pub fn capture<T>(&self, pod: &Pod, scene: impl FnOnce() -> Result<T>) -> Result<(Wire, T)> {
        let hub = self.world.hub();
        let capture = Capture::start(hub, pod.member.pod, self.world.dir())?;
        let result = scene()?;
        Ok((capture.stop(hub, pod.member.address)?, result))
    }

    /// Starts the killed control plane again.
    pub fn restart_control_plane(&mut self) -> Result<()> {
        self.control_plane.restart(self.world.hub())
    }
}

/// A lifted pod.
#[derive(Debug)]
pub struct Pod {
    /// The agent and Envoy, if it has them.
    pub sidecar: Option<Sidecar>,
    _app: Process,
    /// Who it is.
    pub member: Member,
    dir: PathBuf,
    /// Where it runs.
    pub namespace: Namespace,
}

impl Pod {
    /// Its agent and Envoy.
    ///
    /// # Errors
    /// When it was lifted without.
    pub fn sidecar(&mut self) -> Result<&mut Sidecar> {
        self.sidecar.as_mut().context("a pod without sidecar")
    }

    /// Calls a Service of the bookshop over HTTP from this pod, by name and ClusterIP.
    pub fn call(&self, to: &Member, port: u16, path: &str) -> Result<Answer> {
        app::curl(&self.namespace, &to.host(), &to.cluster_ip(), port, path)
    }

    /// Calls a pod over HTTP by its address, as one without a sidecar has to here.
    pub fn call_pod(&self, to: &Member, port: u16, path: &str) -> Result<Answer> {
        app::curl(&self.namespace, to.address, to.address, port, path)
    }

    /// Opens a TCP connection to a Service, and keeps it.
    pub fn talk(&self, to: &Member, port: u16) -> Result<Talk> {
        let log = self.dir.join(format!("talk-{}-{port}.log", to.pod));
        Talk::open(&self.namespace, &to.cluster_ip(), port, &log)
    }

    /// Sends request after request to a Service.
    pub fn load(&self, kind: Kind, to: &Member, port: u16) -> Result<Load> {
        let log = self.dir.join(format!("load-{}-{port}.log", to.pod));
        Load::start(&self.namespace, kind, &to.host(), &to.cluster_ip(), port, &log)
    }

    /// Whether a line over a new TCP connection to `address` comes back.
    pub fn echoes(&self, address: &str, port: u16) -> Result<bool> {
        app::echoes(&self.namespace, address, port)
    }

    /// Envoy's counter or gauge of this name.
    pub fn stat(&self, name: &str) -> Result<u64> {
        sidecar::stat(&self.namespace, name)
    }

    /// The sum of Envoy's counters and gauges whose name ends with `suffix`.
    pub fn stats(&self, suffix: &str) -> Result<u64> {
        sidecar::stats(&self.namespace, suffix)
    }

    /// A page of Envoy's administration port.
    pub fn admin(&self, path: &str) -> Result<String> {
        sidecar::admin(&self.namespace, path)
    }

    /// The certificate that Envoy uses now.
    pub fn certificate(&self) -> Result<Certificate> {
        sidecar::certificate(&self.namespace)
    }
}

/// Checks that the Envoys accepted all resources, and that the control plane accepted all their requests.
///
/// # Errors
/// Something was refused, or a proxy is not connected.
pub fn nothing_was_refused(mesh: &Mesh, pods: &[&Pod]) -> Result<()> {
    // A proxy may be about to connect again, with its next certificate.
    let connections = until("all proxies to be connected", Duration::from_secs(10), || {
        let syncz = mesh.control_plane.syncz(mesh.hub())?;
        let connections = syncz.as_array().context("/debug/syncz is a list")?;
        Ok((connections.len() == pods.len()).then(|| connections.clone()))
    })?;
    for connection in &connections {
        for state in connection["types"].as_array().context("a connection has types")? {
            ensure!(state["error"].is_null() && state["state"] != "ERROR", "refused: {connection:#}");
        }
    }
    for pod in pods {
        for counter in [
            "listener_manager.lds.update_rejected",
            "cluster_manager.cds.update_rejected",
            ".update_rejected",
            "server.dynamic_unknown_fields",
        ] {
            ensure!(pod.stats(counter)? == 0, "{counter} of {}", pod.member.pod);
        }
    }
    Ok(())
}
