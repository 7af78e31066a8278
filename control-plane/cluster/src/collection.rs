//! The objects of one resource in one namespace, and errors that name the missing RBAC rule.

use std::{fmt, time::Duration};

use http::Method;
use zeroize::Zeroizing;

use crate::request::{self, JSON, MANAGER, MERGE_PATCH, Refusal};

/// Objects on a page of a list.
const PAGE: usize = 500;

/// The resources of one kind in one namespace.
#[derive(Clone)]
pub(crate) struct Collection {
    client: kube::Client,
    /// API group; empty for the core group.
    group: &'static str,
    /// The resource in the plural.
    plural: &'static str,
    namespace: String,
    deadline: Duration,
}

/// Why a request was not successful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// 404.
    NotFound,
    /// 409: another writer was faster.
    Conflict,
    /// 403, with the missing rule.
    Forbidden(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("it does not exist"),
            Self::Conflict => f.write_str("another writer was faster each time"),
            Self::Forbidden(message) | Self::Other(message) => f.write_str(message),
        }
    }
}

impl Collection {
    pub(crate) fn secrets(client: kube::Client, namespace: &str, deadline: Duration) -> Self {
        Self { client, group: "", plural: "secrets", namespace: namespace.to_owned(), deadline }
    }

    pub(crate) fn leases(client: kube::Client, namespace: &str, deadline: Duration) -> Self {
        let (group, plural) = ("coordination.k8s.io", "leases");
        Self { client, group, plural, namespace: namespace.to_owned(), deadline }
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Zeroizing<String>, Failure> {
        self.send(Method::GET, Some(name), "get", None).await
    }

    pub(crate) async fn create(&self, body: Vec<u8>) -> Result<Zeroizing<String>, Failure> {
        self.send(Method::POST, None, "create", Some((JSON, body))).await
    }

    /// Replaces an object.
    pub(crate) async fn update(&self, name: &str, body: Vec<u8>) -> Result<Zeroizing<String>, Failure> {
        self.send(Method::PUT, Some(name), "update", Some((JSON, body))).await
    }

    /// Changes some fields of an object (JSON merge patch).
    pub(crate) async fn patch(&self, name: &str, body: Vec<u8>) -> Result<Zeroizing<String>, Failure> {
        self.send(Method::PATCH, Some(name), "patch", Some((MERGE_PATCH, body))).await
    }

    /// The objects with this label, a page after `after`, the `continue` of the page before.
    pub(crate) async fn list(&self, label: &str, after: &str) -> Result<Zeroizing<String>, Failure> {
        let path = format!("{}?limit={PAGE}&labelSelector={label}&continue={after}", self.path(None));
        let answer = request::send_text(&self.client, Method::GET, &path, None, self.deadline).await;
        answer.map_err(|refusal| self.failure(refusal, None, "list"))
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(Some(name));
        let answer = request::send_text(&self.client, Method::DELETE, &path, None, self.deadline).await;
        // The rule must be for all names: there is one for each token.
        answer.map(drop).map_err(|refusal| self.failure(refusal, None, "delete"))
    }

    async fn send(
        &self,
        method: Method,
        name: Option<&str>,
        verb: &'static str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Zeroizing<String>, Failure> {
        let query = if body.is_some() { format!("?fieldManager={MANAGER}") } else { String::new() };
        let path = self.path(name) + &query;
        let answer = request::send_text(&self.client, method, &path, body, self.deadline).await;
        answer.map_err(|refusal| self.failure(refusal, name, verb))
    }

    fn path(&self, name: Option<&str>) -> String {
        let root =
            if self.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/v1", self.group) };
        let name = name.map(|name| format!("/{name}")).unwrap_or_default();
        format!("{root}/namespaces/{}/{}{name}", self.namespace, self.plural)
    }

    fn failure(&self, refusal: Refusal, name: Option<&str>, verb: &str) -> Failure {
        let Refusal { code, message } = refusal;
        match code {
            0 => Failure::Other(message),
            404 => Failure::NotFound,
            409 => Failure::Conflict,
            403 => Failure::Forbidden(format!(
                "the API answered 403: {message}; {}",
                self.missing_rule(name, verb)
            )),
            code => Failure::Other(format!("the API answered {code}: {message}")),
        }
    }

    /// The RBAC rule that is missing.
    fn missing_rule(&self, name: Option<&str>, verb: &str) -> String {
        let names = name.map(|name| format!(", resourceNames: [{name:?}]")).unwrap_or_default();
        format!(
            "add to a Role in namespace {}: apiGroups: [{:?}], resources: [{:?}]{names}, verbs: [{verb}]",
            self.namespace, self.group, self.plural
        )
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[tokio::test]
    async fn a_refusal_names_the_missing_rule() {
        let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            let status = Status::failure("leases is forbidden", "Forbidden").with_code(403);
            let body = serde_json::to_vec(&status).unwrap_or_default();
            let answer = http::Response::builder().status(403).body(kube::client::Body::from(body));
            Ok::<_, std::io::Error>(answer.expect("a status and a body"))
        });
        let leases =
            Collection::leases(kube::Client::new(service, "default"), "mesh", Duration::from_secs(5));
        let told = leases.update("eastwest-leader", Vec::new()).await.unwrap_err().to_string();
        let rule = r#"a Role in namespace mesh: apiGroups: ["coordination.k8s.io"], resources: ["leases"], resourceNames: ["eastwest-leader"], verbs: [update]"#;
        assert!(told.contains("leases is forbidden") && told.contains(rule), "{told}");
        let told = leases.create(Vec::new()).await.unwrap_err().to_string();
        assert!(told.contains(r#"resources: ["leases"], verbs: [create]"#), "{told}");
    }
}
