//! AuthorizationPolicy (AUTHORIZATION.md Z54 to Z57, Z60).

use eastwest_model::{
    MeshConfig, Meta, Name, Object,
    policy::{Attribute, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, DRY_RUN, Requirement},
};

use super::{authorization_values as values, scoped};
use crate::field::Field;

const ACTIONS: &[(&str, AuthorizationAction)] = &[
    ("ALLOW", AuthorizationAction::Allow),
    ("DENY", AuthorizationAction::Deny),
    ("AUDIT", AuthorizationAction::Audit),
    ("CUSTOM", AuthorizationAction::Custom),
];

/// What Go takes for a boolean.
const TRUE: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];
const FALSE: [&str; 6] = ["0", "f", "F", "FALSE", "false", "False"];

/// Most values of `serviceAccounts`.
const MAX_ACCOUNTS: usize = 16;

/// The fields of a source, each with its negation.
const SOURCE: &[(&str, &str, values::Read)] = &[
    ("principals", "notPrincipals", |list| values::text(list, Attribute::Principal)),
    ("requestPrincipals", "notRequestPrincipals", |list| values::text(list, Attribute::RequestPrincipal)),
    ("namespaces", "notNamespaces", |list| values::text(list, Attribute::Namespace)),
    ("serviceAccounts", "notServiceAccounts", values::service_accounts),
    ("trustDomains", "notTrustDomains", values::trust_domains),
    ("ipBlocks", "notIpBlocks", |list| Attribute::SourceAddress(values::blocks(list))),
    ("remoteIpBlocks", "notRemoteIpBlocks", |list| Attribute::RemoteAddress(values::blocks(list))),
];

/// The fields of an operation, each with its negation.
const OPERATION: &[(&str, &str, values::Read)] = &[
    ("hosts", "notHosts", |list| values::text(list, Attribute::Host)),
    ("ports", "notPorts", values::ports),
    ("methods", "notMethods", |list| values::text(list, Attribute::Method)),
    ("paths", "notPaths", values::paths),
];

/// Fields that name the peer or its token, which a CUSTOM policy cannot: it is asked before they are known.
const IDENTITIES: [&str; 10] = [
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
];

pub(super) fn read(meta: Meta, root: &Field<'_>, _: &MeshConfig) -> Option<Object> {
    let spec = root.get("spec");
    spec.knows(&["selector", "targetRef", "targetRefs", "action", "provider", "rules"]);
    let (selector, is_targeted) = scoped::read(&spec);
    let action = spec.get("action").choice("actions", ACTIONS).unwrap_or(AuthorizationAction::Allow);
    let provider = provider(&spec, action);
    let rules = spec.get("rules");
    let items = rules.list();
    if items.is_empty() && matches!(action, AuthorizationAction::Deny | AuthorizationAction::Custom) {
        rules.error(format_args!("missing: a policy with action {action} needs at least one rule"));
    }
    let rules = items.iter().map(|item| rule(item, action)).collect();
    let dry_run = dry_run(&meta, root, action);
    Some(AuthorizationPolicy { meta, selector, is_targeted, action, provider, dry_run, rules }.into())
}

/// What stands in for a refused policy, whose errors are at the fields `errors`: the rules that can be read (POLICY.md V4).
/// So an ALLOW policy with a mistake never opens a workload. Nothing if it is in doubt which workloads it is for, or what
/// it does with a request.
pub(super) fn stand_in(policy: &AuthorizationPolicy, errors: &[&str]) -> Option<Object> {
    let is_whole = |errors: &[Option<usize>]| errors.iter().all(Option::is_some);
    let mut bad = Vec::new();
    for field in errors {
        let rest =
            field.strip_prefix("spec.rules").filter(|rest| rest.is_empty() || rest.starts_with('['))?;
        let index = rest.strip_prefix('[').and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
        bad.push(index.filter(|index| *index < policy.rules.len()));
    }
    let readable = policy.rules.iter().enumerate().filter(|(index, _)| !bad.contains(&Some(*index)));
    let rules: Vec<_> = match is_whole(&bad) {
        true => readable.map(|(_, rule)| rule.clone()).collect(),
        false => Vec::new(),
    };
    let protects = match policy.action {
        AuthorizationAction::Allow => true,
        AuthorizationAction::Deny => !rules.is_empty(),
        AuthorizationAction::Audit | AuthorizationAction::Custom => false,
    };
    protects.then(|| AuthorizationPolicy { rules, ..policy.clone() }.into())
}

