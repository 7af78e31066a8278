//! Values of rules and conditions (AUTHORIZATION.md Z23, Z34, Z55 to Z57, Z60).

use std::net::IpAddr;

use eastwest_model::{
    Name,
    policy::{Attribute, Requirement},
};
use ipnet::IpNet;

use crate::{field::Field, spelling};

/// Checks the values of a list and says what they are about.
pub(super) type Read = fn(&Field<'_>) -> Attribute;

/// The texts of a list, none of which may be empty.
pub(super) fn not_empty(list: &Field<'_>) -> Vec<Name> {
    let items = list.list();
    for item in items.iter().filter(|item| item.text() == Some("")) {
        item.error("is empty: write a value, or drop it");
    }
    items.iter().filter_map(|item| item.text()).map(Into::into).collect()
}

/// Any text.
pub(super) fn text(_: &Field<'_>, attribute: Attribute) -> Attribute {
    attribute
}

/// Each value, with the item that holds it.
fn each<'a>(list: &Field<'a>) -> Vec<(Field<'a>, &'a str)> {
    let items = list.list().into_iter();
    items
        .filter_map(|item| item.text().filter(|text| !text.is_empty()).map(|text| (item.clone(), text)))
        .collect()
}

/// Z23: addresses and blocks; bits of the host do not count.
pub(super) fn blocks(list: &Field<'_>) -> Vec<IpNet> {
    let block = |text: &str| {
        let address = text.parse::<IpAddr>().map(IpNet::from).ok();
        address.or_else(|| text.parse::<IpNet>().ok()).map(|block| block.trunc())
    };
    let parsed = each(list).into_iter().filter_map(|(item, text)| {
        let parsed = block(text);
        if parsed.is_none() {
            item.error(format_args!("{text:?} is no address and no block: write 10.1.0.1 or 10.1.0.0/16"));
        }
        parsed
    });
    parsed.collect()
}

/// Z30: numbers from 0 to 65535.
pub(super) fn ports(list: &Field<'_>) -> Attribute {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten().and_then(|number| u16::try_from(number).ok())
    };
    let parsed = each(list).into_iter().filter_map(|(item, text)| {
        let parsed = number(text);
        if parsed.is_none() {
            item.error(format_args!(
                "{text:?} is no port: write the number of a port of the workload, 0 to 65535"
            ));
        }
        parsed
    });
    Attribute::DestinationPort(parsed.collect())
}

/// Z19: `NAME` or `NAMESPACE/NAME`.
pub(super) fn service_accounts(list: &Field<'_>) -> Attribute {
    for (item, text) in each(list) {
        let parts: Vec<&str> = text.split('/').collect();
        if text.contains('*') || parts.len() > 2 || parts.contains(&"") {
            item.error(format_args!(
                "{text:?} is no service account: write NAME or NAMESPACE/NAME, without wildcards"
            ));
        }
    }
    Attribute::ServiceAccount
}

/// Z20: a domain, with one `*` at an end.
pub(super) fn trust_domains(list: &Field<'_>) -> Attribute {
    for (item, text) in each(list) {
        let inner = text.strip_prefix('*').or_else(|| text.strip_suffix('*')).unwrap_or(text);
        if text.contains('/') || inner.contains('*') {
            item.error(format_args!(
                "{text:?} is no trust domain: write it whole, or with one * at its begin or end"
            ));
        }
    }
    Attribute::TrustDomain
}

/// Z56, Z60: templates.
pub(super) fn paths(list: &Field<'_>) -> Attribute {
    for (item, text) in each(list) {
        if let Some(problem) = template_problem(text) {
            item.error(format_args!("{text:?} {problem}"));
        }
    }
    Attribute::Path
}

fn template_problem(path: &str) -> Option<&'static str> {
    let braces = |text: &str| text.contains(['{', '}']);
    let is_template = path.contains("{*}") || path.contains("{**}");
    if !is_template {
        return braces(path).then_some("has braces: only {*} and {**} mean something in a path");
    }
    if path.contains('*') && path.replace("{**}", "").replace("{*}", "").contains('*') {
        return Some("has * beside a template: use {*} for a segment and {**} for the rest");
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Some("needs a leading slash");
    };
    let mut after_rest = false;
    for segment in rest.split('/') {
        if matches!(segment, "{*}" | "{**}") {
            if after_rest {
                return Some("has a template after {**}, which must be the last one");
            }
            after_rest = segment == "{**}";
        } else if segment.trim().is_empty() {
            return Some("has an empty segment beside a template");
        } else if braces(segment) {
            return Some("has a template that is no whole segment: {*} and {**} stand between slashes");
        }
    }
    None
}

