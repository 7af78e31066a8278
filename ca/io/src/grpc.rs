//! Limits of the gRPC ports: what one connection may use, and that it must speak gRPC.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body, transport::Server};
use tower::{
    Layer, Service,
    layer::util::{Identity, Stack},
};

use crate::{accept::PeerConnection, open::OpenCall};

/// How often a client is pinged that sends nothing, and how long it may take to answer. With thousands of clients the pings
/// are what an idle server does.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(10));
/// Streams and calls of one connection at a time.
const MAX_CONCURRENT: u32 = 1000;
/// Bytes of requests that a connection may have in flight: the default of HTTP/2, which needs no announcement.
const WINDOW: u32 = 65_535;
/// Headers of one request, in bytes. Tokens are the largest of them, a few kilobytes.
const MAX_HEADERS: u32 = 64 * 1024;

/// A gRPC server with limits, without services yet.
pub fn grpc_server() -> Server<Stack<OnlyGrpcLayer, Identity>> {
    let (interval, timeout) = KEEPALIVE;
    Server::builder()
        .initial_connection_window_size(Some(WINDOW))
        .http2_keepalive_interval(Some(interval))
        .http2_keepalive_timeout(Some(timeout))
        .max_concurrent_streams(Some(MAX_CONCURRENT))
        .http2_max_header_list_size(Some(MAX_HEADERS))
        .layer(OnlyGrpcLayer)
}

/// Puts [`OnlyGrpc`] before a service.
#[derive(Debug, Clone, Copy)]
pub struct OnlyGrpcLayer;

impl<S> Layer<S> for OnlyGrpcLayer {
    type Service = OnlyGrpc<S>;

    fn layer(&self, inner: S) -> OnlyGrpc<S> {
        OnlyGrpc(inner)
    }
}

/// Answers requests that are not gRPC with the HTTP status that gRPC defines, so that nothing that a browser or a proxy
/// sends is taken for a call.
#[derive(Debug, Clone)]
pub struct OnlyGrpc<S>(S);

impl<S, B> Service<Request<B>> for OnlyGrpc<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let refused = match () {
            () if *request.method() != Method::POST => StatusCode::METHOD_NOT_ALLOWED,
            () if !is_grpc(request.headers()) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            () => {
                let call = request.extensions().get::<PeerConnection>().map(|peer| peer.calls.begin());
                let answering = self.0.call(request);
                return Box::pin(async move {
                    Ok(answering.await?.map(|body| Body::new(Counted { body, _call: call })))
                });
            }
        };
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = refused;
        Box::pin(std::future::ready(Ok(answer)))
    }
}

/// The body of an answer. Its call is open until it has been sent.
struct Counted {
    body: Body,
    _call: Option<OpenCall>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// `application/grpc`, also with a suffix such as `+proto`.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}
