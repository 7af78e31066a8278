//! Pods, Services and EndpointSlices of a large cluster.

use std::path::Path;

use eastwest_kubernetes::{Api, ApiOptions};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

/// Requests at the same time.
const AT_ONCE: usize = 16;
/// Services of a namespace.
const SERVICES: usize = 50;

/// A cluster of `pods` that are spread over `services` Services.
pub(crate) struct Mesh {
    api: Api,
    pub(crate) pods: usize,
    services: usize,
}

impl Mesh {
    /// Makes the objects.
    pub(crate) async fn make(kubeconfig: &Path, pods: usize, services: usize) -> Self {
        let options = ApiOptions { kubeconfig: Some(kubeconfig.to_owned()), context: None };
        let mesh = Self { api: Api::find(&options).await.unwrap(), pods, services };
        let namespaces = (0..services.div_ceil(SERVICES)).chain([usize::MAX]).map(|number| {
            let name = if number == usize::MAX { "istio-system".to_owned() } else { namespace_name(number) };
            (
                "/api/v1/namespaces".to_owned(),
                json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": {"team": "bench"}}}),
            )
        });
        mesh.create(namespaces).await;
        mesh.create(
            [(
                "/api/v1/nodes".to_owned(),
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}),
            )]
            .into_iter(),
        )
        .await;
        let accounts = (0..services).map(|service| {
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": service_name(service)}});
            (format!("/api/v1/namespaces/{}/serviceaccounts", mesh.namespace(service)), account)
        });
        mesh.create(accounts).await;
        mesh.create((0..services).map(|service| mesh.service(service))).await;
        mesh.create((0..pods).map(|pod| mesh.pod(pod))).await;
        mesh.send("PATCH", "application/merge-patch+json", (0..pods).map(|pod| mesh.status(pod, true))).await;
        mesh.create((0..services).map(|service| mesh.slice(service))).await;
        mesh
    }

    async fn create(&self, objects: impl Iterator<Item = (String, Value)>) {
        self.send("POST", "application/json", objects).await;
    }

    async fn send(&self, method: &str, of: &str, objects: impl Iterator<Item = (String, Value)>) {
        let requests = stream::iter(objects).map(|(path, object)| self.request(method, of, path, object));
        requests.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    }

    /// Sends one request.
    pub(crate) async fn request(&self, method: &str, of: &str, path: String, object: Value) {
        let request = http::Request::builder().method(method).uri(&path).header("content-type", of);
        let body = object.to_string().into_bytes();
        let answer = self.api.client().request_text(request.body(body).unwrap()).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    }

    /// The namespace of a Service.
    pub(crate) fn namespace(&self, service: usize) -> String {
        namespace_name(service / SERVICES)
    }

    /// The Service of a pod.
    pub(crate) fn service_of(&self, pod: usize) -> usize {
        pod % self.services
    }

    fn service(&self, service: usize) -> (String, Value) {
        let name = service_name(service);
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
        (format!("/api/v1/namespaces/{}/services", self.namespace(service)), object)
    }

    fn pod(&self, pod: usize) -> (String, Value) {
        let service = self.service_of(pod);
        let name = service_name(service);
        let object = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod_name(pod),
                "labels": {"app": name, "version": "v1", "security.istio.io/tlsMode": "istio"}},
            "spec": {"serviceAccountName": name, "nodeName": "n1",
                "containers": [{"name": "app", "image": "registry.example/app:1",
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "env": [{"name": "SETTING", "value": "x".repeat(200)}]}]}});
        (format!("/api/v1/namespaces/{}/pods", self.namespace(service)), object)
    }

    fn status(&self, pod: usize, ready: bool) -> (String, Value) {
        let ready = if ready { "True" } else { "False" };
        let status = json!({"status": {"phase": "Running", "podIP": address(pod), "podIPs": [{"ip": address(pod)}],
            "conditions": [{"type": "Ready", "status": ready}]}});
        (
            format!(
                "/api/v1/namespaces/{}/pods/{}/status",
                self.namespace(self.service_of(pod)),
                pod_name(pod)
            ),
            status,
        )
    }

    fn slice(&self, service: usize) -> (String, Value) {
        let name = service_name(service);
        let mut object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "http", "port": 8080}]});
        object["endpoints"] = self.endpoints(service, true);
        (format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", self.namespace(service)), object)
    }

    /// The endpoints of a Service, of which the first is ready or not.
    fn endpoints(&self, service: usize, first_is_ready: bool) -> Value {
        let pods = (service..self.pods).step_by(self.services).enumerate().map(|(place, pod)| {
            json!({"addresses": [address(pod)], "conditions": {"ready": place > 0 || first_is_ready},
                "targetRef": {"kind": "Pod", "name": pod_name(pod), "namespace": self.namespace(service)}})
        });
        pods.collect()
    }

    /// The change of an endpoint of the first Service.
    pub(crate) fn endpoint_change(&self, ready: bool) -> (String, Value) {
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/{}",
            self.namespace(0),
            service_name(0)
        );
        (path, json!({"endpoints": self.endpoints(0, ready)}))
    }
}

/// `ns-0`.
fn namespace_name(number: usize) -> String {
    format!("ns-{number}")
}

/// `app-0`.
fn service_name(service: usize) -> String {
    format!("app-{service}")
}

/// `pod-0`.
pub(crate) fn pod_name(pod: usize) -> String {
    format!("pod-{pod}")
}

/// An address of its own.
pub(crate) fn address(pod: usize) -> String {
    format!("10.{}.{}.{}", 1 + pod / 62_500, pod / 250 % 250, 1 + pod % 250)
}
