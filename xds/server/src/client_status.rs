//! `ClientStatusDiscoveryService`: what each client has (XDS.md X67).

use std::pin::Pin;
use std::sync::Arc;

use eastwest_proto::envoy::service::status::v3::{
    ClientStatusRequest, ClientStatusResponse,
    client_status_discovery_service_server::{
        ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer,
    },
};
use eastwest_proto::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher, string_matcher::MatchPattern};
use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming};

use crate::authorizer::StreamAuthorizer;
use crate::connections::Connections;
use crate::inspection::by_resource;
use crate::status;

/// The service as it is added to a server.
pub type ClientStatusServer = ClientStatusDiscoveryServiceServer<ClientStatus>;

/// Answers with the state of the clients that are connected.
pub struct ClientStatus {
    authorizer: Arc<dyn StreamAuthorizer>,
    connections: Arc<Connections>,
}

impl ClientStatus {
    pub(crate) fn new(authorizer: Arc<dyn StreamAuthorizer>, connections: Arc<Connections>) -> Self {
        Self { authorizer, connections }
    }

    /// The call without its message, if its caller may see the clients.
    async fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let call = Request::from_parts(metadata, extensions, ());
        self.authorizer.authenticate(&call).await?.may_inspect()?;
        Ok(message)
    }
}

fn answer(connections: &Connections, request: &ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
    let ids: Vec<_> = request.node_matchers.iter().map(node_id).collect::<Result<_, _>>()?;
    let open = connections.open();
    let wanted = open.iter().filter(|one| ids.is_empty() || ids.iter().any(|id| matches(id, one.node())));
    let config = wanted.map(|one| by_resource(one, !request.exclude_resource_contents)).collect();
    Ok(ClientStatusResponse { config })
}

/// The matcher of the id; refuses what is not understood.
fn node_id(matcher: &NodeMatcher) -> Result<StringMatcher, Status> {
    if !matcher.node_metadatas.is_empty() {
        return Err(status::matcher("node_matchers.node_metadatas"));
    }
    let id = matcher.node_id.clone().unwrap_or_default();
    match &id.match_pattern {
        Some(MatchPattern::SafeRegex(_)) => Err(status::matcher("node_matchers.node_id.safe_regex")),
        _ => Ok(id),
    }
}

fn matches(matcher: &StringMatcher, id: &str) -> bool {
    let fold = |text: &str| if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let id = fold(id);
    match &matcher.match_pattern {
        None => true,
        Some(MatchPattern::Exact(text)) => id == fold(text),
        Some(MatchPattern::Prefix(text)) => id.starts_with(&fold(text)),
        Some(MatchPattern::Suffix(text)) => id.ends_with(&fold(text)),
        Some(MatchPattern::Contains(text)) => id.contains(&fold(text)),
        Some(_) => false,
    }
}

#[tonic::async_trait]
impl ClientStatusDiscoveryService for ClientStatus {
    type StreamClientStatusStream = Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Self::StreamClientStatusStream>, Status> {
        let requests = self.admit(request).await?;
        let connections = Arc::clone(&self.connections);
        // One answer at a time, when the client takes it; the stream ends with its first error.
        let answers = stream::try_unfold((requests, connections), async |(mut requests, connections)| {
            let Some(request) = requests.next().await.transpose()? else { return Ok(None) };
            Ok(Some((answer(&connections, &request)?, (requests, connections))))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        let request = self.admit(request).await?;
        answer(&self.connections, &request).map(Response::new)
    }
}
