//! Which policies of access apply to a workload (AUTHORIZATION.md Z1 to Z4, Z11).

use std::sync::Arc;

use eastwest_model::{
    Labels, Name, Selector, Workload,
    mesh::Authorizer,
    names::is_dns_label,
    policy::{AuthorizationAction, AuthorizationPolicy, RequestAuthentication},
};

use crate::{
    Snapshot,
    access::{self, Access, Provider},
    world::Namespace,
};

/// What applies to a workload.
pub(crate) fn access(snapshot: &Snapshot, workload: &Workload) -> Access {
    let labels = &workload.meta.labels;
    let applying: Vec<&Arc<AuthorizationPolicy>> = spaces(snapshot, workload)
        .flat_map(|space| space.authorization_policies.values())
        .filter(|one| selects(&one.selector, one.is_targeted, labels))
        .collect();
    let providers = providers(snapshot, &applying);
    let resolved =
        applying.iter().zip(providers).map(|(one, provider)| access::policy(one, &snapshot.mesh, provider));
    let mut policies: Vec<_> = resolved.map(Arc::new).collect();
    policies.sort_by_cached_key(|one| one.rule_name(0));
    let tokens = spaces(snapshot, workload)
        .flat_map(|space| space.request_authentications.values())
        .filter(|one: &&Arc<RequestAuthentication>| selects(&one.selector, one.is_targeted, labels));
    Access { policies, tokens: access::token_rules(tokens), paths: snapshot.mesh.path_normalization }
}

/// Z1: the workload's own namespace and the root namespace.
fn spaces<'a>(snapshot: &'a Snapshot, workload: &'a Workload) -> impl Iterator<Item = &'a Namespace> {
    let (own, root) = (workload.meta.namespace(), &snapshot.mesh.root_namespace);
    [Some(own), Some(root).filter(|root| *root != own)]
        .into_iter()
        .flatten()
        .map(|name| snapshot.namespace(name))
}

/// Z2, Z3: references are for gateways, and no proxy that we configure is one.
fn selects(selector: &Selector, is_targeted: bool, labels: &Labels) -> bool {
    !is_targeted && selector.matches(labels)
}

/// Z11: whom each CUSTOM policy asks. A second provider on a workload breaks all of them.
fn providers(snapshot: &Snapshot, applying: &[&Arc<AuthorizationPolicy>]) -> Vec<Option<Provider>> {
    let custom = |one: &AuthorizationPolicy| one.action == AuthorizationAction::Custom;
    let name = |one: &AuthorizationPolicy| one.provider.clone().unwrap_or_else(|| "".into());
    let mut names: Vec<Name> = applying.iter().filter(|one| custom(one)).map(|one| name(one)).collect();
    names.sort();
    names.dedup();
    let of = |one: &AuthorizationPolicy| {
        let name = name(one);
        if names.len() > 1 {
            let others: Vec<&str> =
                names.iter().filter(|other| **other != name).map(|other| &**other).collect();
            let why = format!("another CUSTOM policy of the workload asks {}", others.join(", ")).into();
            return Provider::Broken { name, why };
        }
        match known(snapshot, &name) {
            Ok(authorizer) => Provider::Known(Arc::new(authorizer.clone())),
            Err(why) => Provider::Broken { name, why: why.into() },
        }
    };
    applying.iter().map(|one| custom(one).then(|| of(one))).collect()
}

/// The provider of that name.
pub(crate) fn known<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Authorizer, String> {
    let authorizer = snapshot.mesh.authorizers.iter().find(|one| *one.name == *name);
    let authorizer = authorizer.ok_or("the mesh has no extensionProvider of that name")?;
    if !is_dns_label(name) {
        return Err("its name is no label of lower-case letters, digits and '-'".to_owned());
    }
    let host = authorizer.host();
    match snapshot.hosts.contains_key(&host) {
        true => Ok(authorizer),
        false => Err(format!("no Service {host} is known")),
    }
}
