//! HTTP requests of list and watch; their answers as events of the state machine.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use memchr::memchr;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{
    failure::{Cause, Failure},
    state::{Event, Request},
};
use crate::{
    decode::{self, Key, Line, Object, Status},
    facts::Fact,
    kinds::Resource,
};

/// Objects in a page. Larger pages cost the API memory, smaller ones cost time.
const PAGE: u32 = 500;
/// The largest page in bytes; etcd limits an object to 1.5 MB.
const LARGEST_PAGE: usize = 1 << 30;
/// The longest line of a watch, in bytes.
const LONGEST_LINE: usize = 16 << 20;
/// How much of the body of a failed request is read, in bytes.
const LARGEST_STATUS: usize = 64 << 10;

/// Makes of an object what readers receive.
pub(crate) type Decode<T> = Arc<dyn Fn(&'static Resource, Object) -> T + Send + Sync>;

/// An object as readers receive it, and what is noted of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decoded<T> {
    pub(crate) object: T,
    pub(crate) fact: Option<Box<Fact>>,
}

/// What to watch: all objects of a resource, or those of one name in a namespace or in all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) resource: &'static Resource,
    pub(crate) version: &'static str,
    pub(crate) object: Option<Key>,
}

impl Target {
    fn decoded<T>(&self, object: Object, decode: &Decode<T>) -> Decoded<T> {
        let fact = Fact::of(self.resource, &object);
        Decoded { object: decode(self.resource, object), fact }
    }

    /// The path and query of a request.
    fn uri(&self, request: &Request) -> String {
        let Self { resource, version, object } = self;
        let mut uri = match resource.group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        if let Some(Key { namespace, .. }) = object.as_ref().filter(|key| !key.is_everywhere()) {
            uri.push_str(&format!("/namespaces/{}", escape(namespace)));
        }
        uri.push_str(&format!("/{}", resource.plural));
        let watch = |timeout: &Duration, version: &str| {
            let (seconds, version) = (timeout.as_secs(), escape(version));
            format!("?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}")
        };
        uri.push_str(&match request {
            Request::StreamingList { timeout } => {
                watch(timeout, "") + "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
            }
            Request::Watch { version, timeout } => watch(timeout, version),
            Request::Page { next: None } => format!("?limit={PAGE}"),
            Request::Page { next: Some(next) } => format!("?limit={PAGE}&continue={}", escape(next)),
            Request::Probe => "?limit=1".to_owned(),
        });
        if let Some(Key { name, .. }) = object {
            uri.push_str(&format!("&fieldSelector=metadata.name%3D{}", escape(name)));
        }
        uri
    }
}

/// A request and its answer so far.
#[derive(Debug)]
pub(crate) enum Connection<T> {
    Closed,
    /// A request whose answer is one event.
    Page(Task<Event<Decoded<T>>>),
    /// The head of a watch.
    Head {
        head: Task<Result<Body, Failure>>,
        target: Target,
    },
    Lines {
        body: Body,
        buffer: BytesMut,
        searched: usize,
        target: Target,
    },
}

impl<T: Send + 'static> Connection<T> {
    /// Sends a request.
    pub(crate) fn open(
        client: &kube::Client,
        target: &Target,
        request: &Request,
        decode: &Decode<T>,
    ) -> Self {
        let (client, uri) = (client.clone(), target.uri(request));
        let target = target.clone();
        match request {
            Request::StreamingList { .. } | Request::Watch { .. } => {
                let streaming = matches!(request, Request::StreamingList { .. });
                let head = Task::spawn(async move { send(&client, &uri, streaming).await });
                Self::Head { head, target }
            }
            Request::Page { .. } | Request::Probe => {
                let decode = decode.clone();
                let page = async move { page(&client, &uri, &target, &decode).await };
                Self::Page(Task::spawn(async move { page.await.unwrap_or_else(Event::Failed) }))
            }
        }
    }

    /// The next event; pending for ever if there is no request. Cancel-safe.
    pub(crate) async fn next(&mut self, decode: &Decode<T>) -> Event<Decoded<T>> {
        match self {
            Self::Closed => pending().await,
            Self::Page(page) => {
                let event = page.result().await.unwrap_or_else(Event::Failed);
                *self = Self::Closed;
                event
            }
            Self::Head { head, target } => match head.result().await.and_then(|head| head) {
                Ok(body) => {
                    let target = target.clone();
                    *self = Self::Lines { body, buffer: BytesMut::new(), searched: 0, target };
                    Event::Opened
                }
                Err(failure) => {
                    *self = Self::Closed;
                    Event::Failed(failure)
                }
            },
            Self::Lines { body, buffer, searched, target } => {
                let line = match next_line(body, buffer, searched).await {
                    Ok(Some(line)) => line,
                    Ok(None) => return self.close(Event::Ended),
                    Err(failure) => return self.close(Event::Failed(failure)),
                };
                event(target, &line, decode)
            }
        }
    }

    fn close(&mut self, event: Event<Decoded<T>>) -> Event<Decoded<T>> {
        *self = Self::Closed;
        event
    }
}

