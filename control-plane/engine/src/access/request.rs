//! A request as the policies of a workload see it, and how it is compared with them.

use std::net::IpAddr;

use eastwest_model::{Name, SpiffeId, mesh::PathNormalization, policy::Attribute};
use serde_json::{Map, Value};

use super::{
    path,
    policy::{Requirement, Test},
    text::Text,
};

/// A connection, and the request on it if it carries HTTP.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The identity of the peer's verified certificate.
    pub peer: Option<SpiffeId>,
    /// The peer's address.
    pub source: Option<IpAddr>,
    /// The address that was dialled.
    pub destination: Option<IpAddr>,
    /// The port that was dialled.
    pub port: u16,
    /// The server name of the handshake.
    pub server_name: Option<String>,
    /// The request; `None` for bytes.
    pub http: Option<HttpRequest>,
}

/// A request line and the authority, as the client writes them.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct RequestLine {
    pub method: String,
    /// A path, or an absolute URL, whose host then counts.
    pub path: String,
    pub authority: String,
}

/// A request in the form that a proxy gives it before it asks its policies.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The method.
    pub method: String,
    /// The normalized path with its query.
    pub path: String,
    /// Host or `:authority`.
    pub authority: String,
    /// Headers, names in lower case; several of one name stand for themselves.
    pub headers: Vec<(String, String)>,
    /// Over TLS.
    pub is_tls: bool,
    /// The payload of the verified token.
    pub token: Option<Map<String, Value>>,
}

impl HttpRequest {
    /// What a proxy makes of a request: Z22, Z29, Z33, Z35. `peer` is the identity of the client on mutual TLS.
    pub fn new(
        line: RequestLine,
        headers: &[(String, String)],
        peer: Option<&SpiffeId>,
        is_tls: bool,
        paths: PathNormalization,
    ) -> Self {
        let RequestLine { method, mut path, mut authority } = line;
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in headers {
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
            match &*name {
                "host" => authority = value,
                _ => all.push((name, value)),
            }
        }
        if let Some((host, rest)) = absolute(&path) {
            (authority, path) = (host, rest);
        }
        let mut request = Self {
            method,
            path: path::normalized(&path, paths),
            authority,
            headers: all,
            is_tls,
            token: None,
        };
        request.add_what_proxies_add(peer);
        request
    }

