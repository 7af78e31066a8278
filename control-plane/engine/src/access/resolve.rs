//! Policies of the model in the terms of a proxy (Z17 to Z39).

use std::sync::Arc;

use eastwest_model::{
    MeshConfig, Name, TrustDomain,
    policy::{
        Attribute, AuthorizationPolicy, AuthorizationRule, RequestAuthentication, Requirement as Written,
    },
};

use super::{
    policy::{Policy, Provider, Requirement, Rule, Test},
    text::{Text, escaped},
    token::TokenRule,
};

/// The domain that stands for the mesh's own in principals (Z25).
const LOCAL_DOMAIN: &str = "cluster.local";
const SCHEME: &str = "spiffe://";

/// A policy in the terms of a proxy; `provider` is whom a CUSTOM policy asks.
pub(crate) fn policy(written: &AuthorizationPolicy, mesh: &MeshConfig, provider: Option<Provider>) -> Policy {
    let namespace = written.meta.namespace();
    let rule = |rule: &AuthorizationRule| {
        let list = |list: &Vec<Written>| list.iter().map(|one| requirement(one, namespace, mesh)).collect();
        Rule {
            sources: rule.sources.iter().map(list).collect(),
            operations: rule.operations.iter().map(list).collect(),
            conditions: list(&rule.conditions),
        }
    };
    let mut rules: Vec<(usize, Rule)> = written.rules.iter().map(rule).enumerate().collect();
    rules.sort_by_cached_key(|(number, _)| format!("rule[{number}]"));
    Policy {
        object: written.meta.object.clone(),
        action: written.action,
        dry_run: written.dry_run,
        provider,
        rules,
    }
}

/// The rules of all RequestAuthentications that apply, sorted by issuer (Z43).
pub(crate) fn token_rules<'a>(
    applying: impl Iterator<Item = &'a Arc<RequestAuthentication>>,
) -> Vec<TokenRule> {
    let rules = applying.flat_map(|one| {
        one.rules
            .iter()
            .map(|rule| TokenRule { object: one.meta.object.clone(), rule: Arc::new(rule.clone()) })
    });
    let mut rules: Vec<TokenRule> = rules.collect();
    rules.sort_by(|a, b| (&a.rule.issuer, &a.object).cmp(&(&b.rule.issuer, &b.object)));
    rules
}

fn requirement(written: &Written, namespace: &str, mesh: &MeshConfig) -> Requirement {
    let Written { place, attribute, negated, values } = written.clone();
    let texts = || values.iter().map(|value| &**value);
    let tests = match &attribute {
        Attribute::Principal => {
            texts().flat_map(|value| in_all_domains(value, mesh)).map(|one| principal(&one)).collect()
        }
        Attribute::Namespace => texts().map(peer_namespace).collect(),
        Attribute::ServiceAccount => texts().map(|value| service_account(value, namespace)).collect(),
        Attribute::TrustDomain => texts().flat_map(|value| trust_domain(value, mesh)).collect(),
        Attribute::RequestPrincipal => texts().map(request_principal).collect(),
        Attribute::SourceAddress(blocks) => blocks.iter().copied().map(Test::SourceAddress).collect(),
        Attribute::RemoteAddress(blocks) => blocks.iter().copied().map(Test::RemoteAddress).collect(),
        Attribute::DestinationAddress(blocks) => {
            blocks.iter().copied().map(Test::DestinationAddress).collect()
        }
        Attribute::DestinationPort(ports) => ports.iter().copied().map(Test::DestinationPort).collect(),
        Attribute::Host => texts().map(|value| Test::Host(Text::of(value))).collect(),
        Attribute::Method => texts().map(|value| Test::Header(":method".into(), Text::of(value))).collect(),
        Attribute::Path => texts().map(path).collect(),
        Attribute::Header(name) => {
            let name = if **name == *"host" { Name::from(":authority") } else { name.clone() };
            texts().map(|value| Test::Header(name.clone(), Text::of(value))).collect()
        }
        Attribute::ServerName => texts().map(|value| Test::ServerName(Text::of(value))).collect(),
        Attribute::Claim(path) => texts().map(|value| Test::Claim(path.clone(), Text::of(value))).collect(),
        Attribute::FilterMetadata { filter, key } => {
            texts().map(|value| filter_metadata(filter, key, value)).collect()
        }
    };
    Requirement { place, attribute, negated, values, tests }
}

