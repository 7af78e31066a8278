//! One request to the API: with a deadline, and errors that say what is missing.

use std::{fmt, time::Duration};

use http::{Method, Request};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// The manager of the fields that we write.
const FIELD_MANAGER: &str = "eastwest";

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
        self.send(Method::POST, None, "create", Some(("application/json", body))).await
    }

    /// Replaces an object.
    pub(crate) async fn update(&self, name: &str, body: Vec<u8>) -> Result<Zeroizing<String>, Failure> {
        self.send(Method::PUT, Some(name), "update", Some(("application/json", body))).await
    }

    /// Changes some fields of an object (JSON merge patch).
    pub(crate) async fn patch(&self, name: &str, body: Vec<u8>) -> Result<Zeroizing<String>, Failure> {
        self.send(Method::PATCH, Some(name), "patch", Some(("application/merge-patch+json", body))).await
    }

    async fn send(
        &self,
        method: Method,
        name: Option<&str>,
        verb: &'static str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Zeroizing<String>, Failure> {
        let query = if body.is_some() { format!("?fieldManager={FIELD_MANAGER}") } else { String::new() };
        let mut request = Request::builder().method(method).uri(self.path(name) + &query);
        if let Some((content, _)) = &body {
            request = request.header(http::header::CONTENT_TYPE, *content);
        }
        let request = request.body(body.map(|(_, body)| body).unwrap_or_default());
        let request = request.map_err(|error| Failure::Other(error.to_string()))?;
        match timeout(self.deadline, self.client.request_text(request)).await {
            Err(_) => Err(Failure::Other(format!("no answer within {} s", self.deadline.as_secs_f32()))),
            Ok(Ok(text)) => Ok(Zeroizing::new(text)),
            Ok(Err(kube::Error::Api(status))) => Err(self.failure(&status, name, verb)),
            Ok(Err(error)) => Err(Failure::Other(error.to_string())),
        }
    }

    fn path(&self, name: Option<&str>) -> String {
        let root =
            if self.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}/v1", self.group) };
        let name = name.map(|name| format!("/{name}")).unwrap_or_default();
        format!("{root}/namespaces/{}/{}{name}", self.namespace, self.plural)
    }

    fn failure(&self, status: &kube::core::Status, name: Option<&str>, verb: &str) -> Failure {
        match status.code {
            404 => Failure::NotFound,
            409 => Failure::Conflict,
            403 => Failure::Forbidden(format!(
                "the API answered 403: {}; {}",
                status.message,
                self.missing_rule(name, verb)
            )),
            code => Failure::Other(format!("the API answered {code}: {}", status.message)),
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
        let service = tower::service_fn(|_: Request<kube::client::Body>| async {
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
