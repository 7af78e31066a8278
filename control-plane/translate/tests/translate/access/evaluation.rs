//! The rendered filters, evaluated by the rules of Envoy's documentation for RBAC. Nothing here knows a policy.

use std::net::IpAddr;

use eastwest_engine::can::Sent;
use eastwest_proto::{
    Message, Name,
    envoy::{
        config::{
            core::v3::CidrRange,
            listener::v3::{Filter, FilterChain, filter},
            rbac::v3::{
                Permission, Policy, Principal, Rbac, permission::Rule, principal::Identifier, rbac::Action,
            },
            route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
        },
        extensions::{
            filters::{
                http::rbac::v3::Rbac as HttpRbac,
                network::{
                    http_connection_manager::v3::{HttpConnectionManager, http_filter},
                    rbac::v3::Rbac as NetworkRbac,
                },
            },
            path::r#match::uri_template::v3::UriTemplateMatchConfig,
        },
        r#type::matcher::v3::{
            MetadataMatcher, PathMatcher, StringMatcher, list_matcher, metadata_matcher::path_segment,
            path_matcher, string_matcher::MatchPattern, value_matcher,
        },
    },
};
use regex::Regex;
use serde_json::{Value, json};

use crate::world::Resources;

/// A connection and a request as Envoy sees them.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) port: u16,
    peer: Option<String>,
    source: IpAddr,
    remote: IpAddr,
    server_name: String,
    is_http: bool,
    path: String,
    headers: Vec<(String, String)>,
    payload: Option<Value>,
}

impl Facts {
    pub(super) fn of(peer: Option<&str>, is_http: bool, sent: &Sent) -> Self {
        let source = sent.source.unwrap();
        let forwarded = sent.headers.iter().find(|(name, _)| name == "x-forwarded-for");
        let last = forwarded.and_then(|(_, list)| list.rsplit(',').next()?.trim().parse().ok());
        let mut headers = sent.headers.clone();
        let path = sent.path.clone().unwrap();
        for (name, value) in [(":method", &sent.method), (":authority", &sent.host), (":path", &sent.path)] {
            headers.extend(value.clone().map(|value| (name.to_owned(), value)));
        }
        let payload = (!sent.claims.is_empty()).then(|| {
            let mut payload = json!({"iss": "i", "aud": "web"});
            for (name, value) in &sent.claims {
                let is_list = name == "scope";
                payload[name] = if is_list { value.split(' ').collect() } else { json!(value) };
            }
            payload
        });
        Self {
            port: if is_http { 8080 } else { 90 },
            peer: peer.map(str::to_owned),
            source,
            remote: if is_http { last.unwrap_or(source) } else { source },
            server_name: if peer.is_some() { sent.server_name.clone().unwrap() } else { String::new() },
            is_http,
            path: path.split('?').next().unwrap().to_owned(),
            headers,
            payload: payload.filter(|_| is_http),
        }
    }
}

/// Whether the filters of the chain for such a connection let the request through.
pub(super) fn allows(resources: &Resources, facts: &Facts, internal: bool) -> bool {
    let chain = chain(resources, facts);
    let filters: Vec<(Option<Rbac>, bool)> = if facts.is_http {
        let manager: HttpConnectionManager = unpack(chain.filters.last().unwrap());
        let filters = manager.http_filters.iter().filter(|one| one.name == "envoy.filters.http.rbac");
        filters
            .map(|one| {
                let Some(http_filter::ConfigType::TypedConfig(any)) = &one.config_type else {
                    panic!("{one:?}")
                };
                (any.unpack::<HttpRbac>().unwrap().rules, internal)
            })
            .collect()
    } else {
        let filters = chain.filters.iter().filter(|one| one.name == "envoy.filters.network.rbac");
        filters.map(|one| (unpack::<NetworkRbac>(one).rules, internal)).collect()
    };
    filters.into_iter().all(|(rules, internal)| rules.is_none_or(|rules| passes(&rules, facts, internal)))
}

/// The chain by its name: what the clients of the mesh meet, or plaintext.
fn chain<'a>(resources: &'a Resources, facts: &Facts) -> &'a FilterChain {
    let kind = if facts.peer.is_some() { "mesh" } else { "plaintext" };
    let name = format!("virtualInbound-{}-{kind}", facts.port);
    let chains = resources.listeners.iter().flat_map(|listener| &listener.filter_chains);
    chains.into_iter().find(|chain| chain.name == name).unwrap_or_else(|| panic!("no chain {name}"))
}

fn unpack<M: Message + Name + Default>(filter: &Filter) -> M {
    let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else { panic!("{filter:?}") };
    any.unpack().unwrap()
}

fn passes(rules: &Rbac, facts: &Facts, internal: bool) -> bool {
    let matched = rules.policies.values().any(|policy| matches(policy, facts, internal));
    match rules.action() {
        Action::Allow => matched,
        Action::Deny => !matched,
        Action::Log => true,
    }
}

fn matches(policy: &Policy, facts: &Facts, internal: bool) -> bool {
    policy.permissions.iter().any(|one| permits(one, facts))
        && policy.principals.iter().any(|one| is(one, facts, internal))
}