/// A key of `when` without a name in brackets.
const PLAIN: &[(&str, Read)] = &[
    ("source.ip", |list| Attribute::SourceAddress(blocks(list))),
    ("remote.ip", |list| Attribute::RemoteAddress(blocks(list))),
    ("source.namespace", |list| text(list, Attribute::Namespace)),
    ("source.principal", |list| text(list, Attribute::Principal)),
    ("source.serviceAccount", service_accounts),
    ("source.trustDomain", trust_domains),
    ("request.auth.principal", |list| text(list, Attribute::RequestPrincipal)),
    ("request.auth.audiences", |list| text(list, Attribute::Claim(vec!["aud".into()]))),
    ("request.auth.presenter", |list| text(list, Attribute::Claim(vec!["azp".into()]))),
    ("destination.ip", |list| Attribute::DestinationAddress(blocks(list))),
    ("destination.port", ports),
    ("connection.sni", |list| text(list, Attribute::ServerName)),
];

/// Keys that were known once.
const GONE: [&str; 4] =
    ["destination.labels", "destination.namespace", "destination.user", "destination.name"];

/// Keys about the peer's identity and the token, which a CUSTOM policy cannot have.
const IDENTITIES: [&str; 5] =
    ["source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain", "request.auth."];

/// An entry of `when`: a requirement for `values`, and one for `notValues`.
pub(super) fn condition(field: &Field<'_>, is_custom: bool) -> Vec<Requirement> {
    field.knows(&["key", "values", "notValues"]);
    let place = field.get("key");
    let Some(key) = place.text().filter(|key| !key.is_empty()) else {
        place.error("missing: say what is compared, as in request.headers[x-team]");
        return Vec::new();
    };
    if !field.has_any(&["values", "notValues"]) {
        field.error(format_args!("{key} has neither values nor notValues: write one of them"));
    }
    if is_custom && IDENTITIES.iter().any(|one| key.starts_with(one)) {
        place.error(format_args!("{key} cannot be asked of a CUSTOM policy: use an ALLOW or DENY policy"));
    }
    let mut requirements = Vec::new();
    for (name, negated) in [("values", false), ("notValues", true)] {
        let list = field.get(name);
        match attribute(key, &list) {
            Ok(attribute) => {
                let values = not_empty(&list);
                let place = format!("when[{key}].{name}").into();
                let requirement = Requirement { place, attribute, negated, values };
                requirements.extend(Some(requirement).filter(|one| !one.values.is_empty()));
            }
            Err(problem) => place.error(problem),
        }
    }
    requirements
}

/// What a key means, and whether the values fit.
fn attribute(key: &str, list: &Field<'_>) -> Result<Attribute, String> {
    if let Some((_, read)) = PLAIN.iter().find(|(name, _)| *name == key) {
        return Ok(read(list));
    }
    let unknown = || {
        let known = PLAIN.iter().map(|(name, _)| *name);
        let further = ["request.headers[NAME]", "request.auth.claims[NAME]"];
        let hint = spelling::did_you_mean(key, known.chain(further));
        format!("{key:?} is no key of a condition{hint}")
    };
    if GONE.iter().any(|gone| key.starts_with(gone)) {
        return Err(format!("{key:?} is no key any more: select workloads with spec.selector"));
    }
    let (name, rest) = key.split_once('[').ok_or_else(unknown)?;
    let inner = rest.strip_suffix(']').filter(|inner| !inner.is_empty());
    match name {
        "request.headers" => {
            let header =
                inner.ok_or_else(|| format!("{key:?} names no header: write request.headers[NAME]"))?;
            Ok(Attribute::Header(header.to_ascii_lowercase().into()))
        }
        "request.auth.claims" => {
            let path: Vec<Name> = inner.unwrap_or_default().split("][").map(Into::into).collect();
            if path.iter().any(|name| name.is_empty()) {
                return Err(format!("{key:?} has a claim without a name: write request.auth.claims[NAME]"));
            }
            Ok(Attribute::Claim(path))
        }
        _ => match (name.strip_prefix("experimental."), inner) {
            (Some(filter), Some(inner)) if filter.starts_with("envoy.filters.") => {
                Ok(Attribute::FilterMetadata { filter: filter.into(), key: inner.into() })
            }
            (Some(filter), None) if filter.starts_with("envoy.filters.") => {
                Err(format!("{key:?} names no key of the metadata: write {name}[KEY]"))
            }
            _ => Err(unknown()),
        },
    }
}