    fn add_what_proxies_add(&mut self, peer: Option<&SpiffeId>) {
        const CERTIFICATE: &str = "x-forwarded-client-cert";
        match peer {
            None => self.headers.retain(|(name, _)| name != CERTIFICATE),
            Some(peer) => self.headers.push((CERTIFICATE.to_owned(), format!("URI={peer}"))),
        }
        let protocol = if self.is_tls { "https" } else { "http" };
        for (name, value) in
            [("x-request-id", "00000000-0000-0000-0000-000000000000"), ("x-forwarded-proto", protocol)]
        {
            if self.values(name).is_empty() {
                self.headers.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    /// The values of a header or a pseudo-header.
    pub fn values(&self, name: &str) -> Vec<&str> {
        match name {
            ":method" => vec![&self.method],
            ":path" => vec![&self.path],
            ":authority" => vec![&self.authority],
            ":scheme" => self.values("x-forwarded-proto").into_iter().take(1).collect(),
            _ => self.headers.iter().filter(|(one, _)| one == name).map(|(_, value)| &**value).collect(),
        }
    }

    /// All values of a header, as one.
    pub(super) fn joined(&self, name: &str) -> Option<String> {
        let values = self.values(name);
        (!values.is_empty()).then(|| values.join(","))
    }

    /// Z22: the last entry of X-Forwarded-For, if it is an address.
    fn forwarded_for(&self) -> Option<IpAddr> {
        self.joined("x-forwarded-for")?.rsplit(',').next()?.trim().parse().ok()
    }
}

/// The authority and the path of an absolute URL.
fn absolute(path: &str) -> Option<(String, String)> {
    let (scheme, rest) = path.split_once("://")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some((authority.to_owned(), path))
}

impl Request {
    /// The client's address: by X-Forwarded-For, else the peer's (Z22).
    fn remote(&self) -> Option<IpAddr> {
        self.http.as_ref().and_then(HttpRequest::forwarded_for).or(self.source)
    }

    /// Whether a requirement holds.
    pub(super) fn meets(&self, requirement: &Requirement) -> bool {
        requirement.tests.iter().any(|test| self.passes(test)) != requirement.negated
    }

    fn passes(&self, test: &Test) -> bool {
        let within = |block: &ipnet::IpNet, address: Option<IpAddr>| {
            address.is_some_and(|address| block.contains(&address))
        };
        let http = self.http.as_ref();
        match test {
            Test::Peer(text) => self.peer.as_ref().is_some_and(|peer| text.matches(peer.as_str(), false)),
            Test::SourceAddress(block) => within(block, self.source),
            Test::RemoteAddress(block) => within(block, self.remote()),
            Test::DestinationAddress(block) => within(block, self.destination),
            Test::DestinationPort(port) => self.port == *port,
            Test::ServerName(text) => {
                self.server_name.as_ref().is_some_and(|name| text.matches(&name.to_ascii_lowercase(), false))
            }
            Test::Host(text) => http.is_some_and(|http| header(text, &[&http.authority], true)),
            Test::Header(name, text) => http.is_some_and(|http| header(text, &http.values(name), false)),
            Test::Path(text) => http.is_some_and(|it| text.matches(path::without_query(&it.path), false)),
            Test::PathTemplate(template) => {
                http.is_some_and(|http| path::fits(template, path::without_query(&http.path)))
            }
            Test::Claim(..) | Test::RequestPrincipal { .. } => {
                http.and_then(|http| http.token.as_ref()).is_some_and(|token| says(token, test))
            }
            // Nothing that we configure writes any.
            Test::FilterMetadata { .. } => false,
        }
    }

    /// What the request has of what a requirement is about.
    pub(super) fn shows(&self, attribute: &Attribute) -> Value {
        let text = |text: Option<String>| text.map_or(Value::Null, Value::String);
        let address = |address: Option<IpAddr>| text(address.map(|one| one.to_string()));
        let http = self.http.as_ref();
        match attribute {
            Attribute::Principal
            | Attribute::Namespace
            | Attribute::ServiceAccount
            | Attribute::TrustDomain => text(self.peer.as_ref().map(ToString::to_string)),
            Attribute::SourceAddress(_) => address(self.source),
            Attribute::RemoteAddress(_) => address(self.remote()),
            Attribute::DestinationAddress(_) => address(self.destination),
            Attribute::DestinationPort(_) => Value::from(self.port),
            Attribute::ServerName => text(self.server_name.clone()),
            Attribute::Host => text(http.map(|http| http.authority.clone())),
            Attribute::Method => text(http.map(|http| http.method.clone())),
            Attribute::Path => text(http.map(|http| path::without_query(&http.path).to_owned())),
            Attribute::Header(name) => text(http.and_then(|http| http.joined(shown_name(name)))),
            Attribute::RequestPrincipal => text(http.and_then(|http| {
                let token = http.token.as_ref()?;
                Some(format!("{}/{}", token.get("iss")?.as_str()?, token.get("sub")?.as_str()?))
            })),
            Attribute::Claim(path) => {
                let token = http.and_then(|http| http.token.as_ref());
                token.and_then(|token| claim(token, path)).cloned().unwrap_or_default()
            }
            Attribute::FilterMetadata { .. } => Value::Null,
        }
    }
}

fn shown_name(name: &Name) -> &str {
    if **name == *"host" { ":authority" } else { name }
}

/// Z16, Z35: a star is met by an empty header too.
fn header(text: &Text, values: &[&str], fold: bool) -> bool {
    match text {
        Text::Any => !values.is_empty(),
        text => values.iter().any(|value| text.matches(value, fold)),
    }
}

fn claim<'a>(token: &'a Map<String, Value>, path: &[Name]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(token.get(&**first)?, |value, name| value.get(&**name))
}

/// Z24, Z37: a text, or an element of a list that is a text.
fn says(token: &Map<String, Value>, test: &Test) -> bool {
    let matches = |text: &Text, value: Option<&Value>| match value {
        Some(Value::String(value)) => text.matches(value, false),
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).any(|value| text.matches(value, false))
        }
        _ => false,
    };
    match test {
        Test::Claim(path, text) => matches(text, claim(token, path)),
        Test::RequestPrincipal { issuer, subject } => {
            let is_text = |name: &str| token.get(name).filter(|value| value.is_string());
            matches(issuer, is_text("iss")) && matches(subject, is_text("sub"))
        }
        _ => false,
    }
}
