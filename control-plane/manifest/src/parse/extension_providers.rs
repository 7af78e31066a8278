//! `extensionProviders` of the mesh, as far as they are external authorizers (AUTHORIZATION.md Z11).

use eastwest_model::mesh::{Authorizer, AuthorizerProtocol, CheckedBody};

use super::duration;
use crate::field::Field;

/// Kinds of providers that ask about requests.
const PROTOCOLS: [(&str, AuthorizerProtocol); 2] =
    [("envoyExtAuthzHttp", AuthorizerProtocol::Http), ("envoyExtAuthzGrpc", AuthorizerProtocol::Grpc)];

/// The authorizers. One that cannot be read is left out: a policy that names it denies.
pub(super) fn authorizers(list: &Field<'_>) -> Vec<Authorizer> {
    let items = list.list();
    let one = |item: &Field<'_>| {
        PROTOCOLS.iter().find_map(|(key, protocol)| {
            let settings = item.get(key);
            settings.is_set().then(|| authorizer(item, &settings, *protocol)).flatten()
        })
    };
    items.iter().filter_map(one).collect()
}

fn authorizer(item: &Field<'_>, settings: &Field<'_>, protocol: AuthorizerProtocol) -> Option<Authorizer> {
    let name = item.get("name");
    let service = settings.get("service");
    let port = settings.get("port");
    let number = port.unchecked(|port| port.port());
    if number.is_none() {
        port.left_out("is no port, so policies that name this provider deny: write 1 to 65535");
    }
    if service.name().is_none() {
        service
            .left_out("missing, so policies that name this provider deny: write the full name of a Service");
    }
    if name.name().is_none() {
        name.left_out("missing: policies refer to a provider by its name");
    }
    let names = |key: &str| settings.get(key).names();
    let mut request_headers = names("includeRequestHeadersInCheck");
    request_headers.extend(names("includeHeadersInCheck"));
    let added = settings.get("includeAdditionalHeadersInCheck");
    let added = added.entries().into_iter();
    let body = settings.get("includeRequestBodyInCheck");
    let body = body.is_set().then(|| CheckedBody {
        max_bytes: body.get("maxRequestBytes").integer(1..=u64::from(u32::MAX)).unwrap_or(1024),
        allow_partial: body.get("allowPartialMessage").flag().unwrap_or_default(),
        pack_as_bytes: body.get("packAsBytes").flag().unwrap_or_default(),
    });
    Some(Authorizer {
        name: name.name()?,
        protocol,
        service: service.name()?,
        port: number?,
        timeout: duration::lenient(&settings.get("timeout")),
        fail_open: settings.get("failOpen").flag().unwrap_or_default(),
        status_on_error: settings.get("statusOnError").text().and_then(|text| text.parse().ok()).unwrap_or(0),
        path_prefix: settings.get("pathPrefix").name().unwrap_or_else(|| "".into()),
        request_headers,
        added_headers: added.filter_map(|(key, value)| Some((key.into(), value.text()?.into()))).collect(),
        headers_upstream: names("headersToUpstreamOnAllow"),
        headers_downstream_on_deny: names("headersToDownstreamOnDeny"),
        headers_downstream_on_allow: names("headersToDownstreamOnAllow"),
        body,
    })
}
