//! One stream from its first request to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwest_xds::{Reaction, Request, TypeUrl};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use crate::authorizer::{AuthorizedStream, StreamAuthorizer};
use crate::body::{Message, frame};
use crate::connections::{Connections, Registration};
use crate::inspection::{DebugType, UnknownDebugType};
use crate::message::DiscoveryMessage;
use crate::node::Node;
use crate::requests::Requests;
use crate::status;

/// The number of requests in a row that are read before a push that is due (XDS.md X42).
const REQUESTS_BEFORE_PUSH: u32 = 16;
/// How long a client may take for its first request (XDS.md X63).
const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// The beginning of the nonces of answers to debug types; their number follows.
const DEBUG_NONCE: &str = "debug-";

/// What a session uses of the server.
pub(crate) struct Host {
    pub(crate) authorizer: Arc<dyn StreamAuthorizer>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) shutdown: CancellationToken,
    /// The only type served, if the service is not the aggregated one.
    pub(crate) only: Option<TypeUrl>,
    /// Who we are, for the answers to debug types.
    pub(crate) identifier: Arc<str>,
}

/// Serves one stream until the client half-closes it (`Ok`, XDS.md X51) or there is a reason to end it.
pub(crate) async fn serve<M: DiscoveryMessage>(
    host: Host,
    call: tonic::Request<()>,
    body: Body,
    outbox: mpsc::Sender<Message>,
) -> Result<(), Status> {
    let opening = open::<M>(&host, &call, body);
    let opened = tokio::select! {
        biased;
        () = host.shutdown.cancelled() => return Err(status::shutting_down()),
        opened = opening => opened?,
    };
    drop(call);
    let (registration, authorized, requests) = match opened {
        Opened::Proxy(registration, authorized, requests) => (registration, authorized, requests),
        Opened::Inspector(first, requests) => return inspect(&host, first, requests, outbox).await,
        Opened::Closed => return Ok(()),
    };
    let connection = Arc::clone(&registration.connection);
    let node = connection.node();
    tracing::info!(node, "proxy connected");
    let ended = Session { host, registration, authorized }.run(requests, outbox).await;
    match &ended {
        Ok(()) => tracing::info!(node, "proxy disconnected"),
        Err(status) => tracing::info!(node, code = ?status.code(), reason = status.message(), "stream ended"),
    }
    ended
}

/// What a stream turns out to be.
enum Opened<M> {
    /// A proxy follows its view.
    Proxy(Registration, AuthorizedStream, Requests<M>),
    /// Somebody asks for the state of all proxies: the first request.
    Inspector(M, Requests<M>),
    /// The client closed it before its first request.
    Closed,
}

/// Authenticates the client, reads the first request and authorizes the stream.
async fn open<M: DiscoveryMessage>(
    host: &Host,
    call: &tonic::Request<()>,
    body: Body,
) -> Result<Opened<M>, Status> {
    let client = host.authorizer.authenticate(call).await?;
    let address = client.address();
    let mut requests = Requests::<M>::new(body, host.connections.unread(address));
    let first = timeout(FIRST_REQUEST, requests.next()).await;
    let first = first.map_err(|_| status::silent(FIRST_REQUEST))??;
    let Some(mut first) = first else { return Ok(Opened::Closed) };
    if host.only.is_none() && is_debug(first.type_url())? {
        client.may_inspect()?;
        return Ok(Opened::Inspector(first, requests));
    }
    let node = Node::parse(first.take_node()).map_err(|error| status::node(&error))?;
    let mut authorized = client.authorize(&node).await?;
    let identity = authorized.identity.take();
    let view = authorized.view.clone();
    let mut registration = host.connections.register(&node, (identity, view), address, M::VARIANT);
    apply(host, &mut registration, &mut authorized, first.into_request())?;
    Ok(Opened::Proxy(registration, authorized, requests))
}

