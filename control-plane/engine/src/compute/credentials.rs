//! The secrets that a setting names and that the control plane hands out (POLICY.md O7).
//!
//! A Secret is for the clients of its own namespace alone, and only a rule that selects them can name it. A ConfigMap
//! holds nothing but roots, which anybody may read. What is missing or unusable leaves the setting as it is: the client
//! has no certificate or no roots then, and its connections fail. None goes out in plaintext.

use std::{collections::BTreeMap, sync::Arc};

use eastwest_model::{
    Credential, CredentialRef, Kind, Name,
    credential::TRUST_SUFFIX,
    policy::{ClientTls, DestinationRule},
};

use crate::{
    Snapshot,
    settings::{CertificateSource, ClientTlsSetting, Secret, TrustSource},
    trace::{Outcome, Step},
};

/// What is handed out for one setting, and what is to be told about it.
#[derive(Debug, Default)]
pub(super) struct Handout {
    pub secrets: BTreeMap<Name, Secret>,
    pub steps: Vec<Step>,
}

/// The secrets of a setting that `tls`, a block of `rule`, asked for; `client` is the namespace of the clients.
pub(super) fn of(
    snapshot: &Snapshot,
    client: &Name,
    (tls, rule): (&ClientTls, &DestinationRule),
    setting: &ClientTlsSetting,
) -> Handout {
    let mut handout = Handout::default();
    let (ClientTlsSetting::Simple(asked) | ClientTlsSetting::Mutual(asked)) = setting else { return handout };
    let Some(name) = &tls.credential_name else { return handout };
    let reference = readable(name, rule, client);
    if let Some(CertificateSource::Credential(resource)) = &asked.certificate {
        let found = reference.as_ref().map_err(Clone::clone).and_then(|one| pair(snapshot, one));
        handout.add(rule, resource, "certificate", found);
    }
    if let Some(TrustSource::Credential(resource)) = &asked.trust {
        let found = reference.as_ref().map_err(Clone::clone).and_then(|one| trust(snapshot, one));
        handout.add(rule, resource, "trust bundle", found);
    }
    handout
}

type Found<'a> = Result<(&'a Arc<Credential>, Secret), String>;

impl Handout {
    fn add(&mut self, rule: &DestinationRule, resource: &Name, part: &str, found: Found<'_>) {
        let step = match found {
            Ok((credential, secret)) => {
                let reason = format!("gives the {part}, SHA-256 {}", secret.fingerprint());
                self.secrets.insert(resource.clone(), secret);
                Step::inherited(&credential.meta, "O7", reason)
            }
            Err(trouble) => {
                let reason =
                    format!("no {part}: {trouble}; connections fail until it is, none goes out in plaintext");
                Step::lost(&rule.meta, "O7", reason, None)
            }
        };
        self.steps.push(step);
    }
}

/// The step that says what a cluster lacks, if it lacks anything.
pub(crate) fn lack(steps: &[Step]) -> Option<&Step> {
    steps.iter().find(|step| step.outcome == Outcome::Lost && step.rule == "O7")
}

/// What the rule names, if the clients may read it.
fn readable(name: &str, rule: &DestinationRule, client: &Name) -> Result<CredentialRef, String> {
    let reference = CredentialRef::parse(name, rule.meta.namespace()).ok_or_else(|| {
        format!("credentialName {name:?} is nothing that a sidecar may read, it must be the name of a Secret or configmap://NAMESPACE/NAME")
    })?;
    let object = &reference.object;
    if object.kind == Kind::Secret && object.namespace != *client {
        return Err(format!(
            "{object} is for clients in namespace {} alone, it must be in {client}",
            object.namespace
        ));
    }
    Ok(reference)
}

fn credential<'a>(
    snapshot: &'a Snapshot,
    kind: Kind,
    namespace: &str,
    name: &Name,
) -> Option<&'a Arc<Credential>> {
    snapshot.namespace(namespace).credentials.get(&(kind, name.clone()))
}

fn pair<'a>(snapshot: &'a Snapshot, reference: &CredentialRef) -> Found<'a> {
    let object = &reference.object;
    if object.kind == Kind::ConfigMap || object.name.ends_with(TRUST_SUFFIX) {
        return Err(format!(
            "{object} stands for a trust bundle alone, mode MUTUAL must name a Secret with a key"
        ));
    }
    let found = credential(snapshot, object.kind, &object.namespace, &object.name);
    let found = found.ok_or_else(|| format!("{object} is not there, it must be added"))?;
    match &found.pair {
        Some(Ok(pair)) => Ok((found, Secret::Pair(pair.clone()))),
        Some(Err(reason)) => Err(format!("{object} {reason}, it must be corrected")),
        None => Err(format!("{object} has neither tls.crt and tls.key nor cert and key, they must be added")),
    }
}

/// The bundle of a Secret NAME is that of NAME-cacert, if there is one, else its own.
fn trust<'a>(snapshot: &'a Snapshot, reference: &CredentialRef) -> Found<'a> {
    let object = &reference.object;
    let beside: Name = format!("{}{TRUST_SUFFIX}", object.name).into();
    let named = |name: &Name| credential(snapshot, object.kind, &object.namespace, name);
    let beside = (object.kind == Kind::Secret).then(|| named(&beside)).flatten();
    let found = beside.or_else(|| named(&object.name));
    let found = found.ok_or_else(|| format!("{object} is not there, it must be added"))?;
    let object = &found.meta.object;
    match &found.trust {
        Some(Ok(bundle)) => Ok((found, Secret::Trust(bundle.clone()))),
        Some(Err(reason)) => Err(format!("{object} {reason}, it must be corrected")),
        None => Err(format!("{object} has neither ca.crt nor cacert, one must be added")),
    }
}
