//! The manifests of a mesh: a small file for each Service with its endpoints, and one for its pods.

use std::{fmt::Write as _, fs, path::PathBuf};

/// Services of a namespace.
const SERVICES: usize = 50;

/// A directory of manifests.
pub(crate) struct Mesh {
    dir: PathBuf,
    services: usize,
    pods: usize,
}

/// One pod, as its proxy names it.
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) address: String,
}

impl Mesh {
    /// Writes the manifests of so many Services with `pods` pods each.
    pub(crate) fn write(dir: PathBuf, services: usize, pods: usize) -> Self {
        let mesh = Self { dir, services, pods };
        for namespace in 0..services.div_ceil(SERVICES) {
            fs::create_dir_all(mesh.dir.join(namespace_name(namespace))).unwrap();
        }
        let mut namespaces =
            String::from("{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}\n");
        for namespace in 0..services.div_ceil(SERVICES) {
            let name = namespace_name(namespace);
            write!(namespaces, "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n")
                .unwrap();
        }
        fs::write(mesh.dir.join("namespaces.yaml"), namespaces).unwrap();
        for service in 0..services {
            mesh.write_service(service, true);
            let pods: String = (0..pods).map(|pod| mesh.pod_manifest(service, pod)).collect();
            mesh.replace(&format!("{}/app-{service}-pods.yaml", mesh.namespace(service)), &pods);
        }
        mesh
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// The namespace of a Service.
    fn namespace(&self, service: usize) -> String {
        namespace_name(service / SERVICES)
    }

    /// The pod that proxy number `place` of `of` belongs to: they are spread over all namespaces.
    pub(crate) fn pod_of(&self, place: usize, of: usize) -> Pod {
        let all = self.services * self.pods;
        let number = place * (all / of.max(1)).max(1) % all;
        self.pod(number / self.pods, number % self.pods)
    }

    /// The namespace in which policies change.
    pub(crate) fn first_namespace() -> String {
        namespace_name(0)
    }

    /// The service account of all pods of a namespace.
    pub(crate) const ACCOUNT: &str = "apps";

    /// Makes the first endpoint of a Service ready or unready, and returns the resource that differs.
    pub(crate) fn change_endpoint(&self, number: usize, ready: bool) -> String {
        let service = number % self.services;
        self.write_service(service, ready);
        format!("outbound|80||app-{service}.{}.svc.cluster.local", self.namespace(service))
    }

    /// Sets the mode of a namespace, or of the mesh, and returns the resource that differs.
    pub(crate) fn change_policy(&self, namespace: &str, strict: bool) -> String {
        let mode = if strict { "STRICT" } else { "PERMISSIVE" };
        let policy = format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: default, namespace: {namespace}}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        );
        self.replace(&format!("policy-{namespace}.yaml"), &policy);
        "virtualInbound".to_owned()
    }

    /// Takes all policies away.
    pub(crate) fn forget_policies(&self) {
        for file in fs::read_dir(&self.dir).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("policy-")) {
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn write_service(&self, service: usize, first_is_ready: bool) {
        let namespace = self.namespace(service);
        let mut endpoints = String::new();
        for number in 0..self.pods {
            let Pod { name, address, .. } = self.pod(service, number);
            let ready = number > 0 || first_is_ready;
            writeln!(
                endpoints,
                "- {{addresses: [{address}], conditions: {{ready: {ready}}}, targetRef: {{kind: Pod, name: {name}, \
                 namespace: {namespace}}}}}"
            )
            .unwrap();
        }
        // Of ten Services nine speak HTTP.
        let port = if service % 10 == 9 { "tcp" } else { "http" };
        let manifest = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: app-{service}, namespace: {namespace}}}\n\
             spec:\n  clusterIP: {}\n  selector: {{app: app-{service}}}\n  \
             ports: [{{name: {port}, port: 80, targetPort: 8080}}]\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: app-{service}-x, namespace: {namespace}, \
             labels: {{kubernetes.io/service-name: app-{service}}}}}\n\
             addressType: IPv4\nports: [{{name: {port}, port: 8080}}]\nendpoints:\n{endpoints}",
            address(20, service),
        );
        self.replace(&format!("{namespace}/app-{service}.yaml"), &manifest);
    }

    fn pod_manifest(&self, service: usize, number: usize) -> String {
        let Pod { namespace, name, address } = self.pod(service, number);
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  \
             labels: {{app: app-{service}, version: v1, security.istio.io/tlsMode: istio}}\n\
             spec:\n  serviceAccountName: {}\n  \
             containers: [{{name: app, image: app, ports: [{{containerPort: 8080}}]}}]\n\
             status: {{podIP: {address}, phase: Running, conditions: [{{type: Ready, status: 'True'}}]}}\n",
            Self::ACCOUNT
        )
    }

    fn pod(&self, service: usize, number: usize) -> Pod {
        Pod {
            namespace: self.namespace(service),
            name: format!("app-{service}-{number}"),
            address: address(10, service * self.pods + number),
        }
    }

    /// Replaces a file as a whole.
    fn replace(&self, file: &str, text: &str) {
        let draft = self.dir.join(format!("{file}.draft"));
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, self.dir.join(file)).unwrap();
    }
}

fn namespace_name(number: usize) -> String {
    format!("ns-{number}")
}

fn address(first: u8, number: usize) -> String {
    let [_, b, c, d] = u32::try_from(number + 1).unwrap().to_be_bytes();
    format!("{first}.{b}.{c}.{d}")
}