/// Whether a request is about a debug type (XDS.md X66).
fn is_debug(type_url: &str) -> Result<bool, Status> {
    match DebugType::read(type_url) {
        Ok(found) => Ok(found.is_some()),
        Err(UnknownDebugType) => Err(status::unknown_debug_type(type_url)),
    }
}

/// Answers the requests of a stream that asks for debug types: one after the other, each when the client has taken the
/// answer before it.
async fn inspect<M: DiscoveryMessage>(
    host: &Host,
    first: M,
    mut requests: Requests<M>,
    outbox: mpsc::Sender<Message>,
) -> Result<(), Status> {
    let mut request = first.into_request();
    let mut sent = 0_u64;
    loop {
        // What names one of our nonces is an ACK or NACK. istioctl asks with a nonce of its own.
        let answers = request.nonce.strip_prefix(DEBUG_NONCE).and_then(|number| number.parse::<u64>().ok());
        if answers.is_none_or(|number| number > sent) {
            sent += 1;
            let debug_type = DebugType::read(&request.type_url).ok().flatten();
            let debug_type = debug_type.ok_or_else(|| status::unknown_debug_type(&request.type_url))?;
            let resources = debug_type.answer(&host.connections, request.interest.names());
            let nonce = format!("{DEBUG_NONCE}{sent}");
            let answer = M::debug_answer(&request.type_url, &nonce, &host.identifier, resources);
            let taken = tokio::select! {
                () = host.shutdown.cancelled() => return Err(status::shutting_down()),
                taken = outbox.send(frame(vec![answer.into()])) => taken,
            };
            if taken.is_err() {
                return Ok(());
            }
        }
        let next = tokio::select! {
            () = host.shutdown.cancelled() => return Err(status::shutting_down()),
            next = requests.next() => next?,
        };
        match next {
            Some(next) => request = next.into_request(),
            None => return Ok(()),
        }
    }
}

/// Applies a request to the protocol state; logs and counts its meaning.
fn apply(
    host: &Host,
    registration: &mut Registration,
    authorized: &mut AuthorizedStream,
    mut request: Request,
) -> Result<(), Status> {
    if let Some(only) = &host.only {
        if request.type_url.is_empty() {
            request.type_url = only.to_string();
        } else if request.type_url != only.as_str() {
            return Err(status::not_a_secret(&request.type_url));
        }
    }
    if let Some(observer) = &mut authorized.observer {
        observer.requested(&request);
    }
    let connection = Arc::clone(&registration.connection);
    let type_url = request.type_url.clone();
    let reaction = {
        let view = authorized.view.borrow();
        connection.stream().on_request_with(request, &view).map_err(|error| status::stream(&error))?
    };
    registration.count_names().map_err(|_| status::too_many_names())?;
    host.connections.count_answer(&type_url, &reaction);
    if reaction == Reaction::First
        && let Some(observer) = &mut authorized.observer
        && let Ok(type_url) = TypeUrl::parse(&type_url)
    {
        observer.requested_first(&type_url);
    }
    if let Reaction::Nack(error) = reaction
        && let Some(before) = registration.lines.take(Instant::now())
    {
        let left_out = (before > 0).then_some(before);
        tracing::warn!(
            node = connection.node(),
            type_url,
            error,
            left_out,
            "proxy rejected its configuration"
        );
    }
    Ok(())
}

struct Session {
    host: Host,
    registration: Registration,
    authorized: AuthorizedStream,
}