/// The provider of a CUSTOM policy.
fn provider(spec: &Field<'_>, action: AuthorizationAction) -> Option<Name> {
    let provider = spec.get("provider");
    let name = provider.knows(&["name"]).get("name").name();
    let is_custom = action == AuthorizationAction::Custom;
    match name.is_some() {
        false if is_custom => {
            provider.error("missing: name one of the mesh's extensionProviders in provider.name");
        }
        true if !is_custom => provider.error(format_args!(
            "is for action CUSTOM alone: drop it, or write action: CUSTOM instead of {action}"
        )),
        _ => {}
    }
    name
}

/// Z10.
fn dry_run(meta: &Meta, root: &Field<'_>, action: AuthorizationAction) -> bool {
    let Some(value) = meta.annotations.get(DRY_RUN) else { return false };
    let field = root.get("metadata").get("annotations").get(DRY_RUN);
    if !matches!(action, AuthorizationAction::Allow | AuthorizationAction::Deny) {
        field.error(format_args!("is for ALLOW and DENY policies: drop it, {action} cannot be tried"));
    } else if !TRUE.contains(&&**value) && !FALSE.contains(&&**value) {
        field.error(format_args!("{:?} is not true or false: write \"true\" or \"false\"", &**value));
    }
    TRUE.contains(&&**value)
}

fn rule(item: &Field<'_>, action: AuthorizationAction) -> AuthorizationRule {
    item.knows(&["from", "to", "when"]);
    let is_custom = action == AuthorizationAction::Custom;
    let part = |list: &str, inner: &str, fields| -> Vec<Vec<Requirement>> {
        let items = item.get(list).list();
        let one =
            |item: &Field<'_>| block(&item.knows(&[inner]).get(inner), &format!("{list}.{inner}"), fields);
        items.iter().map(one).collect()
    };
    let sources = part("from", "source", SOURCE);
    for entry in item.get("from").list() {
        let source = entry.get("source");
        excludes(&source);
        for field in IDENTITIES.iter().filter(|field| is_custom && source.has_any(&[field])) {
            source
                .get(field)
                .error("cannot be asked of a CUSTOM policy: use ipBlocks, or an ALLOW or DENY policy");
        }
    }
    let operations = part("to", "operation", OPERATION);
    let conditions = item.get("when").list();
    let conditions = conditions.iter().flat_map(|one| values::condition(one, is_custom)).collect();
    AuthorizationRule { sources, operations, conditions }
}

/// A source or an operation.
fn block(field: &Field<'_>, place: &str, fields: &[(&str, &str, values::Read)]) -> Vec<Requirement> {
    let names: Vec<&str> = fields.iter().flat_map(|(name, negation, _)| [*name, *negation]).collect();
    field.knows(&names);
    if !field.has_any(&names) {
        field.error(format_args!("is empty: name at least one of {}, or drop the entry", names.join(", ")));
    }
    let both =
        fields.iter().flat_map(|(name, negation, read)| [(*name, false, read), (*negation, true, read)]);
    both.filter_map(|(name, negated, read)| {
        let list = field.get(name);
        let attribute = read(&list);
        let values = values::not_empty(&list);
        let place = format!("{place}.{name}").into();
        (!values.is_empty()).then_some(Requirement { place, attribute, negated, values })
    })
    .collect()
}

/// Service accounts do not stand beside other names of peers.
fn excludes(source: &Field<'_>) {
    const OTHERS: [&str; 4] = ["principals", "notPrincipals", "namespaces", "notNamespaces"];
    for name in ["serviceAccounts", "notServiceAccounts"] {
        let list = source.get(name);
        if source.has_any(&[name]) && source.has_any(&OTHERS) {
            list.error("cannot stand beside principals or namespaces: write two sources");
        }
        if list.list().len() > MAX_ACCOUNTS {
            list.error(format_args!("has more than {MAX_ACCOUNTS} values: write several sources"));
        }
    }
}