/// A spawned request, aborted when dropped.
#[derive(Debug)]
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    async fn result(&mut self) -> Result<T, Failure> {
        (&mut self.0)
            .await
            .map_err(|error| Failure::new(Cause::Malformed, format!("a request failed: {error}")))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a GET and returns the body of a successful answer.
async fn send(client: &kube::Client, uri: &str, streaming: bool) -> Result<Body, Failure> {
    let request = http::Request::get(uri).header(header::ACCEPT, "application/json");
    let request = request.body(Body::empty()).map_err(unreachable)?;
    let response = client.send(request).await.map_err(unreachable)?;
    let (head, body) = response.into_parts();
    if head.status.is_success() {
        return Ok(body);
    }
    let text = Limited::new(body, LARGEST_STATUS).collect().await;
    let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut failure = Failure::of_status(&status(head.status, &text), streaming);
    let seconds = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    failure.retry_after = seconds.map(|seconds: u64| Duration::from_secs(seconds.min(60)));
    Err(failure)
}

/// Reads the Status of a failed request. Of any other body, the message is its beginning.
fn status(code: StatusCode, text: &[u8]) -> Status {
    let said = serde_json::from_slice::<Status>(text).unwrap_or_default();
    let quoted = || String::from_utf8_lossy(text).chars().take(200).collect();
    let message = if said.message.is_empty() { quoted() } else { said.message };
    Status { code: code.as_u16(), message, reason: said.reason }
}

async fn page<T>(
    client: &kube::Client,
    uri: &str,
    target: &Target,
    decode: &Decode<T>,
) -> Result<Event<Decoded<T>>, Failure> {
    let body = send(client, uri, false).await?;
    let bytes: Bytes = Limited::new(body, LARGEST_PAGE).collect().await.map_err(broken)?.to_bytes();
    let mut objects = Vec::new();
    let mut take = |object: Object| objects.push((object.key.clone(), target.decoded(object, decode)));
    let meta = decode::page(target.resource, target.version, &bytes, &mut take);
    let meta = meta.map_err(|message| Failure::new(Cause::Malformed, message))?;
    let next = (!meta.next.is_empty()).then_some(meta.next);
    Ok(Event::Page { objects, version: meta.version, next })
}

/// The next line that is not empty; `None` at the end of the body. A last line without its end is dropped.
async fn next_line(
    body: &mut Body,
    buffer: &mut BytesMut,
    searched: &mut usize,
) -> Result<Option<BytesMut>, Failure> {
    loop {
        if let Some(end) = memchr(b'\n', &buffer[*searched..]) {
            let line = buffer.split_to(*searched + end + 1);
            *searched = 0;
            if line.trim_ascii().is_empty() {
                continue;
            }
            return Ok(Some(line));
        }
        *searched = buffer.len();
        if buffer.len() > LONGEST_LINE {
            return Err(Failure::new(Cause::Malformed, "a line of the watch has no end"));
        }
        match body.frame().await {
            None => return Ok(None),
            Some(frame) => {
                if let Ok(data) = frame.map_err(broken)?.into_data() {
                    buffer.extend_from_slice(&data);
                }
            }
        }
    }
}

fn event<T>(target: &Target, line: &[u8], decode: &Decode<T>) -> Event<Decoded<T>> {
    let changed = |added, object: Object| {
        let (key, version) = (object.key.clone(), object.version.clone());
        Event::Changed { added, key, object: target.decoded(object, decode), version }
    };
    match decode::line(target.resource, target.version, line) {
        Ok(Line::Added(object)) => changed(true, object),
        Ok(Line::Modified(object)) => changed(false, object),
        Ok(Line::Deleted(Object { key, version, .. })) => Event::Deleted { key, version },
        Ok(Line::Bookmark { version, initial_events_end }) => Event::Bookmark { version, initial_events_end },
        Ok(Line::Failed(status)) => Event::Failed(Failure::of_status(&status, false)),
        Err(message) => Event::Failed(Failure::new(Cause::Malformed, message)),
    }
}

/// Sends a GET and returns the JSON of the answer.
///
/// # Errors
/// The API does not answer, the status is no success, or the body is no JSON.
pub(crate) async fn get(client: &kube::Client, path: &str) -> Result<Value, Failure> {
    let body = send(client, path, false).await?;
    let bytes = Limited::new(body, LARGEST_PAGE).collect().await.map_err(broken)?.to_bytes();
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Cause::Malformed, format!("{path} does not decode: {error}")))
}

