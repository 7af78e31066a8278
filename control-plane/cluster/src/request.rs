//! Single requests to the API, with a deadline, and refusals by what to do about them.

use std::time::Duration;

use eastwest_kubernetes::reason;
use http::{Method, Request, header};
use kube::Client;
use serde_json::Value;
use zeroize::Zeroizing;

/// The deadline of a request.
const ANSWER: Duration = Duration::from_secs(10);

/// The manager of the fields that we write.
pub(crate) const MANAGER: &str = "eastwest";

/// The media type of an object.
pub(crate) const JSON: &str = "application/json";
/// The media type of fields to replace.
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
/// The media type of a server-side apply. JSON is YAML.
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// A body, by the media type that tells the API what to do with it.
pub(crate) enum Body<'a> {
    None,
    /// A new object.
    Object(&'a Value),
    /// The fields of an object that are ours (server-side apply).
    Apply(&'a Value),
    /// The fields to replace (JSON merge patch).
    Merge(&'a Value),
}

/// A request that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status; 0 without an answer.
    pub(crate) code: u16,
    /// What the API, or the connection, said.
    pub(crate) message: String,
}

impl Refusal {
    /// An RBAC rule is missing, or an admission plugin refuses the object.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.code == 403
    }

    /// The object, its namespace or the resource is not there.
    pub(crate) fn is_missing(&self) -> bool {
        self.code == 404
    }

    /// The object is there already, or was changed meanwhile.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code == 409
    }

    /// The namespace is being deleted and takes no new objects.
    pub(crate) fn is_terminating(&self) -> bool {
        self.is_forbidden() && self.message.contains("because it is being terminated")
    }

    /// The same request will be refused again until somebody changes something.
    pub(crate) fn is_final(&self) -> bool {
        (400..500).contains(&self.code) && !matches!(self.code, 401 | 408 | 409 | 429)
    }
}

/// Sends a request and returns the object of the answer.
pub(crate) async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: Body<'_>,
) -> Result<Value, Refusal> {
    let (content, path) = match body {
        Body::None => (None, path.to_owned()),
        Body::Object(object) => (Some((JSON, object.to_string().into_bytes())), path.to_owned()),
        Body::Merge(fields) => (Some((MERGE_PATCH, fields.to_string().into_bytes())), path.to_owned()),
        Body::Apply(fields) => {
            let path = format!("{path}?fieldManager={MANAGER}&force=true");
            (Some((APPLY_PATCH, fields.to_string().into_bytes())), path)
        }
    };
    let text = send_text(client, method, &path, content, ANSWER).await?;
    serde_json::from_str(&text)
        .map_err(|error| Refusal { code: 0, message: format!("the answer does not decode: {error}") })
}

/// Sends a request, whose content has a media type, and returns the text of the answer. It may have secrets and is wiped.
pub(crate) async fn send_text(
    client: &Client,
    method: Method,
    path: &str,
    content: Option<(&'static str, Vec<u8>)>,
    deadline: Duration,
) -> Result<Zeroizing<String>, Refusal> {
    let unanswered = |message: String| Refusal { code: 0, message };
    let (media, content) = content.unzip();
    let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, JSON);
    if let Some(media) = media {
        request = request.header(header::CONTENT_TYPE, media);
    }
    let request = request.body(content.unwrap_or_default()).map_err(|error| unanswered(error.to_string()))?;
    let answer = tokio::time::timeout(deadline, client.request_text(request)).await;
    let answer = answer.map_err(|_| {
        unanswered(format!("the Kubernetes API does not answer within {} s", deadline.as_secs_f32()))
    })?;
    answer.map(Zeroizing::new).map_err(|error| match error {
        kube::Error::Api(status) => Refusal { code: status.code, message: status.message.trim().to_owned() },
        error => unanswered(format!("the Kubernetes API does not answer: {}", reason(&error))),
    })
}

/// Creates an object, or sets the fields of one.
pub(crate) async fn apply(client: &Client, path: &str, fields: &Value) -> Result<Value, Refusal> {
    send(client, Method::PATCH, path, Body::Apply(fields)).await
}

/// The beginning of a text, if it is longer than `longest` bytes.
pub(crate) fn shortened(mut text: String, longest: usize) -> String {
    const MORE: &str = "…";
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest - MORE.len()));
        text.push_str(MORE);
    }
    text
}
