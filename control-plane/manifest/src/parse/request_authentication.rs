//! RequestAuthentication (AUTHORIZATION.md Z58, Z60).

use std::time::Duration;

use eastwest_model::{
    MeshConfig, Meta, Name, Object,
    policy::{DRY_RUN, JwtRule, KeySource, RequestAuthentication, TokenHeader},
};
use serde_json::{Map, Value, json};

use super::{duration, scoped};
use crate::field::Field;

const FIELDS: &[&str] = &[
    "issuer",
    "audiences",
    "jwksUri",
    "jwks_uri",
    "jwks",
    "fromHeaders",
    "fromParams",
    "fromCookies",
    "outputPayloadToHeader",
    "forwardOriginalToken",
    "outputClaimToHeaders",
    "timeout",
    "spaceDelimitedClaims",
    "presence",
];

/// The members of a key that verify signatures; all others stay away from proxies.
const PUBLIC: [&str; 9] = ["kty", "use", "alg", "kid", "crv", "n", "e", "x", "y"];
/// The members of a private key.
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

pub(super) fn read(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let spec = root.get("spec");
    spec.knows(&["selector", "targetRef", "targetRefs", "jwtRules"]);
    let (selector, is_targeted) = scoped::read(&spec);
    if meta.annotations.contains_key(DRY_RUN) {
        root.get("metadata").get("annotations").get(DRY_RUN).error("is for AuthorizationPolicies: drop it");
    }
    let rules = spec.get("jwtRules").list().iter().map(rule).collect();
    Some(RequestAuthentication { meta, selector, is_targeted, rules }.into())
}

fn rule(field: &Field<'_>) -> JwtRule {
    field.knows(FIELDS);
    let uri = field.get("jwksUri");
    let uri = if uri.is_set() { uri } else { field.get("jwks_uri") };
    let issuer = field.get("issuer").name();
    if issuer.is_none() && uri.name().is_none() {
        field
            .get("issuer")
            .error("missing: name the issuer, as in the claim iss of its tokens, or a jwksUri");
    }
    if field.get("presence").is_set() {
        field.get("presence").warn("is not in force: require a token with an AuthorizationPolicy");
    }
    let header = |item: &Field<'_>| {
        item.knows(&["name", "prefix"]);
        let name = item.get("name").name().unwrap_or_else(|| {
            item.get("name").error("missing: name the header that has the token");
            "".into()
        });
        let prefix = item.get("prefix").name().unwrap_or_else(|| "".into());
        TokenHeader { name: name.to_ascii_lowercase().into(), prefix }
    };
    JwtRule {
        keys: keys(field, &uri),
        issuer: issuer.unwrap_or_else(|| "".into()),
        audiences: texts(&field.get("audiences")),
        from_headers: field.get("fromHeaders").list().iter().map(header).collect(),
        from_params: texts(&field.get("fromParams")),
        from_cookies: texts(&field.get("fromCookies")),
        payload_header: field
            .get("outputPayloadToHeader")
            .name()
            .map(|name| name.to_ascii_lowercase().into()),
        claim_headers: field.get("outputClaimToHeaders").list().iter().filter_map(claim_header).collect(),
        forward: field.get("forwardOriginalToken").flag().unwrap_or_default(),
        space_delimited: texts(&field.get("spaceDelimitedClaims")),
        timeout: timeout(&field.get("timeout")),
    }
}

fn texts(list: &Field<'_>) -> Vec<Name> {
    super::authorization_values::not_empty(list)
}

fn timeout(field: &Field<'_>) -> Option<Duration> {
    let duration = field.is_set().then(|| duration::lenient(field)).flatten();
    if field.is_set() && duration.is_none_or(|duration| duration < Duration::from_millis(1)) {
        field.error("is no time of at least 1ms: write for example 5s");
    }
    duration
}

fn claim_header(item: &Field<'_>) -> Option<(Name, Name)> {
    item.knows(&["header", "claim"]);
    let (header, claim) = (item.get("header"), item.get("claim"));
    let (name, path) = (header.name(), claim.name());
    if name.is_none() {
        header.error("missing: name the header that gets the claim");
    }
    if path.is_none() {
        claim.error("missing: name the claim");
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = name?;
    if !name.bytes().all(is_token) {
        header.error(format_args!("{:?} is no name of a header: use letters, digits, '-' and '_'", &*name));
    }
    Some((name.to_ascii_lowercase().into(), path?))
}

/// Z49: inline keys go before an address, that before discovery.
fn keys(field: &Field<'_>, uri: &Field<'_>) -> KeySource {
    let address = uri.name();
    if let Some(written) = address.as_deref() {
        let has_host = written
            .split_once("://")
            .is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && !rest.is_empty());
        if !has_host {
            uri.error(format_args!("{written:?} is no address of a key set: write https://HOST/PATH"));
        }
    }
    let inline = field.get("jwks");
    match inline.secret().filter(|text| !text.is_empty()) {
        Some(text) => key_set(&inline, text),
        None => address.map_or(KeySource::Discovery, KeySource::Uri),
    }
}

/// A key set without its private parts. Nothing of it is quoted: it may have some.
fn key_set(field: &Field<'_>, text: &str) -> KeySource {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    let Some(Value::Object(set)) = parsed else {
        field.error("is no JSON key set: write {\"keys\": [...]}");
        return KeySource::Unusable;
    };
    let keys = set.get("keys").and_then(Value::as_array);
    let public: Vec<Value> = keys.into_iter().flatten().filter_map(|key| public(field, key)).collect();
    if public.is_empty() {
        field.left_out(
            "has no key that verifies a token, so all tokens of this issuer are refused: write {\"keys\": [...]} with \
             RSA, EC or OKP keys",
        );
        return KeySource::Unusable;
    }
    KeySource::Inline(json!({ "keys": public }).to_string().into())
}

/// The public half of a key that can verify.
fn public(field: &Field<'_>, key: &Value) -> Option<Value> {
    let key = key.as_object()?;
    let has = |name: &str| key.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if PRIVATE.iter().any(|name| key.contains_key(*name)) && key.get("kty") != Some(&json!("oct")) {
        field.warn(
            "has a private key, which is left out here: write the public half alone, and replace the key",
        );
    }
    let kind = key.get("kty").and_then(Value::as_str)?;
    let usable = match kind {
        "RSA" => has("n") && has("e"),
        "EC" => has("x") && has("y"),
        "OKP" => has("x"),
        "oct" => has("k"),
        _ => false,
    };
    let wanted = |name: &str| PUBLIC.contains(&name) || kind == "oct" && name == "k";
    let members: Map<String, Value> = key
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    usable.then_some(Value::Object(members))
}