/// Z25, Z26: a principal whose domain is ours, an alias or `cluster.local` stands for all of our domains.
fn in_all_domains(value: &str, mesh: &MeshConfig) -> Vec<String> {
    let as_written = || vec![value.to_owned()];
    let Some((domain, rest)) = value.split_once('/').filter(|_| value.split('/').count() == 5) else {
        return as_written();
    };
    let ours = || mesh.trust_domains().map(TrustDomain::as_str);
    let pattern = domain.strip_prefix('*').filter(|suffix| !suffix.is_empty());
    let covers = |ours: &str| ours == domain || pattern.is_some_and(|suffix| ours.ends_with(suffix));
    if domain == "*" || !(domain == LOCAL_DOMAIN || ours().any(covers)) {
        return as_written();
    }
    let mut all: Vec<String> = Vec::new();
    for one in ours() {
        let principal = if covers(one) { value.to_owned() } else { format!("{one}/{rest}") };
        if !all.contains(&principal) {
            all.push(principal);
        }
    }
    all
}

/// Z17.
fn principal(value: &str) -> Test {
    Test::Peer(match Text::of(value) {
        // With a scheme inside, an ending could reach into the scheme of the identity.
        Text::Suffix(suffix) if suffix.contains("//") => {
            Text::Regex(format!("{SCHEME}.*{}", regex::escape(&suffix)).into())
        }
        Text::Prefix(prefix) => Text::Prefix(format!("{SCHEME}{prefix}").into()),
        Text::Exact(exact) => Text::Exact(format!("{SCHEME}{exact}").into()),
        other => other,
    })
}

/// Z18.
fn peer_namespace(value: &str) -> Test {
    Test::Peer(match value.contains('*') {
        true => Text::Regex(format!(".*/ns/{}/.*", escaped(value, ".*")).into()),
        false => Text::Contains(format!("/ns/{value}/").into()),
    })
}

/// Z19: a bare name is of the namespace of the policy.
fn service_account(value: &str, namespace: &str) -> Test {
    let (namespace, account) = value.split_once('/').unwrap_or((namespace, value));
    let (namespace, account) = (regex::escape(namespace), regex::escape(account));
    Test::Peer(Text::Regex(format!("{SCHEME}.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?").into()))
}

/// Z20, Z27: an exact domain of ours stands for all of them; patterns do not.
fn trust_domain(value: &str, mesh: &MeshConfig) -> Vec<Test> {
    let exact = |domain: &str| Test::Peer(Text::Prefix(format!("{SCHEME}{domain}/").into()));
    if value.contains('*') {
        let any = if value == "*" { "[^/]+" } else { "[^/]*" };
        return vec![Test::Peer(Text::Regex(format!("{SCHEME}{}/.+", escaped(value, any)).into()))];
    }
    if mesh.trust_domains().any(|domain| domain.as_str() == value) {
        return mesh.trust_domains().map(|domain| exact(domain.as_str())).collect();
    }
    vec![exact(value)]
}

/// Z24.
fn request_principal(value: &str) -> Test {
    let exact = |text: &str| Text::Exact(text.into());
    let (issuer, subject) = match (value.rsplit_once('/'), value) {
        (_, "*") => (Text::Any, Text::Any),
        (Some((issuer, subject)), _) if value.starts_with('*') => (Text::of(issuer), exact(subject)),
        (Some((issuer, subject)), _) if value.ends_with('*') => (exact(issuer), Text::of(subject)),
        (Some((issuer, subject)), _) => (exact(issuer), exact(subject)),
        (None, _) if value.starts_with('*') => (Text::Any, Text::of(value)),
        (None, _) if value.ends_with('*') => (Text::of(value), Text::Any),
        (None, _) => (exact(value), exact("")),
    };
    Test::RequestPrincipal { issuer, subject }
}

/// Z32, Z34.
fn path(value: &str) -> Test {
    if value.contains("{*}") || value.contains("{**}") {
        return Test::PathTemplate(value.replace("{**}", "**").replace("{*}", "*").into());
    }
    Test::Path(Text::of(value))
}

/// Z39.
fn filter_metadata(filter: &Name, key: &Name, value: &str) -> Test {
    let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    Test::FilterMetadata {
        filter: filter.clone(),
        key: key.clone(),
        value: Text::of(inner.unwrap_or(value)),
        in_list: inner.is_some(),
    }
}
