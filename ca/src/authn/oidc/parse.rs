//! Parses the rules of a document and reports all mistakes at once.

use std::{collections::BTreeMap, time::Duration};

use eastwest_identity::{is_dns_label, is_dns_subdomain};
use serde_json::{Map, Value};

use super::{Pattern, Rule, Template};
use crate::names::AllowedNames;

const FIELDS: &[&str] = &[
    "name",
    "issuer",
    "audience",
    "jwks",
    "match",
    "namespace",
    "serviceAccount",
    "maxTTL",
    "dnsNames",
    "ipAddresses",
];
/// Claims that name the owner of a job. A rule without any of them would match all jobs of the issuer.
const OWNERS: &[&str] = &[
    "sub",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "project_path",
    "project_id",
    "namespace_path",
    "namespace_id",
];
/// Most rules of a document.
const MAX_RULES: usize = 1000;

/// The rules of `{rules: [...]}`.
pub(super) fn rules(document: &Value) -> Result<Vec<Rule>, Vec<String>> {
    let mut reader = Reader { mistakes: Vec::new() };
    let list = match document.as_object() {
        Some(members) => {
            reader.known("", members, &["rules"]);
            members.get("rules").and_then(Value::as_array)
        }
        None => None,
    };
    let Some(list) = list else { return Err(vec!["rules: a list of rules is needed".to_owned()]) };
    if list.len() > MAX_RULES {
        return Err(vec![format!("rules: {} are more than {MAX_RULES}", list.len())]);
    }
    let mut rules = Vec::new();
    for (at, rule) in list.iter().enumerate() {
        rules.extend(reader.rule(&format!("rules[{at}]"), rule).map(|rule| (at, rule)));
    }
    reader.contradictions(&rules);
    if !reader.mistakes.is_empty() {
        return Err(reader.mistakes);
    }
    Ok(rules.into_iter().map(|(_, rule)| rule).collect())
}

struct Reader {
    mistakes: Vec<String>,
}

impl Reader {
    fn note(&mut self, path: &str, mistake: impl std::fmt::Display) {
        self.mistakes.push(format!("{path}: {mistake}"));
    }

    fn take<T, E: std::fmt::Display>(&mut self, path: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.note(path, error)).ok()
    }

    fn known(&mut self, path: &str, members: &Map<String, Value>, known: &[&str]) {
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.note(&at, format_args!("no such field; known are {}", known.join(", ")));
        }
    }

    /// A text that must be there.
    fn text<'a>(
        &mut self,
        path: &str,
        members: &'a Map<String, Value>,
        name: &str,
        remedy: &str,
    ) -> Option<&'a str> {
        let text = members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if text.is_none() {
            self.note(&format!("{path}.{name}"), format_args!("missing or no text: {remedy}"));
        }
        text
    }

    fn rule(&mut self, path: &str, rule: &Value) -> Option<Rule> {
        let Some(members) = rule.as_object() else {
            self.note(path, "a rule is a mapping");
            return None;
        };
        self.known(path, members, FIELDS);
        let at = |name: &str| format!("{path}.{name}");
        let name = self.text(path, members, "name", "a name for log and ledger, for example shop-deploy");
        let name = name.filter(|name| {
            let good = is_dns_label(name);
            if !good {
                self.note(&at("name"), "use a-z, 0-9 and '-', at most 63 of them");
            }
            good
        });
        let issuer = self.text(path, members, "issuer", "the `iss` of the tokens, byte for byte");
        let audience = self.text(path, members, "audience", "the `aud` that the job asks its token for");
        let jwks = match members.get("jwks") {
            None | Some(Value::Null) => None,
            Some(_) => self.text(path, members, "jwks", "a file or an https:// address").map(str::to_owned),
        };
        let claims = self.claims(&at("match"), members.get("match"));
        let mut template = |name: &str, remedy, is_name| {
            let text = self.text(path, members, name, remedy)?;
            self.take(&at(name), Template::parse(text, is_name))
        };
        let namespace = template("namespace", "the namespace of the identity", is_dns_label);
        let service_account =
            template("serviceAccount", "the service account of the identity", is_dns_subdomain);
        let max_life =
            self.text(path, members, "maxTTL", "the longest life of a certificate, for example 15m");
        let max_life = max_life.and_then(|text| self.life(&at("maxTTL"), text));
        let names = self.names(path, members);
        Some(Rule {
            name: name?.to_owned(),
            issuer: issuer?.to_owned(),
            audience: audience?.to_owned(),
            jwks,
            claims: claims?,
            namespace: namespace?,
            service_account: service_account?,
            max_life: max_life?,
            names: names?,
        })
    }

    /// The names of hosts that a job's certificates may have; none if the rule says nothing.
    fn names(&mut self, path: &str, members: &Map<String, Value>) -> Option<AllowedNames> {
        let dns = self.texts(&format!("{path}.dnsNames"), members.get("dnsNames"))?;
        let addresses = self.texts(&format!("{path}.ipAddresses"), members.get("ipAddresses"))?;
        let of_dns = self.take(&format!("{path}.dnsNames"), AllowedNames::new(dns, []));
        let of_ip = self.take(&format!("{path}.ipAddresses"), AllowedNames::new([], addresses));
        Some(of_dns?.and(&of_ip?))
    }

    /// A list of texts, which may be absent.
    fn texts<'a>(&mut self, path: &str, value: Option<&'a Value>) -> Option<Vec<&'a str>> {
        let list = match value {
            None | Some(Value::Null) => return Some(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(Value::as_str).collect(),
            Some(_) => None,
        };
        if list.is_none() {
            self.note(path, "is no list of texts: write for example [localhost, \"*.test\"]");
        }
        list
    }

    fn life(&mut self, path: &str, text: &str) -> Option<Duration> {
        match humantime::parse_duration(text) {
            Ok(life) if life >= Duration::from_secs(1) => Some(life),
            Ok(_) => {
                self.note(path, format_args!("{text:?} is under a second"));
                None
            }
            Err(_) => {
                self.note(path, format_args!("{text:?} is not a duration: write for example 90s, 15m or 1h"));
                None
            }
        }
    }

    fn claims(&mut self, path: &str, value: Option<&Value>) -> Option<BTreeMap<String, Pattern>> {
        let Some(members) = value.and_then(Value::as_object).filter(|members| !members.is_empty()) else {
            self.note(path, "missing or no mapping: name the claims that the job must have");
            return None;
        };
        if !OWNERS.iter().any(|owner| members.contains_key(*owner)) {
            self.note(path, format_args!("say whose job it is, by one of {}", OWNERS.join(", ")));
        }
        let mut claims = BTreeMap::new();
        for (name, value) in members {
            let at = format!("{path}.{name}");
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => {
                    self.note(&at, "a claim is compared with one text");
                    continue;
                }
            };
            if let Some(pattern) = self.take(&at, Pattern::parse(&text)) {
                claims.insert(name.clone(), pattern);
            }
        }
        Some(claims)
    }

    /// Rules that cannot stand beside each other.
    fn contradictions(&mut self, rules: &[(usize, Rule)]) {
        for (position, (at, rule)) in rules.iter().enumerate() {
            for (_, other) in &rules[..position] {
                if rule.name == other.name {
                    self.note(&format!("rules[{at}].name"), format_args!("{:?} stands twice", rule.name));
                }
                if rule.issuer == other.issuer && rule.jwks != other.jwks {
                    let mistake = format_args!("rule {} finds the keys of this issuer elsewhere", other.name);
                    self.note(&format!("rules[{at}].jwks"), mistake);
                }
            }
        }
    }
}