impl Session {
    /// The loop of a stream. `dirty` stands for everything that may have to be sent: nothing is queued, a response
    /// is made of the newest view when the transport can take it.
    async fn run<M: DiscoveryMessage>(
        mut self,
        mut requests: Requests<M>,
        outbox: mpsc::Sender<Message>,
    ) -> Result<(), Status> {
        let mut dirty = true;
        let mut requests_left = REQUESTS_BEFORE_PUSH;
        loop {
            let wakeup = self.registration.connection.stream().next_wakeup();
            tokio::select! {
                biased;
                () = self.host.shutdown.cancelled() => return Err(status::shutting_down()),
                status = &mut self.authorized.end => return Err(status),
                message = requests.next(), if requests_left > 0 => match message? {
                    Some(message) => {
                        apply(&self.host, &mut self.registration, &mut self.authorized, message.into_request())?;
                        dirty = true;
                        requests_left -= 1;
                    }
                    None => return Ok(()),
                },
                changed = self.authorized.view.changed() => {
                    changed.map_err(|_| status::authorization_ended())?;
                    dirty = true;
                }
                () = until(wakeup), if !dirty => dirty = true,
                permit = outbox.reserve(), if dirty => {
                    let Ok(permit) = permit else { return Ok(()) };
                    match self.next_message() {
                        Some(message) => permit.send(message),
                        None => dirty = false,
                    }
                    requests_left = REQUESTS_BEFORE_PUSH;
                }
            }
        }
    }

    /// The next thing to send, made of the newest view.
    fn next_message(&mut self) -> Option<Message> {
        let view = Arc::clone(&self.authorized.view.borrow_and_update());
        let response = self.registration.connection.stream().next_response(&view, Instant::now())?;
        let pieces = response.encode();
        self.host.connections.count_push(&response, pieces.iter().map(bytes::Bytes::len).sum());
        Some(frame(pieces))
    }
}

/// Waits until `deadline`; for ever if there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use eastwest_proto::envoy::config::core::v3 as core;
    use eastwest_proto::envoy::service::discovery::v3::DiscoveryRequest;
    use eastwest_xds::{ResourceSet, View};
    use http_body::{Body as HttpBody, Frame};
    use prost::Message as _;
    use tokio::sync::watch;

    use super::*;
    use crate::body::SessionBody;
    use crate::{AuthenticatedClient, AuthorizedStream, StreamAuthorizer};

    struct Open(watch::Sender<Arc<View>>);

    #[tonic::async_trait]
    impl StreamAuthorizer for Open {
        async fn authenticate(&self, _: &tonic::Request<()>) -> Result<Box<dyn AuthenticatedClient>, Status> {
            let view = self.0.subscribe();
            Ok(Box::new(move |_: &Node| Ok(AuthorizedStream::new(None, view))))
        }
    }

    /// A client that always has one more request; counts what was read of them.
    struct Flood(Arc<AtomicU32>);

    impl HttpBody for Flood {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.0.fetch_add(1, Ordering::Relaxed) > 1000 {
                return Poll::Ready(None);
            }
            let node = core::Node { id: "sidecar~10.0.0.7~web-0.shop~d".to_owned(), ..core::Node::default() };
            let type_url = TypeUrl::CLUSTER.to_string();
            let request = DiscoveryRequest { node: Some(node), type_url, ..DiscoveryRequest::default() };
            let message = frame(vec![Bytes::new(), request.encode_to_vec().into()]);
            Poll::Ready(Some(Ok(Frame::data(message.into_iter().collect::<Vec<_>>().concat().into()))))
        }
    }

    #[tokio::test]
    async fn x42_a_flood_of_requests_does_not_starve_pushes() {
        let view = View::new([Arc::new(ResourceSet::new(TypeUrl::CLUSTER, []))]);
        let host = Host {
            authorizer: Arc::new(Open(watch::Sender::new(Arc::new(view)))),
            connections: Arc::default(),
            shutdown: CancellationToken::new(),
            only: None,
            identifier: Arc::from("test"),
        };
        let read = Arc::new(AtomicU32::new(0));
        let requests = tonic::body::Body::new(Flood(Arc::clone(&read)));
        let (outbox, inbox) = mpsc::channel(1);
        let session = Box::pin(serve::<DiscoveryRequest>(host, tonic::Request::new(()), requests, outbox));
        let mut body = std::pin::pin!(SessionBody::new(session, inbox));
        let first = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        assert!(first.unwrap().unwrap().is_data());
        assert!(
            read.load(Ordering::Relaxed) <= 2 + 2 * REQUESTS_BEFORE_PUSH,
            "{read:?} requests before the push"
        );
    }
}
