//! A Kubernetes API with the objects of a small mesh.

use std::{
    fs,
    path::{Path, PathBuf},
};

use eastwest_tests::kubernetes::Kubernetes;
use serde_json::{Value, json};

/// The audience of projected tokens in a mesh.
pub(crate) const MESH: Option<&str> = Some("istio-ca");
/// The account of the CA itself.
pub(crate) const OURSELVES: (&str, &str) = ("istio-system", "eastwest");

/// A cluster with one node, the namespaces `shop` and `istio-system`, and the CA's service account.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    pub(crate) api: Kubernetes,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let api = Kubernetes::start(dir.path()).unwrap();
        let cluster = Self { dir, api };
        for name in ["shop", "istio-system"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            cluster.api.create("/api/v1/namespaces", &namespace).unwrap();
        }
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
        cluster.api.create("/api/v1/nodes", &node).unwrap();
        cluster.account(OURSELVES);
        cluster
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a service account.
    pub(crate) fn account(&self, (namespace, name): (&str, &str)) {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}});
        self.api.create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account).unwrap();
    }

    /// Makes a pod on the node, as the API has it.
    pub(crate) fn pod(&self, (namespace, account): (&str, &str), name: &str) -> Value {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"serviceAccountName": account, "nodeName": "n1",
                "containers": [{"name": "app", "image": "app"}]}});
        self.api.create(&format!("/api/v1/namespaces/{namespace}/pods"), &pod).unwrap()
    }

    /// Binds a cluster role to a subject.
    pub(crate) fn bind(&self, role: &str, subject: &Value) {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"generateName": "test-"}, "subjects": [subject],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
        self.api.create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).unwrap();
    }

    /// Gives the CA the right to review tokens.
    pub(crate) fn let_us_review(&self) {
        let (namespace, name) = OURSELVES;
        let subject = json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
        self.bind("system:auth-delegator", &subject);
    }

    /// The CA's own token, in a file.
    pub(crate) fn own_token(&self) -> PathBuf {
        let path = self.dir().join("own-token");
        fs::write(&path, self.api.token(OURSELVES, None, None).unwrap()).unwrap();
        path
    }

    /// A kubeconfig with the CA's own identity.
    pub(crate) fn kubeconfig(&self) -> String {
        let user = json!({"tokenFile": self.own_token()});
        self.api.kubeconfig("eastwest", &user).unwrap().display().to_string()
    }
}
