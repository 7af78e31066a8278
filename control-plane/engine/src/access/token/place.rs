//! Where tokens stand in a request (Z45, Z46).

use eastwest_model::policy::JwtRule;

use crate::access::request::HttpRequest;

const DEFAULT_HEADER: (&str, &str) = ("authorization", "Bearer ");
const DEFAULT_PARAM: &str = "access_token";

/// The headers, with what stands before the token, and the query parameters in which a rule looks.
fn places(rule: &JwtRule) -> (Vec<(&str, &str)>, Vec<&str>) {
    if rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty() {
        return (vec![DEFAULT_HEADER], vec![DEFAULT_PARAM]);
    }
    let headers = rule.from_headers.iter().map(|header| (&*header.name, &*header.prefix));
    (headers.collect(), rule.from_params.iter().map(|name| &**name).collect())
}

/// The tokens that a rule looks at.
pub(super) fn tokens(rule: &JwtRule, http: &HttpRequest) -> Vec<String> {
    let (headers, params) = places(rule);
    let mut tokens = Vec::new();
    for (name, prefix) in headers {
        let Some(value) = http.joined(name) else { continue };
        let token = match prefix {
            "" => Some(value.as_str()),
            prefix => value.find(prefix).map(|at| &value[at + prefix.len()..]),
        };
        tokens.extend(token.filter(|token| !token.is_empty()).map(str::to_owned));
    }
    let query = http.path.split_once('?').map_or("", |(_, query)| query);
    for name in params {
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        tokens.extend(pairs.find(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value)));
    }
    for name in &rule.from_cookies {
        let cookies = http.values("cookie");
        let mut pairs = cookies.iter().flat_map(|line| line.split(';')).filter_map(|one| one.split_once('='));
        let found = pairs.find(|(key, _)| key.trim() == &**name);
        tokens.extend(found.map(|(_, value)| value.trim().trim_matches('"').to_owned()));
    }
    tokens
}

/// Z46: a token that was verified goes, unless it is to be forwarded.
pub(super) fn remove(rule: &JwtRule, http: &mut HttpRequest) {
    if rule.forward {
        return;
    }
    let (headers, params) = places(rule);
    let holds = |value: &str, prefix: &str| prefix.is_empty() || value.contains(prefix);
    http.headers
        .retain(|(name, value)| !headers.iter().any(|(one, prefix)| one == name && holds(value, prefix)));
    let Some((path, query)) = http.path.split_once('?') else { return };
    let is_token = |pair: &&str| params.contains(&&*decoded(pair.split('=').next().unwrap_or_default()));
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_token(pair)).collect();
    if kept.len() < query.split('&').count() {
        http.path = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    }
}

/// Percent-decoded text of a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