fn permits(permission: &Permission, facts: &Facts) -> bool {
    match permission.rule.as_ref().unwrap() {
        Rule::AndRules(set) => set.rules.iter().all(|one| permits(one, facts)),
        Rule::OrRules(set) => set.rules.iter().any(|one| permits(one, facts)),
        Rule::Any(any) => *any,
        Rule::NotRule(one) => !permits(one, facts),
        Rule::Header(header) => has(header, facts),
        Rule::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(text)) }) => {
            facts.is_http && fits(text, &facts.path)
        }
        Rule::UriTemplate(config) => {
            let template: UriTemplateMatchConfig = config.typed_config.as_ref().unwrap().unpack().unwrap();
            let pattern =
                template.path_template.replace("**", "\u{0}").replace('*', "[^/]+").replace('\u{0}', ".*");
            facts.is_http && whole(&pattern, &facts.path)
        }
        Rule::DestinationIp(range) => within(range, "10.1.0.1".parse().unwrap()),
        Rule::DestinationPort(port) => *port == u32::from(facts.port),
        Rule::RequestedServerName(text) => fits(text, &facts.server_name),
        other => panic!("{other:?}"),
    }
}

fn is(principal: &Principal, facts: &Facts, internal: bool) -> bool {
    let is = |one: &Principal| is(one, facts, internal);
    match principal.identifier.as_ref().unwrap() {
        Identifier::AndIds(set) => set.ids.iter().all(is),
        Identifier::OrIds(set) => set.ids.iter().any(is),
        Identifier::Any(any) => *any,
        Identifier::NotId(one) => !is(one),
        Identifier::Authenticated(who) => {
            let name = who.principal_name.as_ref().unwrap();
            facts.peer.as_ref().is_some_and(|peer| fits(name, peer))
        }
        // Behind an internal listener the peer is that listener.
        Identifier::DirectRemoteIp(range) => !internal && within(range, facts.source),
        Identifier::FilterState(state) => {
            use eastwest_proto::envoy::r#type::matcher::v3::filter_state_matcher::Matcher;
            assert_eq!(state.key, "envoy.filters.listener.original_dst.remote_ip");
            let Some(Matcher::AddressMatch(addresses)) = &state.matcher else { panic!("{state:?}") };
            let mut ranges = addresses.ranges.iter().map(|range| CidrRange {
                address_prefix: range.address_prefix.clone(),
                prefix_len: range.prefix_len,
            });
            internal && ranges.any(|range| within(&range, facts.source))
        }
        Identifier::RemoteIp(range) => within(range, facts.remote),
        Identifier::Header(header) => has(header, facts),
        Identifier::SourcedMetadata(sourced) => says(sourced.metadata_matcher.as_ref().unwrap(), facts),
        other => panic!("{other:?}"),
    }
}

fn has(header: &HeaderMatcher, facts: &Facts) -> bool {
    let mut values = facts.headers.iter().filter(|(name, _)| facts.is_http && *name == header.name);
    match header.header_match_specifier.as_ref().unwrap() {
        HeaderMatchSpecifier::PresentMatch(present) => values.next().is_some() == *present,
        HeaderMatchSpecifier::StringMatch(text) => values.any(|(_, value)| fits(text, value)),
        other => panic!("{other:?}"),
    }
}

fn says(matcher: &MetadataMatcher, facts: &Facts) -> bool {
    if matcher.filter != "envoy.filters.http.jwt_authn" {
        return false;
    }
    let metadata = json!({"payload": facts.payload});
    let key = |segment: &path_segment::Segment| match segment {
        path_segment::Segment::Key(key) => key.clone(),
    };
    let keys = matcher.path.iter().map(|one| key(one.segment.as_ref().unwrap()));
    let value = keys.fold(metadata, |value, key| value[&key].clone());
    match matcher.value.as_ref().unwrap().match_pattern.as_ref().unwrap() {
        value_matcher::MatchPattern::StringMatch(text) => {
            value.as_str().is_some_and(|value| fits(text, value))
        }
        value_matcher::MatchPattern::ListMatch(list) => {
            let Some(list_matcher::MatchPattern::OneOf(one)) = &list.match_pattern else {
                panic!("{list:?}")
            };
            let Some(value_matcher::MatchPattern::StringMatch(text)) = &one.match_pattern else { panic!() };
            value.as_array().into_iter().flatten().filter_map(Value::as_str).any(|value| fits(text, value))
        }
        other => panic!("{other:?}"),
    }
}

fn within(range: &CidrRange, address: IpAddr) -> bool {
    let prefix = ipnet::IpNet::new(range.address_prefix.parse().unwrap(), range.prefix_len.unwrap() as u8);
    prefix.unwrap().contains(&address)
}

fn fits(matcher: &StringMatcher, text: &str) -> bool {
    let fold = |text: &str| if matcher.ignore_case { text.to_lowercase() } else { text.to_owned() };
    let text = fold(text);
    match matcher.match_pattern.as_ref().unwrap() {
        MatchPattern::Exact(wanted) => text == fold(wanted),
        MatchPattern::Prefix(wanted) => text.starts_with(&fold(wanted)),
        MatchPattern::Suffix(wanted) => text.ends_with(&fold(wanted)),
        MatchPattern::Contains(wanted) => text.contains(&fold(wanted)),
        MatchPattern::SafeRegex(regex) => whole(&regex.regex, &text),
    }
}

fn whole(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(text)
}
