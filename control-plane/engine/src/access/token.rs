//! Tokens of requests: where they stand, whose they are, and what becomes of the request (Z43 to Z50).

mod keys;
mod place;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use eastwest_model::{
    ObjectRef,
    policy::{JwtRule, KeySource},
};
use serde_json::{Map, Value};

use super::request::HttpRequest;

/// How far clocks may be apart, in seconds; Envoy's default.
const CLOCK_SKEW: i64 = 60;

/// A rule of a RequestAuthentication that applies to a workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenRule {
    /// The RequestAuthentication.
    pub object: ObjectRef,
    /// The rule.
    pub rule: Arc<JwtRule>,
}

/// A token that is taken for verified: these claims.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a>(pub &'a [(String, String)]);

/// What the tokens of a request come to.
pub(super) enum Presented {
    /// There is none, or one that is accepted.
    Nothing,
    /// The request is refused.
    Refused { by: ObjectRef, why: String },
}

/// Checks the tokens of a request and leaves it as a proxy does: with the payload, without the token.
pub(super) fn present(
    rules: &[TokenRule],
    http: &mut HttpRequest,
    given: Option<Given<'_>>,
    now: i64,
) -> Presented {
    if is_preflight(http) {
        return Presented::Nothing;
    }
    for rule in rules.iter().map(|one| &one.rule) {
        let set_here: Vec<_> =
            rule.payload_header.iter().chain(rule.claim_headers.iter().map(|(header, _)| header)).collect();
        http.headers.retain(|(name, _)| !set_here.iter().any(|header| ***header == **name));
    }
    if let (Some(Given(claims)), Some(first)) = (given, rules.first()) {
        accept(http, &first.rule, made(claims, &first.rule));
        return Presented::Nothing;
    }
    let mut refused: Option<(bool, ObjectRef, String)> = None;
    for one in rules {
        let tokens = place::tokens(&one.rule, http);
        let checked: Result<Vec<_>, String> =
            tokens.iter().map(|token| check(token, &one.rule, now)).collect();
        match checked.map(|mut payloads| payloads.pop()) {
            Ok(Some(payload)) => {
                place::remove(&one.rule, http);
                accept(http, &one.rule, payload);
                return Presented::Nothing;
            }
            Ok(None) => {}
            Err(why) => {
                let is_own = tokens.iter().any(|token| names(token, &one.rule.issuer));
                match &refused {
                    Some((true, ..)) => {}
                    Some((false, ..)) if !is_own => {}
                    _ => refused = Some((is_own, one.object.clone(), why)),
                }
            }
        }
    }
    refused.map_or(Presented::Nothing, |(_, by, why)| Presented::Refused { by, why })
}

/// Z48.
fn is_preflight(http: &HttpRequest) -> bool {
    let has = |name: &str| !http.values(name).is_empty();
    http.method == "OPTIONS" && has("origin") && has("access-control-request-method")
}

/// Whether a token says that it is of this issuer.
fn names(token: &str, issuer: &str) -> bool {
    token.split('.').nth(1).and_then(part).is_some_and(|claims| claims.get("iss") == Some(&issuer.into()))
}

/// A JSON object in base64url.
fn part(text: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The payload of a token that a rule accepts, or why it does not.
fn check(token: &str, rule: &JwtRule, now: i64) -> Result<Map<String, Value>, String> {
    let no_token = || "it is no JWT".to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { return Err(no_token()) };
    let (header, payload) = (part(header).ok_or_else(no_token)?, part(claims).ok_or_else(no_token)?);
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| no_token())?;
    let issuer = payload.get("iss").map_or(Some(""), Value::as_str).ok_or_else(no_token)?;
    if !rule.issuer.is_empty() && issuer != &*rule.issuer {
        return Err(format!("its issuer {issuer:?} is not {:?}", &*rule.issuer));
    }
    let time = |name: &str| payload.get(name).map(|value| value.as_f64().ok_or_else(no_token)).transpose();
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact for millions of years")]
    let (now, skew) = (now as f64, CLOCK_SKEW as f64);
    if time("nbf")?.is_some_and(|begin| begin > now + skew) {
        return Err("it is not valid yet".to_owned());
    }
    if time("exp")?.is_some_and(|end| end > 0.0 && now > end + skew) {
        return Err("it has expired".to_owned());
    }
    check_audience(&payload, rule)?;
    let message = &token[..token.rfind('.').unwrap_or_default()];
    match &rule.keys {
        KeySource::Inline(keys) => keys::verify(keys, &header, message.as_bytes(), &signature)?,
        KeySource::Unusable => return Err("the rule has no key that verifies anything".to_owned()),
        KeySource::Uri(uri) => return Err(format!("the keys at {uri} are not known")),
        KeySource::Discovery => return Err(format!("the keys of {issuer} are not known")),
    }
    Ok(payload)
}

/// Z44: one audience in common, schemes and a trailing slash left out.
fn check_audience(payload: &Map<String, Value>, rule: &JwtRule) -> Result<(), String> {
    let bare = |text: &str| {
        let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        text.strip_suffix('/').unwrap_or(text).to_owned()
    };
    let has: Vec<String> = match payload.get("aud") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![bare(one)],
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).map(bare).collect()
        }
        Some(_) => return Err("it is no JWT: aud is no text".to_owned()),
    };
    let fits = rule.audiences.is_empty() || rule.audiences.iter().any(|one| has.contains(&bare(one)));
    if fits { Ok(()) } else { Err(format!("it is for {has:?}, not for {:?}", rule.audiences)) }
}

/// The payload of a token that the first rule accepts, with claims that are texts.
fn made(claims: &[(String, String)], rule: &JwtRule) -> Map<String, Value> {
    let mut payload = Map::new();
    if !rule.issuer.is_empty() {
        payload.insert("iss".to_owned(), (*rule.issuer).into());
    }
    if let Some(audience) = rule.audiences.first() {
        payload.insert("aud".to_owned(), (**audience).into());
    }
    payload.extend(claims.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
    payload
}

/// Gives the payload to the policies, and to the headers that the rule names (Z46, Z47).
fn accept(http: &mut HttpRequest, rule: &JwtRule, payload: Map<String, Value>) {
    if let Some(header) = &rule.payload_header {
        let encoded = URL_SAFE_NO_PAD.encode(Value::Object(payload.clone()).to_string());
        http.headers.push((header.to_string(), encoded));
    }
    for (header, path) in &rule.claim_headers {
        let mut names = path.split('.');
        let first = names.next().and_then(|name| payload.get(name));
        let value = names.fold(first, |value, name| value.and_then(|value| value.get(name)));
        let text = match value {
            Some(Value::String(text)) => Some(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
            _ => None,
        };
        http.headers.extend(text.map(|text| (header.to_string(), text)));
    }
    http.token = Some(divided(payload, rule));
}

/// Z37: some claims are lists with blanks between.
fn divided(payload: Map<String, Value>, rule: &JwtRule) -> Map<String, Value> {
    let is_list = |name: &str| rule.space_delimited_claims().any(|one| one == name);
    let one = |(name, value): (String, Value)| {
        let value = match value.as_str().filter(|_| is_list(&name)) {
            Some(text) => text.split(' ').filter(|part| !part.is_empty()).collect(),
            None => value,
        };
        (name, value)
    };
    payload.into_iter().map(one).collect()
}