fn unreachable(error: impl std::error::Error) -> Failure {
    Failure::new(Cause::Unreachable, reason(&error))
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::new(Cause::Unreachable, format!("the answer broke off: {}", reason(&*error.into())))
}

/// What libraries call the parts of a request, and what users do.
const WORDS: [(&str, &str); 5] = [
    ("ServiceError: ", ""),
    ("HyperError: ", ""),
    ("client error (Connect)", "cannot connect"),
    ("client error (SendRequest)", "the request was not answered"),
    (": tcp connect error", ""),
];

/// The message of an error with those of its causes, without repetitions and without the names that libraries give to
/// their layers.
pub fn reason(error: &dyn std::error::Error) -> String {
    WORDS.iter().fold(chain(error), |text, (theirs, ours)| text.replace(theirs, ours))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// Percent-encodes all bytes but the unreserved ones of RFC 3986.
fn escape(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if is_plain(byte) { char::from(byte).into() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{OBSERVED_CONFIG_MAPS, RESOURCES, SECRET};

    #[test]
    fn requests_are_spelled_as_the_api_has_them() {
        let pods = RESOURCES.iter().find(|resource| resource.kind == "Pod").unwrap();
        let rules = RESOURCES.iter().find(|resource| resource.kind == "DestinationRule").unwrap();
        let uri = |target: &Target, request| target.uri(&request);
        let timeout = Duration::from_secs(45);
        let all = Target { resource: pods, version: "v1", object: None };
        assert_eq!(uri(&all, Request::Page { next: None }), "/api/v1/pods?limit=500");
        assert_eq!(
            uri(&all, Request::Page { next: Some("a+b=".to_owned()) }),
            "/api/v1/pods?limit=500&continue=a%2Bb%3D"
        );
        assert_eq!(
            uri(&all, Request::Watch { version: "7".to_owned(), timeout }),
            "/api/v1/pods?watch=1&allowWatchBookmarks=true&timeoutSeconds=45&resourceVersion=7"
        );
        let custom = Target { resource: rules, version: "v1beta1", object: None };
        assert_eq!(
            uri(&custom, Request::StreamingList { timeout }),
            "/apis/networking.istio.io/v1beta1/destinationrules?watch=1&allowWatchBookmarks=true\
             &timeoutSeconds=45&resourceVersion=&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        );
        let key = Key { namespace: "shop".into(), name: "a/b".into() };
        let one = Target { resource: SECRET, version: "v1", object: Some(key) };
        assert_eq!(
            uri(&one, Request::Probe),
            "/api/v1/namespaces/shop/secrets?limit=1&fieldSelector=metadata.name%3Da%2Fb"
        );
        let everywhere =
            Target { resource: OBSERVED_CONFIG_MAPS, version: "v1", object: Some(Key::everywhere("roots")) };
        assert_eq!(
            uri(&everywhere, Request::Page { next: None }),
            "/api/v1/configmaps?limit=500&fieldSelector=metadata.name%3Droots"
        );
    }

    #[tokio::test]
    async fn lines_are_found_across_frames_and_an_unfinished_one_is_dropped() {
        let mut body = Body::from(b"{\"a\":1}\n\n{\"b\"".to_vec());
        let mut buffer = BytesMut::new();
        let mut searched = 0;
        let line = next_line(&mut body, &mut buffer, &mut searched).await.unwrap().unwrap();
        assert_eq!(&line[..], b"{\"a\":1}\n");
        assert_eq!(next_line(&mut body, &mut buffer, &mut searched).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_failed_connection_is_told_without_names_of_libraries() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = kube::Client::try_from(config).unwrap();
        let request = http::Request::get("/api").body(Vec::new()).unwrap();
        let said = reason(&client.request_text(request).await.unwrap_err());
        assert!(said.starts_with("cannot connect: ") && said.contains("refused"), "{said}");
    }

    #[test]
    fn a_refusal_that_is_no_status_is_quoted() {
        let code = StatusCode::BAD_GATEWAY;
        assert_eq!(status(code, b"upstream gone").message, "upstream gone");
        assert_eq!(status(code, br#"{"kind":"Status","message":"m","reason":"R","code":1}"#).message, "m");
    }
}
