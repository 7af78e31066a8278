//! Single tests as permissions and principals.

use eastwest_engine::access::{Test, Text};
use eastwest_model::Name;
use eastwest_proto::{
    Any,
    envoy::{
        config::{
            core::v3::TypedExtensionConfig,
            rbac::v3::{
                Permission, Principal, SourcedMetadata, permission::Rule, principal, principal::Identifier,
            },
            route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
        },
        extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig,
        r#type::matcher::v3::{
            AddressMatcher, FilterStateMatcher, ListMatcher, MetadataMatcher, PathMatcher, RegexMatcher,
            StringMatcher, ValueMatcher,
            filter_state_matcher::Matcher,
            list_matcher,
            metadata_matcher::{PathSegment, path_segment},
            path_matcher,
            string_matcher::MatchPattern,
            value_matcher,
        },
    },
    xds::core::v3::CidrRange as XdsRange,
};
use ipnet::IpNet;

use super::tokens;
use crate::sidecar::{address::range, names::REMOTE_ADDRESS};

/// A test as a permission; `None` for what only a principal can be.
pub(super) fn permission(test: &Test) -> Option<Permission> {
    Some(permits(match test {
        Test::DestinationAddress(block) => Rule::DestinationIp(range(block)),
        Test::DestinationPort(port) => Rule::DestinationPort(u32::from(*port)),
        Test::ServerName(text) => Rule::RequestedServerName(matcher(text, false)),
        Test::Host(text) => Rule::Header(header(":authority", text, true)),
        Test::Header(name, text) => Rule::Header(header(name, text, false)),
        Test::Path(text) => Rule::UrlPath(path(text)),
        Test::PathTemplate(template) => Rule::UriTemplate(TypedExtensionConfig {
            name: "envoy.path.match.uri_template.uri_template_matcher".to_owned(),
            typed_config: Some(Any::pack(&UriTemplateMatchConfig { path_template: template.to_string() })),
        }),
        _ => return None,
    }))
}

/// A test as a principal; `None` for what only a permission can be.
pub(super) fn principal(test: &Test) -> Option<Principal> {
    Some(is_who(match test {
        Test::Peer(text) => {
            Identifier::Authenticated(principal::Authenticated { principal_name: Some(matcher(text, false)) })
        }
        Test::SourceAddress(block) => source_address(block),
        Test::RemoteAddress(block) => Identifier::RemoteIp(range(block)),
        Test::Header(name, text) => Identifier::Header(header(name, text, false)),
        Test::Claim(path, text) => {
            let is = |list| is_who(claim(path, text, list));
            Identifier::OrIds(principal::Set { ids: vec![is(false), is(true)] })
        }
        Test::RequestPrincipal { issuer, subject } => {
            let is = |name: &str, text| is_who(claim(&[name.into()], text, false));
            Identifier::AndIds(principal::Set { ids: vec![is("iss", issuer), is("sub", subject)] })
        }
        Test::FilterMetadata { filter, key, value, in_list } => metadata(filter, vec![key], value, *in_list),
        _ => return None,
    }))
}

/// The peer of the connection. Behind an internal listener Envoy takes the listener before it for the peer; what that one
/// passed on is in the filter state, which nothing sets anywhere else (ENVOY.md E31).
fn source_address(block: &IpNet) -> Identifier {
    let passed_on = FilterStateMatcher {
        key: REMOTE_ADDRESS.to_owned(),
        matcher: Some(Matcher::AddressMatch(AddressMatcher {
            ranges: vec![xds_range(block)],
            ..Default::default()
        })),
    };
    let ids = [Identifier::DirectRemoteIp(range(block)), Identifier::FilterState(passed_on)];
    Identifier::OrIds(principal::Set { ids: ids.map(is_who).to_vec() })
}

fn claim(path: &[Name], text: &Text, in_list: bool) -> Identifier {
    let payload = Name::from(tokens::PAYLOAD);
    let path = [&payload].into_iter().chain(path).collect();
    metadata(tokens::NAME, path, text, in_list)
}

fn metadata(filter: &str, path: Vec<&Name>, text: &Text, in_list: bool) -> Identifier {
    let segment = |key: &Name| PathSegment { segment: Some(path_segment::Segment::Key(key.to_string())) };
    let text =
        ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::StringMatch(matcher(text, false))) };
    let value = if in_list {
        let list = ListMatcher { match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(text))) };
        ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(list))) }
    } else {
        text
    };
    let matcher = MetadataMatcher {
        filter: filter.to_owned(),
        path: path.into_iter().map(segment).collect(),
        value: Some(value),
        ..Default::default()
    };
    Identifier::SourcedMetadata(SourcedMetadata { metadata_matcher: Some(matcher), ..Default::default() })
}

fn xds_range(block: &IpNet) -> XdsRange {
    XdsRange { address_prefix: block.addr().to_string(), prefix_len: Some(u32::from(block.prefix_len())) }
}

/// Z16: a star is met by an empty header too.
fn header(name: &str, text: &Text, fold: bool) -> HeaderMatcher {
    let specifier = match text {
        Text::Any => HeaderMatchSpecifier::PresentMatch(true),
        text => HeaderMatchSpecifier::StringMatch(matcher(text, fold)),
    };
    HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..Default::default() }
}

fn path(text: &Text) -> PathMatcher {
    PathMatcher { rule: Some(path_matcher::Rule::Path(matcher(text, false))) }
}

pub(super) fn matcher(text: &Text, ignore_case: bool) -> StringMatcher {
    let regex = |regex: &str| MatchPattern::SafeRegex(RegexMatcher { regex: regex.to_owned() });
    let pattern = match text {
        Text::Any => regex(".+"),
        Text::Exact(text) => MatchPattern::Exact(text.to_string()),
        Text::Prefix(text) => MatchPattern::Prefix(text.to_string()),
        Text::Suffix(text) => MatchPattern::Suffix(text.to_string()),
        Text::Contains(text) => MatchPattern::Contains(text.to_string()),
        Text::Regex(text) => regex(text),
    };
    StringMatcher { ignore_case, match_pattern: Some(pattern) }
}

/// A permission of one rule.
pub(super) fn permits(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

/// A principal of one identifier.
pub(super) fn is_who(identifier: Identifier) -> Principal {
    Principal { identifier: Some(identifier) }
}
